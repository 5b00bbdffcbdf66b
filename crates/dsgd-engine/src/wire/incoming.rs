//! Parameters and gradients on their way in: put together from chunks, and trusted in nothing.
//!
//! Chunks must come in the one order in which a layout travels, without gaps and without
//! anything left over, so what has arrived is told by a tensor and an offset. Nothing is
//! allocated for what a peer says that it will send: values go straight into buffers that
//! have the layout's size. Norms are taken on the way, while a chunk is in the cache.

use std::sync::Arc;

use super::CHUNK;
use super::integrity::{Checksum, Integrity};
use super::proto::{Chunk, Rows};
use super::streaming;
use dsgd_core::params::{
    Gradient, Layout, Params, Part, Rows as Table, SQUARES_BLOCK, Tensor, add_squares,
};

/// How parameters or a gradient can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the words say.
pub enum WireError {
    #[error("tensor {got} at element {offset} came where tensor {tensor} at element {at} was due")]
    OutOfOrder {
        tensor: usize,
        at: usize,
        got: u32,
        offset: u64,
    },
    #[error("{bytes} bytes in one message, more than {most}")]
    TooLarge { bytes: usize, most: usize },
    #[error("tensor {name}: {bytes} bytes are no whole number of elements")]
    Broken { name: String, bytes: usize },
    #[error("tensor {name}: more than its {len} elements")]
    TooLong { name: String, len: usize },
    #[error("tensor {name}: a message without contents")]
    Empty { name: String },
    #[error("tensor {name} is {wanted}, but was sent as {got}")]
    Kind {
        name: String,
        wanted: &'static str,
        got: &'static str,
    },
    #[error("tensor {name}: {values} bytes of values for {rows} rows of {width} elements")]
    RowsMismatch {
        name: String,
        rows: usize,
        width: usize,
        values: usize,
    },
    #[error("tensor {name}: row {row} of a table of {rows}")]
    NoSuchRow { name: String, row: u32, rows: usize },
    #[error("tensor {name}: row {row} came twice")]
    RowTwice { name: String, row: u32 },
    #[error("tensor {name}: its checksum came before its end")]
    EarlyChecksum { name: String },
    #[error("tensor {name}: its end came without its checksum")]
    NoChecksum { name: String },
    #[error("tensor {name} was damaged on the way: checksum {got:08x}, not {wanted:08x}")]
    Checksum { name: String, got: u32, wanted: u32 },
    #[error("ended before tensor {name}, element {at}")]
    Incomplete { name: String, at: usize },
    #[error("went on after the last tensor")]
    LeftOver,
}

/// How far a transfer has come.
#[derive(Debug)]
struct Place {
    tensor: usize,
    /// Elements of the tensor that are here; for a table the rows.
    offset: usize,
    checksum: Checksum,
}

impl Place {
    fn new(integrity: Integrity) -> Self {
        Self {
            tensor: 0,
            offset: 0,
            checksum: Checksum::new(integrity),
        }
    }

    /// The tensor that is due.
    fn tensor<'a>(&self, layout: &'a Layout) -> Result<&'a Tensor, WireError> {
        layout.tensors().get(self.tensor).ok_or(WireError::LeftOver)
    }

    fn expect(&self, tensor: u32, offset: Option<u64>) -> Result<(), WireError> {
        let offset = offset.unwrap_or(self.offset as u64);
        if tensor as usize == self.tensor && offset == self.offset as u64 {
            return Ok(());
        }
        Err(WireError::OutOfOrder {
            tensor: self.tensor,
            at: self.offset,
            got: tensor,
            offset,
        })
    }

    /// Takes a dense tensor's next chunk into its place, block by block, and shows each block while
    /// it is in the cache.
    fn dense(
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
        if !bytes.is_multiple_of(size_of::<f32>()) {
            let name = entry.name.clone();
            return Err(WireError::Broken { name, bytes });
        }
        let len = into.len();
        let end = self.offset + bytes / size_of::<f32>();
        if bytes == 0 && len > 0 {
            let name = entry.name.clone();
            return Err(WireError::Empty { name });
        }
        let Some(into) = into.get_mut(self.offset..end) else {
            let name = entry.name.clone();
            return Err(WireError::TooLong { name, len });
        };
        let blocks = chunk.values.chunks(SQUARES_BLOCK * size_of::<f32>());
        for (into, block) in into.chunks_mut(SQUARES_BLOCK).zip(blocks) {
            self.checksum.update(block);
            show(block.as_chunks().0);
            streaming::copy(bytemuck::cast_slice_mut(into), block);
        }
        self.offset = end;
        self.check(entry, chunk.crc32, end == len)
    }

    /// The checksum comes with the end of a tensor and nowhere else.
    fn check(&mut self, entry: &Tensor, crc: Option<u32>, end: bool) -> Result<(), WireError> {
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

    fn is_complete(&self, layout: &Layout) -> Result<(), WireError> {
        match layout.tensors().get(self.tensor) {
            None => Ok(()),
            Some(tensor) => Err(WireError::Incomplete {
                name: tensor.name.clone(),
                at: self.offset,
            }),
        }
    }
}

