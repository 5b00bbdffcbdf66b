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
    /// What is to be added, one after the other.
    Differences(Vec<Arc<Difference>>),
}

/// What makes the copy of what a worker has, and the version of that; none is made of zeros. What it is then short of
/// goes into `rest`, and is among the differences of its next pull.
pub(super) async fn differences(
    rest: &Mutex<Option<Arc<Difference>>>,
    asked: &PullRequest,
    known: &Differences,
    copy: &Snapshot,
) -> (Option<u64>, Vec<Arc<Difference>>) {
    let short_of = lock(rest).take();
    for base in [asked.near, asked.have].into_iter().flatten() {
        if let Some(all) = known.since(base) {
            // Another's version is whole.
            let own =
                |short_of: &Arc<Difference>| asked.have == Some(base) && short_of.base == base;
            let short_of = short_of.filter(own).into_iter();
            return (Some(base), short_of.chain(all.iter().cloned()).collect());
        }
    }
    let (version, params) = (copy.version, Arc::clone(&copy.params));
    let made = tokio::task::spawn_blocking(move || Difference::from_nothing(version, &params));
    let [most, short_of] = made.await.expect("encoding does not panic");
    *lock(rest) = Some(Arc::new(short_of));
    (None, vec![Arc::new(most)])
}

impl Pulled {
    /// What is to be added.
    pub(super) fn differences(&self) -> &[Arc<Difference>] {
        match self {
            Self::Params(..) => &[],
            Self::Differences(all) => all,
        }
    }

    /// Bytes of tensors and rows.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Params(params, codec) => params_bytes(params, *codec) as u64,
            Self::Differences(all) => all.iter().map(|one| one.coded.bytes() as u64).sum(),
        }
    }

    /// All pieces, in order.
    pub(super) fn pieces(self, integrity: Integrity) -> Box<dyn Iterator<Item = Piece> + Send> {
        match self {
            Self::Params(params, codec) => Box::new(outgoing::params(params, codec, integrity)),
            Self::Differences(all) => {
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
