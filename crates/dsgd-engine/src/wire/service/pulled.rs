//! What a worker pulls: parameters, what is new in them, or differences from those that it has.

use std::sync::{Arc, Mutex};

use crate::mutex::lock;
use crate::store::{Difference, Differences};
use crate::wire::integrity::Integrity;
use crate::wire::outgoing::{self, Piece};
use crate::wire::proto::PullRequest;
use dsgd_core::codec::Codec;
use dsgd_core::params::{Fresh, Snapshot, Tensor};

/// What a worker pulls.
pub(super) enum Pulled {
    /// Parameters, or what is new in them, in a codec without blocks.
    Params(Snapshot, Codec),
    /// What is to be added.
    Differences(Missing),
}

/// What makes the public copy of what a worker has.
pub(super) struct Missing {
    /// The version that it has; none where it begins with zeros.
    base: Option<u64>,
    /// What is to be added to that, one after the other.
    all: Vec<Arc<Difference>>,
    /// Whether it is more than what is new.
    catches_up: bool,
}

impl Missing {
    /// Where the worker has nothing, what it is then short of goes into `rest`, and is among the differences of its next
    /// pull.
    pub(super) async fn of(
        asked: &PullRequest,
        known: &Differences,
        copy: &Snapshot,
        rest: &Mutex<Option<Arc<Difference>>>,
    ) -> Self {
        let short_of = lock(rest).take();
        for base in [asked.near, asked.have].into_iter().flatten() {
            if let Some(new) = known.since(base) {
                // Another's version is whole.
                let is_own =
                    |short_of: &Arc<Difference>| asked.have == Some(base) && short_of.base == base;
                let short_of = short_of.filter(is_own);
                let catches_up = short_of.is_some();
                return Self {
                    base: Some(base),
                    all: short_of.into_iter().chain(new.iter().cloned()).collect(),
                    catches_up,
                };
            }
        }
        let (version, params) = (copy.version, Arc::clone(&copy.params));
        let made = tokio::task::spawn_blocking(move || Difference::from_nothing(version, &params));
        let [most, short_of] = made.await.expect("encoding does not panic");
        *lock(rest) = Some(Arc::new(short_of));
        Self {
            base: None,
            all: vec![Arc::new(most)],
            catches_up: true,
        }
    }
}

impl Pulled {
    /// The version that it is to be laid over, or added to.
    pub(super) fn base(&self) -> Option<u64> {
        match self {
            Self::Params(params, _) => params.since.as_ref().map(|since| since.base),
            Self::Differences(missing) => missing.base,
        }
    }

    /// What is to be added.
    pub(super) fn differences(&self) -> &[Arc<Difference>] {
        match self {
            Self::Params(..) => &[],
            Self::Differences(missing) => &missing.all,
        }
    }

    /// Whether it is more than a worker pulls that takes part.
    pub(super) fn catches_up(&self) -> bool {
        matches!(self, Self::Differences(missing) if missing.catches_up)
    }

    /// Bytes of tensors and rows.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Params(params, codec) => params_bytes(params, *codec) as u64,
            Self::Differences(Missing { all, .. }) => {
                all.iter().map(|one| one.coded.bytes() as u64).sum()
            }
        }
    }

    /// All pieces, in order.
    pub(super) fn pieces(self, integrity: Integrity) -> Box<dyn Iterator<Item = Piece> + Send> {
        match self {
            Self::Params(params, codec) => Box::new(outgoing::params(params, codec, integrity)),
            Self::Differences(Missing { all, .. }) => {
                let pieces = move |one: Arc<Difference>| outgoing::coded(&one.coded, integrity);
                Box::new(all.into_iter().flat_map(pieces))
            }
        }
    }
}

fn params_bytes(params: &Snapshot, codec: Codec) -> usize {
    let (layout, since) = (params.layout(), params.since.as_ref());
    let Some(since) = since else {
        return codec.bytes(layout.len());
    };
    let of_tensor = |(tensor, fresh): (&Tensor, &Fresh)| match fresh {
        Fresh::Same => 0,
        Fresh::Rows(rows) => rows.len() * (size_of::<u32>() + codec.bytes(tensor.width())),
        Fresh::Whole => codec.bytes(tensor.range.len()),
    };
    let tensors = layout.tensors().iter().zip(&since.tensors);
    tensors.map(of_tensor).sum()
}
