//! Parameters and gradients on their way out: cut into chunks that copy nothing.
//!
//! A chunk's bytes are a view of the vector itself, kept alive by its `Arc`; the one copy
//! is into the connection's send buffer. Single rows of parameters are copied together first. What a codec has made of
//! a tensor is cut up just so.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::PIECE;
use super::integrity::{Checksum, Integrity};
use super::proto::{Chunk, Rows};
use crate::coded::{Coded, CodedTensor};
use dsgd_core::codec::Codec;
use dsgd_core::params::{Fresh, Gradient, Params, SQUARES_BLOCK, Snapshot, TensorGradient};

#[cfg(target_endian = "big")]
compile_error!("the wire sends the memory of f32 values as it is, which must be little-endian");

/// Part of parameters or of a gradient.
#[derive(Debug)]
pub enum Piece {
    /// Of a dense tensor.
    Chunk(Chunk),
    /// Of a table.
    Rows(Rows),
}

/// The pieces of all parameters, or of what is new in them since the version that `snapshot` names, in a codec
/// without blocks.
pub fn params(
    snapshot: Snapshot,
    codec: Codec,
    integrity: Integrity,
) -> impl Iterator<Item = Piece> + Send + 'static {
    let Snapshot { params, since, .. } = snapshot;
    let tensors = params.layout().tensors().len();
    let fresh = since.map_or_else(|| vec![Fresh::Whole; tensors], |since| since.tensors);
    let pieces = fresh.into_iter().enumerate().map(move |(tensor, fresh)| {
        let entry = &params.layout().tensors()[tensor];
        let (range, width) = (entry.range.clone(), entry.width());
        match fresh {
            Fresh::Same => Box::new(std::iter::empty()) as Pieces,
            Fresh::Rows(rows) => {
                let values = move |params: &Params, _, row: u32, out: &mut Vec<u8>| {
                    let at = range.start + row as usize * width;
                    codec.encode(&params.flat()[at..at + width], out);
                };
                let size = codec.bytes(width);
                let rows = Gathered { tensor, rows, size }.messages(&params, values, integrity);
                Box::new(rows.map(Piece::Rows))
            }
            Fresh::Whole => {
                let values = at(move |params: &Params| &params.flat()[range.clone()]);
                dense(tensor, &params, values, codec, integrity)
            }
        }
    });
    pieces.flatten()
}

/// Rows of a table that do not lie as they travel: what goes into one message is put together first.
struct Gathered {
    tensor: usize,
    rows: Vec<u32>,
    /// Bytes of a row.
    size: usize,
}

impl Gathered {
    /// At least one message, the last with the checksum. `values` adds the bytes of a row, by its place among
    /// these and its number.
    fn messages<O: Send + Sync + 'static>(
        self,
        owner: &Arc<O>,
        values: impl Fn(&O, usize, u32, &mut Vec<u8>) + Send + 'static,
        integrity: Integrity,
    ) -> impl Iterator<Item = Rows> + Send + 'static {
        let owner = Arc::clone(owner);
        let mut checksum = Checksum::new(integrity);
        let Self { tensor, rows, size } = self;
        steps(rows.len(), rows_of_a_chunk(size)).map(move |at| {
            let last = at.end == rows.len();
            let mut bytes = Vec::with_capacity(at.len() * size);
            for place in at.clone() {
                values(&owner, place, rows[place], &mut bytes);
            }
            let rows = &rows[at];
            let indices = Bytes::from(bytemuck::cast_slice(rows).to_vec());
            checksum.update(&indices);
            checksum.update(&bytes);
            Rows {
                tensor: tensor as u32,
                indices,
                values: bytes.into(),
                crc32: last.then(|| checksum.end()),
            }
        })
    }
}

/// The pieces of a gradient as it is.
pub fn gradient(
    gradient: &Arc<Gradient>,
    integrity: Integrity,
) -> impl Iterator<Item = Piece> + Send + 'static {
    let gradient = Arc::clone(gradient);
    let tensors = gradient.tensors().len();
    (0..tensors).flat_map(move |tensor| match &gradient.tensors()[tensor] {
        TensorGradient::Dense(_) => {
            let values = at(
                move |gradient: &Gradient| match &gradient.tensors()[tensor] {
                    TensorGradient::Dense(values) => &values[..],
                    TensorGradient::Rows(_) => &[],
                },
            );
            dense(tensor, &gradient, values, Codec::None, integrity)
        }
        TensorGradient::Rows(rows) => {
            let indices = view(&gradient, move |gradient| {
                match &gradient.tensors()[tensor] {
                    TensorGradient::Rows(rows) => bytemuck::cast_slice(rows.indices()),
                    TensorGradient::Dense(_) => &[],
                }
            });
            let values = view(&gradient, move |gradient| {
                match &gradient.tensors()[tensor] {
                    TensorGradient::Rows(rows) => bytemuck::cast_slice(rows.values()),
                    TensorGradient::Dense(_) => &[],
                }
            });
            let size = rows.width() * size_of::<f32>();
            let rows = row_chunks(tensor, size, indices, values, integrity);
            Box::new(rows.map(Piece::Rows)) as Pieces
        }
    })
}

