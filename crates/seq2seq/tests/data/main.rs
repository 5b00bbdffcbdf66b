//! Data, from the outside: the ancestor's demo set, its file format, and everything that can be
//! wrong with files.

#![allow(clippy::unwrap_used)]

mod bad_hdf5;
mod bad_text;
mod commands;
mod h5py;
mod mutations;
mod parity;

use std::path::{Path, PathBuf};

use seq2seq::data::text::TextPair;
use seq2seq::data::{Dataset, Sentences, Sizes};

/// Writes a file into a folder and returns its path.
fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn pair(dir: &Path, name: &str, source: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> TextPair {
    TextPair {
        source: file(dir, &format!("{name}.en"), source),
        target: file(dir, &format!("{name}.de"), target),
    }
}

fn gzip(content: impl AsRef<[u8]>) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(content.as_ref()).unwrap();
    packed.finish().unwrap()
}

/// Five pairs of three source lengths, in batches of two: rows 0..2, 2..4, 4..5.
fn small() -> Dataset {
    let mut pairs = Sentences::new();
    pairs.push(&[3, 5, 4], &[3, 5, 6, 4]);
    pairs.push(&[3, 6, 4], &[3, 7, 4]);
    pairs.push(&[3, 5, 6, 4], &[3, 8, 4]);
    pairs.push(&[3, 7, 5, 4], &[3, 8, 7, 6, 5, 4]);
    pairs.push(&[3, 5, 6, 7, 4], &[3, 5, 4]);
    Dataset::new(
        &pairs,
        2,
        Sizes {
            source: 7,
            target: 8,
        },
    )
}

/// Says that a test did not run, also where the output of tests is captured.
fn skip(test: &str, why: &str) {
    use std::io::Write as _;
    let line = format!("SKIPPED {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The message of an error that must name all of these.
#[track_caller]
fn assert_says<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>, says: &[&str]) {
    let message = match result {
        Ok(value) => panic!("{value:?}, where an error was due that says {says:?}"),
        Err(error) => format!("{error:#}"),
    };
    for part in says {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}
