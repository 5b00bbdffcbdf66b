//! The parameters that workers elsewhere have, where what is new travels to them in a codec with blocks.
//!
//! Such a codec cannot carry parameters: they differ too much in size within a block, and what it leaves out would
//! stay out. It carries how the server's parameters differ from a copy that all workers have, to the bit; what it
//! leaves out of one difference is contained in the next. One vector serves any number of workers, and a difference
//! is encoded once for all of them (the bidirectional compression of Philippenko & Dieuleveut 2021, MCM).
//!
//! Who has nothing gets the copy as two differences from zeros: a quarter of the bytes to begin with, and with the next
//! pull what these leave out.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Updater;
use crate::coded::{BLOCK, Coded, CodedTensor, Encoder};
use dsgd_core::codec::Codec;
use dsgd_core::params::{Fresh, Params, Snapshot};

/// What made a version of the copy from an earlier one.
#[derive(Debug)]
pub struct Difference {
    /// The earlier version.
    pub base: u64,
    /// What is to be added to it.
    pub coded: Coded,
}

impl Difference {
    /// What makes a version of the copy from zeros, and what is then still missing, which is itself a difference to be
    /// added: together they are short of it by 2⁻¹⁶ of the largest element of a block at most.
    pub fn from_nothing(version: u64, params: &Params) -> [Self; 2] {
        let codec = FROM_NOTHING;
        let tensors = params.layout().tensors().iter().map(|tensor| {
            let wanted = &params.flat()[tensor.range.clone()];
            let mut copy = vec![0.0; wanted.len()];
            [(); 2].map(|()| {
                let mut encoder = Encoder::new(codec, codec.bytes(wanted.len()));
                approach(&mut encoder, wanted, &mut copy);
                CodedTensor::Whole(encoder.into_bytes())
            })
        });
        let (most, rest) = tensors.map(<(_, _)>::from).unzip();
        [most, rest].map(|tensors| Self {
            base: version,
            coded: Coded { codec, tensors },
        })
    }
}

/// In which the whole copy travels.
const FROM_NOTHING: Codec = Codec::Int8;

/// What a reader needs who has an earlier version of the copy.
#[derive(Clone, Debug)]
pub struct Differences {
    version: u64,
    all: Vec<Arc<Difference>>,
}

impl Differences {
    /// What is to be added to this version, one after the other, if that is still known.
    pub fn since(&self, base: u64) -> Option<&[Arc<Difference>]> {
        if base == self.version {
            return Some(&[]);
        }
        let from = self
            .all
            .iter()
            .position(|difference| difference.base == base)?;
        Some(&self.all[from..])
    }
}

/// The copy of the parameters that workers elsewhere have.
pub struct PublicCopy {
    codec: Codec,
    version: u64,
    params: Arc<Params>,
    /// The newest last.
    differences: VecDeque<Arc<Difference>>,
}

impl PublicCopy {
    /// One that is exact.
    pub fn new(codec: Codec, version: u64, params: &Params) -> Self {
        Self {
            codec,
            version,
            params: Arc::new(params.clone()),
            differences: VecDeque::new(),
        }
    }

    /// From now on differences are made in this codec.
    pub(super) fn travel_in(&mut self, codec: Codec) {
        self.codec = codec;
    }

    /// Follows the parameters, which the updater has made: one difference for all that is new.
    pub(super) fn follow(&mut self, updater: &Updater, current: &Params) {
        if self.version == updater.version() {
            return;
        }
        let since = updater.since(self.version);
        let (codec, layout) = (self.codec, Arc::clone(current.layout()));
        // A reader of all of it may still be at it; then it keeps what it reads.
        let copy = Arc::make_mut(&mut self.params);
        let tensors = since.tensors.iter().zip(layout.tensors());
        let tensors = tensors.map(|(fresh, tensor)| {
            let wanted = &current.flat()[tensor.range.clone()];
            let copy = &mut copy.flat_mut()[tensor.range.clone()];
            match fresh {
                Fresh::Same => CodedTensor::Nothing,
                Fresh::Whole => {
                    let mut encoder = Encoder::new(codec, codec.bytes(wanted.len()));
                    approach(&mut encoder, wanted, copy);
                    CodedTensor::Whole(encoder.into_bytes())
                }
                Fresh::Rows(rows) => {
                    let width = tensor.width();
                    let mut encoder = Encoder::new(codec, rows.len() * codec.bytes(width));
                    for &row in rows {
                        let at = row as usize * width..(row as usize + 1) * width;
                        approach(&mut encoder, &wanted[at.clone()], &mut copy[at]);
                    }
                    CodedTensor::Rows {
                        indices: bytemuck::cast_slice(rows).to_vec().into(),
                        values: encoder.into_bytes(),
                    }
                }
            }
        });
        let tensors = tensors.collect();
        self.differences.push_back(Arc::new(Difference {
            base: self.version,
            coded: Coded { codec, tensors },
        }));
        self.version = updater.version();
        self.forget_what_is_too_much();
    }

    /// Whoever needs more than half the bytes of everything gets everything.
    fn forget_what_is_too_much(&mut self) {
        let most = size_of_val(self.params.flat()) / 2;
        let mut bytes = 0;
        let newest_first = self.differences.iter().rev();
        let kept = newest_first.take_while(|difference| {
            bytes += difference.coded.bytes();
            bytes <= most
        });
        let forgotten = self.differences.len() - kept.count();
        self.differences.drain(..forgotten);
    }

    /// The copy, with what makes it from earlier versions.
    pub(super) fn snapshot(&self) -> (Snapshot, Differences) {
        let (version, all) = (self.version, self.differences.iter().cloned().collect());
        let copy = Snapshot::new(version, Arc::clone(&self.params));
        (copy, Differences { version, all })
    }
}

fn approach(encoder: &mut Encoder, wanted: &[f32], copy: &mut [f32]) {
    for (wanted, copy) in wanted.chunks(BLOCK).zip(copy.chunks_mut(BLOCK)) {
        let missing = wanted
            .iter()
            .zip(&*copy)
            .map(|(wanted, copy)| wanted - copy);
        let (_, decoded) = encoder.add(missing);
        for (copy, decoded) in copy.iter_mut().zip(decoded) {
            *copy += decoded;
        }
    }
}
