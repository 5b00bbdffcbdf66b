//! A file by its content.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use super::packing::PIECE_BYTES;
use crate::hex::hex;
use crate::ssh::error::SshError;

/// A file with a name made of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it is here.
    pub path: PathBuf,
    /// SHA-256, in 64 hexadecimal digits.
    pub hash: String,
    /// Its length.
    pub bytes: u64,
    /// Whether hosts may run it.
    pub executable: bool,
}

impl Object {
    /// Reads a file of data.
    pub fn of(path: &Path) -> Result<Self, SshError> {
        let cannot = |source| SshError::local("cannot read", path, source);
        let mut file = File::open(path).map_err(cannot)?;
        let mut context = Context::new(&SHA256);
        let mut piece = vec![0; PIECE_BYTES];
        let mut bytes = 0;
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    context.update(&piece[..read]);
                    bytes += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(cannot(e)),
            }
        }
        Ok(Self {
            path: path.to_owned(),
            hash: hex(context.finish().as_ref()),
            bytes,
            executable: false,
        })
    }

    /// Reads a program.
    pub fn program(path: &Path) -> Result<Self, SshError> {
        Ok(Self {
            executable: true,
            ..Self::of(path)?
        })
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }
}
