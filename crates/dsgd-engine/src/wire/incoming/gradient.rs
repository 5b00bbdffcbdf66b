//! A gradient that arrives, and its norm.

use std::sync::Arc;

use super::cursor::{Cursor, count_rows, no_such_row, rows_in, wrong_kind};
use super::error::WireError;
use crate::wire::integrity::Integrity;
use crate::wire::proto::{Chunk, Rows};
use dsgd_core::codec::Codec;
use dsgd_core::params::{Gradient, Rows as Table, Rule, Tensor, TensorGradient, add_squares};

/// A gradient that arrives in a buffer.
#[derive(Debug)]
pub struct IncomingGradient {
    gradient: Box<Gradient>,
    cursor: Cursor,
    /// Squares of the tensors that are complete, and of the one that is not.
    squares: (f64, f64),
}

impl IncomingGradient {
    /// All of the buffer will be written.
    pub fn new(gradient: Box<Gradient>, codec: Codec, integrity: Integrity) -> Self {
        Self {
            gradient,
            cursor: Cursor::new(codec, integrity),
            squares: (0.0, 0.0),
        }
    }

    /// Takes the next chunk of a dense tensor.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<(), WireError> {
        let layout = Arc::clone(self.gradient.layout());
        let before = self.cursor.tensor;
        let entry = self.cursor.tensor(&layout)?;
        let TensorGradient::Dense(values) = &mut self.gradient.tensors_mut()[before] else {
            return Err(wrong_kind(entry, "a table", "a dense tensor"));
        };
        let squares = &mut self.squares.1;
        let counts = entry.rule != Rule::Added;
        self.cursor.dense(entry, chunk, values, |block| {
            if counts {
                add_squares(squares, block);
            }
        })?;
        self.close(before);
        Ok(())
    }

    /// Takes the next rows of a table.
    pub fn rows(&mut self, rows: &Rows) -> Result<(), WireError> {
        let layout = Arc::clone(self.gradient.layout());
        let before = self.cursor.tensor;
        let entry = self.cursor.tensor(&layout)?;
        self.cursor.expect(rows.tensor, None)?;
        let TensorGradient::Rows(table) = &mut self.gradient.tensors_mut()[before] else {
            return Err(wrong_kind(entry, "a dense tensor", "a table"));
        };
        if self.cursor.offset == 0 {
            table.clear();
        }
        let count = take_rows(entry, rows, table, &self.cursor)?;
        self.cursor.offset += count;
        self.cursor.checksum.update(&rows.indices);
        self.cursor.checksum.update(&rows.values);
        if rows.crc32.is_some() {
            add_squares(&mut self.squares.1, bytemuck::cast_slice(table.values()));
            self.cursor.check(entry, rows.crc32, true)?;
        }
        self.close(before);
        Ok(())
    }

    /// The gradient and its norm; nothing must be missing.
    ///
    /// # Errors
    /// What is missing, and the buffer, to be used again.
    pub fn finish(self) -> Result<(Box<Gradient>, f64), (WireError, Box<Gradient>)> {
        match self.cursor.is_complete(self.gradient.layout()) {
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
        if self.cursor.tensor > tensor {
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
    cursor: &Cursor,
) -> Result<usize, WireError> {
    let name = || entry.name.clone();
    let (width, codec, first) = (table.width(), cursor.codec, cursor.offset == 0);
    let count = count_rows(entry, rows, width, codec)?;
    // A table without touched rows is one empty message, and only that is.
    if count == 0 && !(first && rows.crc32.is_some()) {
        return Err(WireError::Empty { name: name() });
    }
    for (row, values) in rows_in(rows, width, codec) {
        if row as usize >= table.table_len() {
            return Err(no_such_row(entry, row, table.table_len()));
        }
        let before = table.len();
        let into = table.row(row as usize);
        codec.decode(values, into);
        if table.len() == before {
            return Err(WireError::RowTwice { name: name(), row });
        }
    }
    Ok(count)
}
