//! Files damaged in many places: reading them says yes or no, in little memory, and never panics.
//!
//! Three files stand for three ways to write HDF5: ours (checksums over its structure), h5py's
//! default (the ancestor's format, without any) and the same with compressed chunks. The last two
//! were made by `h5py_write.py`.

use std::path::Path;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use seq2seq::data::hdf5;

use crate::{file, small};

const OLD: &[u8] = include_bytes!("fixtures/old.hdf5");
const PACKED: &[u8] = include_bytes!("fixtures/packed.hdf5");

/// Damaged copies of each file.
const SEEDS: u64 = 600;

/// What reading damaged files of a few kilobytes may take at the most.
const MAX_BYTES: u64 = 256 << 20;

#[test]
fn h5py_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [("old.hdf5", OLD), ("packed.hdf5", PACKED)] {
        let path = file(dir.path(), name, content);
        assert_eq!(hdf5::read(&path).unwrap(), small(), "{name}");
    }
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours.hdf5");
    hdf5::write(&ours, &small(), 6).unwrap();
    let ours = std::fs::read(&ours).unwrap();
    for (name, content) in [("ours", &ours[..]), ("old", OLD), ("packed", PACKED)] {
        let before = peak_bytes();
        let mut refused = 0;
        for seed in 0..SEEDS {
            let damaged = damage(content, seed);
            let path = file(dir.path(), "damaged.hdf5", &damaged);
            refused += u64::from(refuses(&path));
        }
        eprintln!("{name}: {refused} of {SEEDS} damaged files refused");
        assert!(refused > SEEDS / 10, "{name}: only {refused}");
        let grown = peak_bytes() - before;
        assert!(grown < MAX_BYTES, "{name}: took {grown} bytes");
    }
}

/// Every byte of the structure turned into the values that break most.
#[test]
fn every_byte_of_an_old_file_may_be_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let before = peak_bytes();
    for at in 0..OLD.len() {
        for value in [0x00, 0xff] {
            let mut damaged = OLD.to_vec();
            damaged[at] = value;
            refuses(&file(dir.path(), "damaged.hdf5", &damaged));
        }
    }
    assert!(peak_bytes() - before < MAX_BYTES);
}

#[test]
fn a_file_that_claims_more_than_it_can_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // The number of rows of each table, which is there twice: as the size and as the largest size.
    let mut refused = 0;
    let rows: Vec<u8> = [5_u64, 6]
        .iter()
        .flat_map(|size| size.to_le_bytes())
        .collect();
    for at in 0..OLD.len() - rows.len() {
        if OLD[at..].starts_with(&rows) {
            let mut damaged = OLD.to_vec();
            damaged[at..at + 8].copy_from_slice(&(1_u64 << 44).to_le_bytes());
            let path = file(dir.path(), "huge.hdf5", &damaged);
            let error = hdf5::read(&path).err().map(|error| error.to_string());
            refused += usize::from(error.is_some_and(|error| error.contains("cannot hold")));
        }
    }
    assert_eq!(refused, 3);
}

/// Without the check of the pieces' places, the HDF5 library overflows here.
#[test]
fn a_piece_outside_of_its_array_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // The place of the piece that begins at row 2, column 4, in the index of each table.
    let place: Vec<u8> = [2_u64, 4, 0]
        .iter()
        .flat_map(|at| at.to_le_bytes())
        .collect();
    let mut refused = 0;
    for at in 0..PACKED.len() - place.len() {
        if PACKED[at..].starts_with(&place) {
            let mut damaged = PACKED.to_vec();
            damaged[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            let path = file(dir.path(), "x.hdf5", &damaged);
            let error = hdf5::read(&path).err().map(|error| error.to_string());
            // h5py leaves copies behind that nothing reads.
            refused += usize::from(error.is_some_and(|error| error.contains("outside its shape")));
        }
    }
    assert_eq!(refused, 3);
}

/// Whether a file is refused; one that is not can be used to the end.
fn refuses(path: &Path) -> bool {
    match hdf5::read(path) {
        Ok(data) => {
            for index in 0..data.len() {
                data.batch(index).unwrap();
            }
            false
        }
        Err(error) => {
            assert!(error.to_string().contains("damaged.hdf5"), "{error}");
            true
        }
    }
}

fn damage(content: &[u8], seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut damaged = content.to_vec();
    match random.random_range(0..5) {
        0 => damaged.truncate(random.random_range(0..content.len())),
        1 => {
            for _ in 0..random.random_range(1..9) {
                let at = random.random_range(0..damaged.len());
                damaged[at] ^= 1 << random.random_range(0..8);
            }
        }
        2 => {
            let at = random.random_range(0..damaged.len() - 8);
            let values = [u64::MAX, 0, 1 << 63, 1 << 32, 1 << 20, content.len() as u64];
            let value = values[random.random_range(0..values.len())];
            damaged[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        3 => {
            // A piece of the file somewhere else.
            let length = random.random_range(1..64);
            let from = random.random_range(0..damaged.len() - length);
            let to = random.random_range(0..damaged.len() - length);
            damaged.copy_within(from..from + length, to);
        }
        _ => {
            let at = random.random_range(0..damaged.len());
            damaged[at] = random.random_range(0..=255);
        }
    }
    damaged
}

/// The most memory that this process has held; 0 where the system does not tell.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0_u64) << 10
}
