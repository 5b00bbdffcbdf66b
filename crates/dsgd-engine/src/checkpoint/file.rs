//! One `safetensors` file: eight bytes with the length of a JSON header, the header, and the
//! tensors' bytes without gaps. The header is parsed and checked by the `safetensors` crate;
//! the bytes go straight between the file and the flat vector, for which the crate has no way:
//! it writes without forcing anything to disk, and reads only what is in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytemuck::{cast_slice, cast_slice_mut};
use crc32fast::Hasher;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;
use tempfile::{Builder, NamedTempFile};

use super::error::CheckpointError;
use dsgd_core::params::Layout;

pub(super) const VERSION: &str = "dsgd.version";
pub(super) const CHECKSUM: &str = "dsgd.checksum";

const _: () = assert!(
    cfg!(target_endian = "little"),
    "safetensors are little-endian and are read here as they lie"
);

/// Longest header that is read. A million words of vocabulary take a quarter of it.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Elements that are read or written at once, and hashed while they are in the cache.
const CHUNK: usize = 1 << 16;

/// Bytes that the length of the header takes.
const LENGTH_BYTES: u64 = 8;

/// How a file under construction ends.
pub(super) const TEMPORARY: &str = ".tmp";

/// What a file is to hold. Tensors stand in it in the order in which they were added.
#[derive(Default)]
pub(super) struct Contents<'a> {
    pub(super) metadata: BTreeMap<String, String>,
    tensors: Vec<(String, &'a [usize], &'a [f32])>,
}

/// An entry of the header.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor(TensorInfo),
}

impl<'a> Contents<'a> {
    /// Adds all tensors of a layout, under their names behind `prefix`.
    pub(super) fn add(&mut self, layout: &'a Layout, prefix: &str, flat: &'a [f32]) {
        self.tensors.extend(layout.tensors().iter().map(|t| {
            let name = format!("{prefix}{}", t.name);
            (name, t.shape.as_slice(), &flat[t.range.clone()])
        }));
    }

    /// Puts the checksum of everything into the metadata, and returns it.
    pub(super) fn seal(&mut self) -> String {
        let mut hasher = hash_metadata(&self.metadata);
        for (_, _, values) in &self.tensors {
            hasher.update(cast_slice(values));
        }
        let checksum = format!("{:08x}", hasher.finalize());
        self.metadata.insert(CHECKSUM.into(), checksum.clone());
        checksum
    }

    /// Writes it under a temporary name and forces it to disk. The file is gone
    /// when what is returned is dropped.
    pub(super) fn write(&self, dir: &Path, stem: &str) -> io::Result<NamedTempFile> {
        let prefix = format!(".{stem}.");
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(TEMPORARY);
        // As any file: what the user's umask allows, not for the owner alone.
        #[cfg(unix)]
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        #[cfg(unix)]
        builder.permissions(mode);
        let file = builder.tempfile_in(dir)?;
        self.write_to(file.as_file())?;
        file.as_file().sync_all()?;
        Ok(file)
    }

    pub(super) fn write_to(&self, mut file: &File) -> io::Result<()> {
        let mut header = serde_json::to_vec(&self.header())?;
        header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
        if header.len() as u64 > MAX_HEADER_BYTES {
            let reason = format!(
                "its metadata takes {} bytes, too many to read",
                header.len()
            );
            return Err(io::Error::new(ErrorKind::InvalidInput, reason));
        }
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, _, values) in &self.tensors {
            file.write_all(cast_slice(values))?;
        }
        Ok(())
    }

    /// Sorted, so that equal contents make equal files.
    fn header(&self) -> BTreeMap<&str, Entry<'_>> {
        let mut start = 0;
        let tensors = self.tensors.iter().map(|(name, shape, values)| {
            let end = start + size_of_val(*values);
            let info = TensorInfo {
                dtype: Dtype::F32,
                shape: shape.to_vec(),
                data_offsets: (start, end),
            };
            start = end;
            (name.as_str(), Entry::Tensor(info))
        });
        let mut header: BTreeMap<_, _> = tensors.collect();
        header.insert("__metadata__", Entry::Metadata(&self.metadata));
        header
    }
}

