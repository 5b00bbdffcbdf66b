//! Parameters that arrive: all of them, or what is new.

use std::sync::Arc;

use super::cursor::{Cursor, count_rows, no_such_row, rows_in, wrong_kind};
use super::error::WireError;
use crate::wire::integrity::Integrity;
use crate::wire::proto::{Chunk, Rows};
use dsgd_core::codec::Codec;
use dsgd_core::params::{Kind, Params};

/// What comes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    Nothing,
    Rows,
    All,
}

/// Parameters that arrive in a buffer.
#[derive(Debug)]
pub struct IncomingParams<'a> {
    params: &'a mut Params,
    cursor: Cursor,
    comes: Vec<Comes>,
    /// The row that comes next, at least, of a table of which rows come.
    next_row: u32,
}

impl<'a> IncomingParams<'a> {
    /// All of the buffer will be written.
    pub fn new(params: &'a mut Params, codec: Codec, integrity: Integrity) -> Self {
        let comes = vec![Comes::All; params.layout().tensors().len()];
        Self::of(params, comes, Cursor::new(codec, integrity))
    }

    /// What is new will be written over the version that the buffer holds; `fresh` has a byte for each tensor, as
    /// the schema says.
    pub fn over(
        params: &'a mut Params,
        fresh: &[u8],
        codec: Codec,
        integrity: Integrity,
    ) -> Result<Self, WireError> {
        let comes = comes(params, fresh)?;
        Ok(Self::of(params, comes, Cursor::new(codec, integrity)))
    }

    /// What comes is a difference: it will be added to what is there.
    #[must_use]
    pub fn adding(mut self) -> Self {
        self.cursor = self.cursor.adding();
        self
    }

    fn of(params: &'a mut Params, comes: Vec<Comes>, cursor: Cursor) -> Self {
        let mut this = Self {
            params,
            cursor,
            comes,
            next_row: 0,
        };
        this.skip();
        this
    }

    /// On to the next tensor of which something comes.
    fn skip(&mut self) {
        while self.comes.get(self.cursor.tensor) == Some(&Comes::Nothing) {
            self.cursor.tensor += 1;
        }
    }

    /// Takes the next chunk.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<(), WireError> {
        let layout = Arc::clone(self.params.layout());
        let entry = self.cursor.tensor(&layout)?;
        if self.comes[self.cursor.tensor] == Comes::Rows {
            return Err(wrong_kind(entry, "rows of a table", "all of it"));
        }
        let into = &mut self.params.flat_mut()[entry.range.clone()];
        self.cursor.dense(entry, chunk, into, |_| {})?;
        self.skip();
        Ok(())
    }

    /// Takes the next rows of a table.
    pub fn rows(&mut self, rows: &Rows) -> Result<(), WireError> {
        let layout = Arc::clone(self.params.layout());
        let entry = self.cursor.tensor(&layout)?;
        self.cursor.expect(rows.tensor, None)?;
        if self.comes[self.cursor.tensor] != Comes::Rows {
            return Err(wrong_kind(entry, "all of a tensor", "rows of it"));
        }
        let (width, table_len, codec) = (entry.width(), entry.shape[0], self.cursor.codec);
        let count = count_rows(entry, rows, width, codec)?;
        if count == 0 {
            let name = entry.name.clone();
            return Err(WireError::Empty { name });
        }
        let into = &mut self.params.flat_mut()[entry.range.clone()];
        for (row, values) in rows_in(rows, width, codec) {
            if row as usize >= table_len {
                return Err(no_such_row(entry, row, table_len));
            }
            if row < self.next_row {
                let name = entry.name.clone();
                return Err(WireError::RowOrder { name, row });
            }
            self.next_row = row + 1;
            let at = row as usize * width;
            self.cursor.decode(values, &mut into[at..at + width]);
        }
        self.cursor.offset += count;
        self.cursor.checksum.update(&rows.indices);
        self.cursor.checksum.update(&rows.values);
        if rows.crc32.is_some() {
            self.cursor.check(entry, rows.crc32, true)?;
            self.next_row = 0;
        }
        self.skip();
        Ok(())
    }

    /// Of a complete transfer: a difference comes next, and is added.
    pub fn then(self, fresh: &[u8], codec: Codec) -> Result<Self, WireError> {
        let comes = comes(self.params, fresh)?;
        Ok(Self::of(self.params, comes, self.cursor.again(codec)))
    }

    /// Whether all has come.
    pub fn is_complete(&self) -> bool {
        self.cursor.is_complete(self.params.layout()).is_ok()
    }

    /// Nothing must be missing.
    pub fn finish(self) -> Result<(), WireError> {
        self.cursor.is_complete(self.params.layout())
    }
}

/// What comes of each tensor.
fn comes(params: &Params, fresh: &[u8]) -> Result<Vec<Comes>, WireError> {
    let tensors = params.layout().tensors();
    if fresh.len() != tensors.len() {
        return Err(WireError::Fresh {
            got: fresh.len(),
            tensors: tensors.len(),
        });
    }
    let comes = tensors.iter().zip(fresh).map(|(tensor, byte)| match byte {
        0 => Ok(Comes::Nothing),
        1 if tensor.kind == Kind::Rows => Ok(Comes::Rows),
        1 => Err(wrong_kind(tensor, "a dense tensor", "a table")),
        2 => Ok(Comes::All),
        &byte => Err(WireError::NoFresh {
            name: tensor.name.clone(),
            byte,
        }),
    });
    comes.collect()
}
