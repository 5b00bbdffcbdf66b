//! What a worker's own optimizer keeps (`--mode local`), as others get to know it.
//!
//! Each worker has an optimizer of its own, whose state is never averaged. Who begins with none moves every parameter
//! by the whole learning rate, if its optimizer is `AdaGrad`: so now and then one worker tells its state, for those
//! who join later, for workers whose process had to be started again, and for checkpoints. It is nearly theirs:
//! batches are dealt out at random.

use std::sync::Arc;

use crate::store::Updater;
use dsgd_core::codec::Codec;
use dsgd_core::params::{Fresh, Kind, Params, Since, Snapshot, Tensor};

/// An optimizer's state.
#[derive(Debug)]
pub struct OwnState {
    /// Steps that it has taken.
    pub steps: u64,
    /// Its vectors, in the order of their names.
    pub vectors: Vec<Arc<Params>>,
}

impl OwnState {
    /// What an optimizer keeps now.
    pub fn of(updater: &Updater) -> Self {
        let vectors = updater.state().into_iter().map(|(_, values)| {
            let mut vector = Params::zeros(Arc::clone(updater.layout()));
            vector.flat_mut().copy_from_slice(values);
            Arc::new(vector)
        });
        Self {
            steps: updater.version(),
            vectors: vectors.collect(),
        }
    }

    /// Whether it is of more use than another: who has taken more steps knows more.
    pub fn replaces(&self, other: Option<&Arc<Self>>) -> bool {
        other.is_none_or(|other| other.steps <= self.steps)
    }
}

/// A vector as it travels: what differs from zeros. Rows of tables that no step has touched are zeros.
pub fn news(vector: &Arc<Params>) -> Snapshot {
    let fresh = |tensor: &Tensor| {
        if tensor.kind == Kind::Dense {
            return Fresh::Whole;
        }
        let values = &vector.flat()[tensor.range.clone()];
        let rows = values.chunks(tensor.width().max(1)).enumerate();
        let touched = rows.filter(|(_, row)| row.iter().any(|value| value.abs() > 0.0));
        let touched: Vec<_> = touched.map(|(row, _)| row as u32).collect();
        if touched.is_empty() {
            Fresh::Same
        } else {
            Fresh::Rows(touched)
        }
    };
    Snapshot {
        version: 1,
        params: Arc::clone(vector),
        since: Some(Since {
            base: 0,
            tensors: vector.layout().tensors().iter().map(fresh).collect(),
        }),
    }
}

/// The codec that it travels in: sums of squares by their logarithm, for the smallest count as much as the largest.
pub fn codec(vector: &Params) -> Codec {
    if vector.flat().iter().all(|value| *value >= 0.0) {
        Codec::Log8
    } else {
        Codec::Int8
    }
}
