//! How far a transfer has come, and what a message may hold.

use super::error::WireError;
use crate::wire::CHUNK;
use crate::wire::integrity::{Checksum, Integrity};
use crate::wire::proto::{Chunk, Rows};
use crate::wire::streaming;
use dsgd_core::codec::Codec;
use dsgd_core::params::{Layout, SQUARES_BLOCK, Tensor};

/// How far a transfer has come.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) tensor: usize,
    /// Elements of the tensor that are here; for a table the rows.
    pub(super) offset: usize,
    pub(super) checksum: Checksum,
    pub(super) codec: Codec,
    /// Where what arrives is added to what is there: room to decode it in.
    adds: Option<Vec<f32>>,
}

impl Cursor {
    pub(super) fn new(codec: Codec, integrity: Integrity) -> Self {
        Self {
            tensor: 0,
            offset: 0,
            checksum: Checksum::new(integrity),
            codec,
            adds: None,
        }
    }

    /// From the first tensor on, in another codec perhaps.
    pub(super) fn again(self, codec: Codec) -> Self {
        Self {
            tensor: 0,
            offset: 0,
            codec,
            ..self
        }
    }

    /// Adds what arrives to what is there.
    pub(super) fn adding(mut self) -> Self {
        self.adds = Some(vec![0.0; SQUARES_BLOCK]);
        self
    }

    /// The tensor that is due.
    pub(super) fn tensor<'a>(&self, layout: &'a Layout) -> Result<&'a Tensor, WireError> {
        layout.tensors().get(self.tensor).ok_or(WireError::LeftOver)
    }

    pub(super) fn expect(&self, tensor: u32, offset: Option<u64>) -> Result<(), WireError> {
        let at = self.codec.bytes(self.offset);
        let offset = offset.unwrap_or(at as u64);
        if tensor as usize == self.tensor && offset == at as u64 {
            return Ok(());
        }
        Err(WireError::OutOfOrder {
            tensor: self.tensor,
            at,
            got: tensor,
            offset,
        })
    }

    /// Takes a dense tensor's next chunk into its place, block by block, and shows each block while
    /// it is in the cache.
    pub(super) fn dense(
        &mut self,
        entry: &Tensor,
        chunk: &Chunk,
        into: &mut [f32],
        mut show: impl FnMut(&[[u8; 4]]),
    ) -> Result<(), WireError> {
        self.expect(chunk.tensor, Some(chunk.offset))?;
        let bytes = chunk.values.len();
        if bytes > CHUNK {
            return Err(WireError::TooLarge { bytes, most: CHUNK });
        }
        let len = into.len();
        let block = self.codec.block();
        // The rest of the tensor, or whole blocks.
        let rest = len.saturating_sub(self.offset);
        let elements = match self.codec.bytes(block) {
            _ if bytes == self.codec.bytes(rest) => rest,
            size if bytes.is_multiple_of(size) => bytes / size * block,
            _ => {
                let name = entry.name.clone();
                return Err(WireError::Broken { name, bytes });
            }
        };
        let end = self.offset + elements;
        if bytes == 0 && len > 0 {
            let name = entry.name.clone();
            return Err(WireError::Empty { name });
        }
        let Some(into) = into.get_mut(self.offset..end) else {
            let name = entry.name.clone();
            return Err(WireError::TooLong { name, len });
        };
        let blocks = chunk.values.chunks(self.codec.bytes(SQUARES_BLOCK));
        for (into, block) in into.chunks_mut(SQUARES_BLOCK).zip(blocks) {
            self.checksum.update(block);
            if self.codec == Codec::None && self.adds.is_none() {
                show(block.as_chunks().0);
                streaming::copy(bytemuck::cast_slice_mut(into), block);
            } else {
                self.decode(block, into);
                show(bytemuck::cast_slice(into));
            }
        }
        self.offset = end;
        self.check(entry, chunk.crc32, end == len)
    }

    /// Decodes elements, of which the first begins a block, into their place.
    pub(super) fn decode(&mut self, bytes: &[u8], into: &mut [f32]) {
        let Some(decoded) = &mut self.adds else {
            return self.codec.decode(bytes, into);
        };
        let pieces = bytes.chunks(self.codec.bytes(SQUARES_BLOCK));
        for (bytes, into) in pieces.zip(into.chunks_mut(SQUARES_BLOCK)) {
            let decoded = &mut decoded[..into.len()];
            self.codec.decode(bytes, decoded);
            for (value, difference) in into.iter_mut().zip(decoded) {
                *value += *difference;
            }
        }
    }

    /// The checksum comes with the end of a tensor and nowhere else.
    pub(super) fn check(
        &mut self,
        entry: &Tensor,
        crc: Option<u32>,
        end: bool,
    ) -> Result<(), WireError> {
        let name = || entry.name.clone();
        match (crc, end) {
            (None, false) => Ok(()),
            (None, true) => Err(WireError::NoChecksum { name: name() }),
            (Some(_), false) => Err(WireError::EarlyChecksum { name: name() }),
            (Some(wanted), true) => {
                let checked = self.checksum.check(wanted);
                checked.map_err(|got| WireError::Checksum {
                    name: name(),
                    got,
                    wanted,
                })?;
                self.tensor += 1;
                self.offset = 0;
                Ok(())
            }
        }
    }

    pub(super) fn is_complete(&self, layout: &Layout) -> Result<(), WireError> {
        match layout.tensors().get(self.tensor) {
            None => Ok(()),
            Some(tensor) => Err(WireError::Incomplete {
                name: tensor.name.clone(),
                at: self.offset,
            }),
        }
    }
}

/// Number of rows in a message whose sizes are right.
pub(super) fn count_rows(
    entry: &Tensor,
    rows: &Rows,
    width: usize,
    codec: Codec,
) -> Result<usize, WireError> {
    let name = || entry.name.clone();
    let (index, row) = (size_of::<u32>(), codec.bytes(width));
    let bytes = rows.indices.len() + rows.values.len();
    let most = CHUNK.max(index + row);
    if bytes > most {
        return Err(WireError::TooLarge { bytes, most });
    }
    let count = rows.indices.len() / index;
    if !rows.indices.len().is_multiple_of(index) {
        let bytes = rows.indices.len();
        return Err(WireError::Broken {
            name: name(),
            bytes,
        });
    }
    if rows.values.len() != count * row {
        return Err(WireError::RowsMismatch {
            name: name(),
            rows: count,
            width,
            values: rows.values.len(),
        });
    }
    Ok(count)
}

/// The rows of a message whose sizes are right.
pub(super) fn rows_in(
    rows: &Rows,
    width: usize,
    codec: Codec,
) -> impl Iterator<Item = (u32, &[u8])> {
    let row = codec.bytes(width);
    let indices = rows.indices.as_chunks().0.iter().enumerate();
    // Not chunks_exact: a table may have no columns.
    indices.map(move |(at, index)| {
        let values = &rows.values[at * row..(at + 1) * row];
        (u32::from_le_bytes(*index), values)
    })
}

pub(super) fn no_such_row(entry: &Tensor, row: u32, rows: usize) -> WireError {
    let name = entry.name.clone();
    WireError::NoSuchRow { name, row, rows }
}

pub(super) fn wrong_kind(entry: &Tensor, wanted: &'static str, got: &'static str) -> WireError {
    let name = entry.name.clone();
    WireError::Kind { name, wanted, got }
}