/// Parameters that arrive in a buffer.
#[derive(Debug)]
pub struct IncomingParams<'a> {
    params: &'a mut Params,
    place: Place,
}

impl<'a> IncomingParams<'a> {
    /// All of the buffer will be written.
    pub fn new(params: &'a mut Params, integrity: Integrity) -> Self {
        Self {
            params,
            place: Place::new(integrity),
        }
    }

    /// Takes the next chunk.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<(), WireError> {
        let layout = Arc::clone(self.params.layout());
        let entry = self.place.tensor(&layout)?;
        let into = &mut self.params.flat_mut()[entry.range.clone()];
        self.place.dense(entry, chunk, into, |_| {})
    }

    /// Nothing must be missing.
    pub fn finish(self) -> Result<(), WireError> {
        self.place.is_complete(self.params.layout())
    }
}

/// A gradient that arrives in a buffer.
#[derive(Debug)]
pub struct IncomingGradient {
    gradient: Box<Gradient>,
    place: Place,
    /// Squares of the tensors that are complete, and of the one that is not.
    squares: (f64, f64),
}

impl IncomingGradient {
    /// All of the buffer will be written.
    pub fn new(gradient: Box<Gradient>, integrity: Integrity) -> Self {
        Self {
            gradient,
            place: Place::new(integrity),
            squares: (0.0, 0.0),
        }
    }

    /// Takes the next chunk of a dense tensor.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<(), WireError> {
        let layout = Arc::clone(self.gradient.layout());
        let before = self.place.tensor;
        let entry = self.place.tensor(&layout)?;
        let Part::Dense(values) = &mut self.gradient.parts_mut()[before] else {
            return Err(wrong_kind(entry, "a table", "a dense tensor"));
        };
        let squares = &mut self.squares.1;
        self.place
            .dense(entry, chunk, values, |block| add_squares(squares, block))?;
        self.close(before);
        Ok(())
    }

    /// Takes the next rows of a table.
    pub fn rows(&mut self, rows: &Rows) -> Result<(), WireError> {
        let layout = Arc::clone(self.gradient.layout());
        let before = self.place.tensor;
        let entry = self.place.tensor(&layout)?;
        self.place.expect(rows.tensor, None)?;
        let Part::Rows(table) = &mut self.gradient.parts_mut()[before] else {
            return Err(wrong_kind(entry, "a dense tensor", "a table"));
        };
        if self.place.offset == 0 {
            table.clear();
        }
        let count = take_rows(entry, rows, table, self.place.offset == 0)?;
        self.place.offset += count;
        self.place.checksum.update(&rows.indices);
        self.place.checksum.update(&rows.values);
        if rows.crc32.is_some() {
            add_squares(&mut self.squares.1, bytemuck::cast_slice(table.values()));
            self.place.check(entry, rows.crc32, true)?;
        }
        self.close(before);
        Ok(())
    }

    /// The gradient and its norm; nothing must be missing.
    ///
    /// # Errors
    /// What is missing, and the buffer, to be used again.
    pub fn finish(self) -> Result<(Box<Gradient>, f64), (WireError, Box<Gradient>)> {
        match self.place.is_complete(self.gradient.layout()) {
            Ok(()) => Ok((self.gradient, self.squares.0.sqrt())),
            Err(error) => Err((error, self.gradient)),
        }
    }

    /// The buffer, to be used again.
    pub fn into_buffer(self) -> Box<Gradient> {
        self.gradient
    }

    /// Adds up as [`Gradient::sum_of_squares`] does: tensor by tensor.
    fn close(&mut self, tensor: usize) {
        if self.place.tensor > tensor {
            self.squares.0 += self.squares.1;
            self.squares.1 = 0.0;
        }
    }
}

/// Copies rows into their table; returns their number.
fn take_rows(
    entry: &Tensor,
    rows: &Rows,
    table: &mut Table,
    first: bool,
) -> Result<usize, WireError> {
    let name = || entry.name.clone();
    let (index, row) = (size_of::<u32>(), table.width() * size_of::<f32>());
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
            width: table.width(),
            values: rows.values.len(),
        });
    }
    // A table without touched rows is one empty message, and only that is.
    if count == 0 && !(first && rows.crc32.is_some()) {
        return Err(WireError::Empty { name: name() });
    }
    let indices = rows.indices.chunks_exact(index);
    // Not chunks_exact: a table may have no columns.
    for (at, bytes) in indices.enumerate() {
        let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if number as usize >= table.table_len() {
            let rows = table.table_len();
            return Err(WireError::NoSuchRow {
                name: name(),
                row: number,
                rows,
            });
        }
        let before = table.len();
        let into = table.row(number as usize);
        bytemuck::cast_slice_mut::<f32, u8>(into)
            .copy_from_slice(&rows.values[at * row..(at + 1) * row]);
        if table.len() == before {
            return Err(WireError::RowTwice {
                name: name(),
                row: number,
            });
        }
    }
    Ok(count)
}

fn wrong_kind(entry: &Tensor, wanted: &'static str, got: &'static str) -> WireError {
    let name = entry.name.clone();
    WireError::Kind { name, wanted, got }
}
