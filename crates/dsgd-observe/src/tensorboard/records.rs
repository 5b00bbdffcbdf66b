//! The file: records with a length before and checksums around, as `TFRecord` has them.

use std::fs::File;
use std::io::{self, Write};

use prost::Message;

/// Remainders of single bytes for the checksum CRC-32C (Castagnoli; RFC 3720, B.4).
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 {
                (rest >> 1) ^ 0x82f6_3b78
            } else {
                rest >> 1
            };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// Appends a message.
pub(super) fn write(file: &mut File, message: &impl Message) -> io::Result<()> {
    let body = message.encode_to_vec();
    let length = (body.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(body.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked(crc32c(&length)).to_le_bytes());
    record.extend_from_slice(&body);
    record.extend_from_slice(&masked(crc32c(&body)).to_le_bytes());
    // Whole, so that a reader that follows never finds half of one.
    file.write_all(&record)
}

/// A checksum over data that may hold checksums itself is turned and moved.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| (crc >> 8) ^ REMAINDERS[usize::from(crc as u8 ^ byte)];
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4, and the check value of the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
