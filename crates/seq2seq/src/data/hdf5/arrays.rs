//! Integer arrays of an HDF5 file, read a few rows at a time: the border to the HDF5 library.
//!
//! What a file claims about itself is checked before memory is asked for: the kind of its
//! numbers, its shape, and that the file is large enough to hold them even if it is compressed as
//! well as can be. The library itself answers damaged files with errors, but for one place, which
//! `check_chunks` guards; the tests look for others with seeded damage to files of three kinds.

use std::path::{Path, PathBuf};

use hdf5_pure::{DType, File, FormatError};

use super::MAX_COLUMNS;
use crate::data::DataError;

/// Deflate makes at best one byte of 1,032; a file that claims to hold more than that is damaged.
const BEST_COMPRESSION: u64 = 1100;

/// Pieces that an array is stored in are decoded whole; those of h5py are below 1 MiB.
const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// What the library says of a dataset with several dimensions without a limit, in the form since HDF5 1.10.
const RESIZABLE: &str = "version 2 B-tree";

/// Values read at a time: large enough to be quick, small enough not to be noticed.
const BLOCK_VALUES: usize = 1 << 17;

/// An open file.
pub(super) struct Arrays {
    file: File,
    path: PathBuf,
    bytes: u64,
}

/// An array of integers, of `rows` times `columns`; one of rank 1 has one column.
pub(super) struct Array<'a> {
    dataset: hdf5_pure::Dataset,
    name: &'static str,
    path: &'a Path,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// An error of the library about a dataset: whether the dataset is newer than the library, or another.
pub(in crate::data) fn unreadable(
    path: &Path,
    dataset: &'static str,
    error: &hdf5_pure::Error,
) -> DataError {
    use FormatError as E;
    let (file, problem) = (path.to_owned(), error.to_string());
    let is_newer = match error {
        hdf5_pure::Error::Format(E::ChunkedReadError(why)) => why.contains(RESIZABLE),
        hdf5_pure::Error::Format(
            E::InvalidLayoutVersion(_)
            | E::InvalidObjectHeaderVersion(_)
            | E::InvalidDatatypeVersion { .. }
            | E::InvalidDataspaceVersion(_)
            | E::InvalidFilterPipelineVersion(_)
            | E::UnsupportedFillValueVersion(_),
        ) => true,
        _ => false,
    };
    if is_newer {
        return DataError::NewerHdf5 {
            file,
            dataset,
            problem,
        };
    }
    DataError::Dataset {
        file,
        dataset,
        problem,
    }
}

/// Opens a file, to be read piece by piece; with its length.
pub(in crate::data) fn open(path: &Path) -> Result<(File, u64), DataError> {
    let io = |source| DataError::Io {
        action: "open",
        file: path.to_owned(),
        source,
    };
    let found = std::fs::metadata(path).map_err(io)?;
    if !found.is_file() {
        return Err(io(std::io::Error::other("not a file")));
    }
    let file = File::open_streaming(path).map_err(|e| match e {
        hdf5_pure::Error::Io(source) => io(source),
        other => DataError::NotHdf5 {
            file: path.to_owned(),
            problem: other.to_string(),
        },
    })?;
    Ok((file, found.len()))
}

