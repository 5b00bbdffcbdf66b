//! Lines of text from files that nobody has looked at: plain or gzip by content, UTF-8 or not.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::DataError;

/// No sentence is longer; a file without line ends would otherwise fill the memory.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The lines of a file, plain or gzip, each checked to be UTF-8.
pub(crate) struct Lines {
    reader: Box<dyn BufRead>,
    file: PathBuf,
    buffer: Vec<u8>,
    line: u64,
}

impl Lines {
    pub(crate) fn open(file: &Path) -> Result<Self, DataError> {
        let opened = File::open(file).map_err(|source| DataError::Io {
            action: "open",
            file: file.to_owned(),
            source,
        })?;
        Self::from_reader(BufReader::with_capacity(1 << 16, opened), file)
    }

    /// Lines of what `reader` gives; `name` stands for the file in errors.
    pub(crate) fn from_reader(
        mut reader: impl BufRead + 'static,
        name: &Path,
    ) -> Result<Self, DataError> {
        let gzip = reader
            .fill_buf()
            .map_err(|source| DataError::Io {
                action: "read",
                file: name.to_owned(),
                source,
            })?
            .starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead> = if gzip {
            Box::new(BufReader::with_capacity(
                1 << 16,
                MultiGzDecoder::new(reader),
            ))
        } else {
            Box::new(reader)
        };
        Ok(Self {
            reader,
            file: name.to_owned(),
            buffer: Vec::new(),
            line: 0,
        })
    }

    /// The next line, without its end; none at the end of the file.
    pub(crate) fn next_line(&mut self) -> Result<Option<&str>, DataError> {
        if !self.advance()? {
            return Ok(None);
        }
        let text = std::str::from_utf8(&self.buffer).map_err(|e| DataError::NotUtf8 {
            file: self.file.clone(),
            line: self.line,
            byte: e.valid_up_to() + 1,
        })?;
        // A byte-order mark is no part of the first word.
        let text = if self.line == 1 {
            text.trim_start_matches('\u{feff}')
        } else {
            text
        };
        Ok(Some(text.trim_end_matches(['\n', '\r'])))
    }

    /// Lines of the whole file, reading what is left of it.
    pub(crate) fn count_rest(&mut self) -> Result<u64, DataError> {
        while self.advance()? {}
        Ok(self.line)
    }

    /// Reads a line into the buffer; false at the end of the file.
    fn advance(&mut self) -> Result<bool, DataError> {
        self.buffer.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = self
            .reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| DataError::Broken {
                file: self.file.clone(),
                line: self.line,
                source,
            })?;
        self.line += u64::from(read > 0);
        if read > MAX_LINE_BYTES {
            return Err(DataError::LineTooLong {
                file: self.file.clone(),
                line: self.line,
                limit: MAX_LINE_BYTES,
            });
        }
        Ok(read > 0)
    }

    /// An error in the line of a dictionary that was just read.
    pub(crate) fn dictionary(&self, problem: String) -> DataError {
        self.dictionary_at(self.line, problem)
    }

    pub(crate) fn dictionary_at(&self, line: u64, problem: String) -> DataError {
        DataError::Dictionary {
            file: self.file.clone(),
            line,
            problem,
        }
    }
}