/// The pieces of what a codec has made of tensors.
pub fn coded(coded: &Coded, integrity: Integrity) -> impl Iterator<Item = Piece> + Send + use<> {
    let codec = coded.codec;
    let tensors = coded.tensors.clone().into_iter().enumerate();
    tensors.flat_map(move |(tensor, coded)| match coded {
        CodedTensor::Nothing => Box::new(std::iter::empty()) as Pieces,
        CodedTensor::Whole(bytes) => {
            let size = piece(codec);
            Box::new(chunks(tensor, bytes, size, integrity).map(Piece::Chunk))
        }
        CodedTensor::Rows { indices, values } => {
            let rows = indices.len() / size_of::<u32>();
            let size = values.len().checked_div(rows).unwrap_or(0);
            let rows = row_chunks(tensor, size, indices, values, integrity);
            Box::new(rows.map(Piece::Rows))
        }
    })
}

/// Bytes of a piece of a dense tensor: whole blocks, so that a norm adds up in the same order however a tensor is cut.
fn piece(codec: Codec) -> usize {
    let block = codec.bytes(SQUARES_BLOCK);
    PIECE / block * block
}

type Pieces = Box<dyn Iterator<Item = Piece> + Send>;

/// Bytes of something that an `Arc` keeps alive.
struct View<O, F> {
    owner: Arc<O>,
    slice: F,
}

impl<O, F: Fn(&O) -> &[u8]> AsRef<[u8]> for View<O, F> {
    fn as_ref(&self) -> &[u8] {
        (self.slice)(&self.owner)
    }
}

fn view<O, F>(owner: &Arc<O>, slice: F) -> Bytes
where
    O: Send + Sync + 'static,
    F: Fn(&O) -> &[u8] + Send + 'static,
{
    let owner = Arc::clone(owner);
    Bytes::from_owner(View { owner, slice })
}

/// A closure that lends what it is lent, which the compiler does not see by itself.
fn at<O, F: Fn(&O) -> &[f32]>(values: F) -> F {
    values
}

/// A dense tensor's chunks: views of its memory, or what a codec makes of a piece at a time.
fn dense<O: Send + Sync + 'static>(
    tensor: usize,
    owner: &Arc<O>,
    values: impl Fn(&O) -> &[f32] + Send + 'static,
    codec: Codec,
    integrity: Integrity,
) -> Pieces {
    if codec == Codec::None {
        let bytes = view(owner, move |owner| bytemuck::cast_slice(values(owner)));
        return Box::new(chunks(tensor, bytes, PIECE, integrity).map(Piece::Chunk));
    }
    let owner = Arc::clone(owner);
    let len = values(&owner).len();
    let mut checksum = Checksum::new(integrity);
    let elements = PIECE / codec.bytes(SQUARES_BLOCK) * SQUARES_BLOCK;
    let encoded = steps(len, elements).map(move |range| {
        let mut bytes = Vec::with_capacity(codec.bytes(range.len()));
        codec.encode(&values(&owner)[range.clone()], &mut bytes);
        checksum.update(&bytes);
        let last = range.end == len;
        Piece::Chunk(Chunk {
            tensor: tensor as u32,
            offset: codec.bytes(range.start) as u64,
            values: bytes.into(),
            crc32: last.then(|| checksum.end()),
        })
    });
    Box::new(encoded)
}

/// A dense tensor's chunks, at least one, the last with the checksum.
fn chunks(
    tensor: usize,
    bytes: Bytes,
    size: usize,
    integrity: Integrity,
) -> impl Iterator<Item = Chunk> + Send {
    let mut checksum = Checksum::new(integrity);
    steps(bytes.len(), size).map(move |range| {
        let values = bytes.slice(range.clone());
        checksum.update(&values);
        let last = range.end == bytes.len();
        Chunk {
            tensor: tensor as u32,
            offset: range.start as u64,
            values,
            crc32: last.then(|| checksum.end()),
        }
    })
}

/// A table's rows of so many bytes, at least one message, the last with the checksum.
fn row_chunks(
    tensor: usize,
    row: usize,
    indices: Bytes,
    values: Bytes,
    integrity: Integrity,
) -> impl Iterator<Item = Rows> + Send {
    let count = indices.len() / size_of::<u32>();
    let mut checksum = Checksum::new(integrity);
    steps(count, rows_of_a_chunk(row)).map(move |rows| {
        let at = |bytes: &Bytes, size| bytes.slice(rows.start * size..rows.end * size);
        let (indices, values) = (at(&indices, size_of::<u32>()), at(&values, row));
        checksum.update(&indices);
        checksum.update(&values);
        Rows {
            tensor: tensor as u32,
            indices,
            values,
            crc32: (rows.end == count).then(|| checksum.end()),
        }
    })
}

/// Rows of a table that go into one message: one at least.
pub(super) fn rows_of_a_chunk(row_bytes: usize) -> usize {
    (PIECE / (size_of::<u32>() + row_bytes)).max(1)
}

/// `0..len` in ranges of `size`; one empty range for nothing.
fn steps(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..len.max(1)).step_by(size);
    starts.map(move |start| start..len.min(start + size))
}