/// Gives a written file its name.
pub(super) fn publish(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// Forces the names of a folder to disk, where the system has a way to.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// An open file whose header has been checked.
pub(super) struct Reader {
    pub(super) path: PathBuf,
    pub(super) metadata: BTreeMap<String, String>,
    file: File,
    tensors: Metadata,
    data_start: u64,
    hasher: Hasher,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let malformed = |reason: String| CheckpointError::Malformed {
            path: path.to_path_buf(),
            reason,
        };
        let failed = |cause| read_failed(path, cause);
        let mut file = File::open(path).map_err(failed)?;
        let file_bytes = file.metadata().map_err(failed)?.len();
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(failed)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > file_bytes.saturating_sub(LENGTH_BYTES) {
            return Err(malformed(format!("a header of {length} bytes")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(failed)?;
        let tensors: Metadata =
            serde_json::from_slice(&header).map_err(|e| malformed(e.to_string()))?;
        let data_start = LENGTH_BYTES + length;
        let (wanted, found) = (tensors.data_len() as u64, file_bytes - data_start);
        if wanted != found {
            return Err(malformed(format!("{found} bytes of data, not {wanted}")));
        }
        let metadata: BTreeMap<_, _> = tensors.metadata().clone().into_iter().flatten().collect();
        Ok(Self {
            path: path.to_path_buf(),
            hasher: hash_metadata(&metadata),
            metadata,
            file,
            tensors,
            data_start,
        })
    }

    /// An entry of the metadata that must be there.
    pub(super) fn text(&self, key: &str) -> Result<&str, CheckpointError> {
        let value = self.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| self.malformed(format!("its metadata have no {key}")))
    }

    /// The number of steps that had been taken.
    pub(super) fn version(&self) -> Result<u64, CheckpointError> {
        let text = self.text(VERSION)?;
        let number = text.parse();
        number.map_err(|_| self.malformed(format!("{VERSION} is {text:?}")))
    }

    /// Whether it holds exactly this layout's tensors, once behind each prefix.
    pub(super) fn expect(&self, layout: &Layout, prefixes: &[&str]) -> Result<(), CheckpointError> {
        let path = || self.path.clone();
        let mut found = self.tensors.tensors();
        for prefix in prefixes {
            for wanted in layout.tensors() {
                let tensor = format!("{prefix}{}", wanted.name);
                let Some(info) = found.remove(&tensor) else {
                    let path = path();
                    return Err(CheckpointError::MissingTensor { path, tensor });
                };
                if info.dtype != Dtype::F32 {
                    return Err(CheckpointError::Dtype {
                        path: path(),
                        tensor,
                        found: info.dtype.to_string(),
                    });
                }
                if info.shape != wanted.shape {
                    return Err(CheckpointError::Shape {
                        path: path(),
                        tensor,
                        found: info.shape.clone(),
                        wanted: wanted.shape.clone(),
                    });
                }
            }
        }
        match found.into_keys().min() {
            Some(tensor) => Err(CheckpointError::ExtraTensor {
                path: path(),
                tensor,
            }),
            None => Ok(()),
        }
    }

    /// Reads all tensors of an expected layout into its flat vector.
    pub(super) fn read(
        &mut self,
        layout: &Layout,
        prefix: &str,
        flat: &mut [f32],
    ) -> Result<(), CheckpointError> {
        for tensor in layout.tensors() {
            let name = format!("{prefix}{}", tensor.name);
            let info = self.tensors.info(&name).expect("the layout is expected");
            let start = self.data_start + info.data_offsets.0 as u64;
            self.read_at(start, &mut flat[tensor.range.clone()])
                .map_err(|cause| read_failed(&self.path, cause))?;
        }
        Ok(())
    }

    fn read_at(&mut self, start: u64, values: &mut [f32]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(start))?;
        for chunk in values.chunks_mut(CHUNK) {
            let bytes: &mut [u8] = cast_slice_mut(chunk);
            self.file.read_exact(bytes)?;
            self.hasher.update(bytes);
        }
        Ok(())
    }

    /// Whether all that was read fits the checksum, where there is one: a file of other
    /// programs has none.
    pub(super) fn verify(&self) -> Result<(), CheckpointError> {
        let found = format!("{:08x}", self.hasher.clone().finalize());
        match self.metadata.get(CHECKSUM) {
            Some(checksum) if *checksum != found => Err(CheckpointError::Corrupt {
                path: self.path.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn malformed(&self, reason: String) -> CheckpointError {
        CheckpointError::Malformed {
            path: self.path.clone(),
            reason,
        }
    }
}

fn read_failed(path: &Path, cause: io::Error) -> CheckpointError {
    let path = path.to_path_buf();
    match cause.kind() {
        ErrorKind::NotFound => CheckpointError::Missing { path },
        ErrorKind::UnexpectedEof => CheckpointError::Malformed {
            path,
            reason: "it is cut short".into(),
        },
        _ => CheckpointError::Read { path, cause },
    }
}

/// A checksum begins with the metadata, but for the checksum.
fn hash_metadata(metadata: &BTreeMap<String, String>) -> Hasher {
    let mut hasher = Hasher::new();
    for (key, value) in metadata.iter().filter(|(key, _)| *key != CHECKSUM) {
        for text in [key, value] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher
}