impl Arrays {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let (file, bytes) = open(path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            bytes,
        })
    }

    /// A table: two dimensions.
    pub(super) fn table(&self, name: &'static str) -> Result<Array<'_>, DataError> {
        self.array(name, 2)
    }

    /// A list: one dimension.
    pub(super) fn list(&self, name: &'static str) -> Result<Array<'_>, DataError> {
        self.array(name, 1)
    }

    fn array(&self, name: &'static str, rank: usize) -> Result<Array<'_>, DataError> {
        let error = |problem| self.error(name, problem);
        let dataset = self.file.dataset(name).map_err(|e| match e {
            hdf5_pure::Error::Format(FormatError::PathNotFound(_)) => {
                error("not found; is this a file of sentence pairs?".to_owned())
            }
            other => unreadable(&self.path, name, &other),
        })?;
        let library = |e| unreadable(&self.path, name, &e);
        let kind = dataset.dtype().map_err(library)?;
        let width = match kind {
            DType::I8 | DType::U8 => 1,
            DType::I16 | DType::U16 => 2,
            DType::I32 | DType::U32 => 4,
            DType::I64 | DType::U64 => 8,
            other => return Err(error(format!("holds {other}, where integers are wanted"))),
        };
        let shape = dataset.shape().map_err(library)?;
        if shape.len() != rank {
            return Err(error(format!(
                "has {} dimensions, where {rank} are wanted",
                shape.len()
            )));
        }
        let claimed = shape
            .iter()
            .try_fold(width, |n: u64, &size| n.checked_mul(size));
        if claimed.is_none_or(|claimed| claimed > self.bytes.saturating_mul(BEST_COMPRESSION)) {
            let bytes = self.bytes;
            return Err(error(format!(
                "claims the shape {shape:?}, which a file of {bytes} bytes cannot hold; it is damaged"
            )));
        }
        self.check_chunks(&dataset, name, &shape, width)?;
        let rows = shape.first().map_or(1, |&rows| rows as usize);
        let columns = shape.get(1).map_or(1, |&columns| columns as usize);
        if columns == 0 || columns > MAX_COLUMNS {
            return Err(error(format!(
                "has {columns} columns, where 1 to {MAX_COLUMNS} will do"
            )));
        }
        Ok(Array {
            dataset,
            name,
            path: &self.path,
            rows,
            columns,
        })
    }

    /// Whether the pieces of an array that is stored in pieces lie inside it. The library believes
    /// their places: one near the end of the numbers makes it overflow (hdf5-pure 0.47).
    fn check_chunks(
        &self,
        dataset: &hdf5_pure::Dataset,
        name: &'static str,
        shape: &[u64],
        width: u64,
    ) -> Result<(), DataError> {
        let library = |e| unreadable(&self.path, name, &e);
        let chunk_shape = dataset.chunk_shape().map_err(library)?;
        let Some(chunk_shape) = chunk_shape else {
            return Ok(());
        };
        let size = chunk_shape
            .iter()
            .try_fold(width, |n: u64, &size| n.checked_mul(size));
        if size.is_none_or(|size| size > MAX_CHUNK_BYTES) {
            let problem = format!("is stored in pieces of {chunk_shape:?}; they are too large");
            return Err(self.error(name, problem));
        }
        for chunk in dataset.chunks().map_err(library)? {
            let inside = chunk.offset.iter().zip(shape).all(|(at, size)| at < size);
            if !inside || chunk.storage_size > self.bytes {
                let at = chunk.offset;
                let problem =
                    format!("has a piece at {at:?}, outside its shape {shape:?}; it is damaged");
                return Err(self.error(name, problem));
            }
        }
        Ok(())
    }

    pub(super) fn error(&self, dataset: &'static str, problem: String) -> DataError {
        DataError::Dataset {
            file: self.path.clone(),
            dataset,
            problem,
        }
    }
}

impl Array<'_> {
    /// Calls `each` with every row and its number.
    pub(super) fn for_each(
        &self,
        mut each: impl FnMut(usize, &[i64]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let block = (BLOCK_VALUES / self.columns).max(1);
        let mut start = 0;
        while start < self.rows {
            let count = block.min(self.rows - start);
            let values = self.block(start, count)?;
            for (number, row) in values.chunks_exact(self.columns).enumerate() {
                each(start + number, row)?;
            }
            start += count;
        }
        Ok(())
    }

    /// The one column of a list.
    pub(super) fn values(&self) -> Result<Vec<i64>, DataError> {
        let mut all = Vec::new();
        self.for_each(|_, row| {
            all.extend_from_slice(row);
            Ok(())
        })?;
        Ok(all)
    }

    /// Rows `start .. start + count`, one after the other.
    pub(super) fn block(&self, start: usize, count: usize) -> Result<Vec<i64>, DataError> {
        let rows = self.dataset.read_i64_rows(start as u64, count as u64);
        let values = rows.map_err(|e| self.value(start, e.to_string()))?;
        if values.len() == count * self.columns {
            Ok(values)
        } else {
            Err(self.value(start, format!("{} values could be read", values.len())))
        }
    }

    /// An error in a row.
    pub(super) fn value(&self, row: usize, problem: String) -> DataError {
        let (file, dataset) = (self.path.to_owned(), self.name);
        DataError::Value {
            file,
            dataset,
            row,
            problem,
        }
    }

    /// An error about the whole array, if it has not as many rows as another.
    pub(super) fn want_rows(&self, rows: usize, like: &str) -> Result<(), DataError> {
        if self.rows == rows {
            return Ok(());
        }
        let problem = format!("has {} rows, where `{like}` has {rows}", self.rows);
        Err(DataError::Dataset {
            file: self.path.to_owned(),
            dataset: self.name,
            problem,
        })
    }
}
