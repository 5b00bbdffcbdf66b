//! What a worker pulls: parameters, what is new in them, or differences from those that it has.

use std::sync::Arc;

use crate::store::Difference;
use crate::wire::integrity::Integrity;
use crate::wire::outgoing::{self, Piece};
use dsgd_core::codec::Codec;
use dsgd_core::params::{Fresh, Snapshot, Tensor};

/// What a worker pulls.
pub(super) enum Pulled {
    /// Parameters, or what is new in them, in a codec without blocks.
    Params(Snapshot, Codec),
    /// What is to be added, one after the other.
    Differences(Vec<Arc<Difference>>),
}

impl Pulled {
    /// Differences where the worker has what they are from.
    pub(super) fn new(
        params: Snapshot,
        differences: Option<&[Arc<Difference>]>,
        codec: Codec,
    ) -> Self {
        match differences {
            Some(all) => Self::Differences(all.to_vec()),
            None if codec.has_blocks() => Self::Params(params, Codec::None),
            None => Self::Params(params, codec),
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
