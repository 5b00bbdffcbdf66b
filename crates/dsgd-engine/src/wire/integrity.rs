//! Who sees to it that a tensor arrives as it was sent.

use crc32fast::Hasher;

use super::proto;
use dsgd_core::codec::Codec;
use dsgd_core::params::Params;

/// Who sees to it that bytes arrive as they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Each tensor's own checksum.
    Checksums,
    /// TLS, which authenticates every record. A checksum would find nothing more, and would cost
    /// as much as decrypting.
    Tls,
}

impl Integrity {
    /// Of a connection with or without TLS.
    pub(super) fn of(tls: bool) -> Self {
        if tls { Self::Tls } else { Self::Checksums }
    }
}

/// Initial parameters, by which whoever has made them by itself knows that they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initial {
    /// Their version.
    pub version: u64,
    crc32: u32,
    codec: Codec,
}

impl Initial {
    /// Of these parameters, which are pulled in that codec.
    pub fn of(version: u64, params: &Params, codec: Codec) -> Self {
        let crc32 = crc32fast::hash(bytemuck::cast_slice(params.flat()));
        Self {
            version,
            crc32,
            codec,
        }
    }

    /// As the schema has it.
    pub(super) fn to_proto(self) -> proto::Initial {
        let Self { version, crc32, .. } = self;
        let codec = self.codec.id();
        proto::Initial {
            version,
            crc32,
            codec,
        }
    }
}

/// A tensor's checksum, as far as it is needed.
#[derive(Debug)]
pub(super) struct Checksum(Option<Hasher>);

impl Checksum {
    pub(super) fn new(integrity: Integrity) -> Self {
        Self((integrity == Integrity::Checksums).then(Hasher::new))
    }

    /// The tensor's next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
    }

    /// What ends the tensor; the next one begins.
    pub(super) fn end(&mut self) -> u32 {
        let hasher = self.0.as_mut().map(std::mem::take);
        hasher.map_or(0, Hasher::finalize)
    }

    /// Whether what the other side calls the checksum of this tensor is right, or else what it
    /// should be; the next tensor begins.
    pub(super) fn check(&mut self, told: u32) -> Result<(), u32> {
        let found = self.end();
        if self.0.is_none() || told == found {
            Ok(())
        } else {
            Err(found)
        }
    }
}
