//! HDF5 files that are wrong in one place each: the error names the file and the place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hdf5_pure::FileBuilder;
use seq2seq::data::{DataError, DataSource, Dataset, hdf5};

use crate::{assert_says, file, small};

/// The arrays of a file by name: shape and values.
type Parts = BTreeMap<&'static str, (Vec<u64>, Vec<i64>)>;

/// `small()` as the schema has it; written by hand, not with the code under test.
fn parts() -> Parts {
    #[rustfmt::skip]
    let tables: [(&str, Vec<i64>); 3] = [
        ("source", vec![
            3, 5, 4, 1, 1, 1,
            3, 6, 4, 1, 1, 1,
            3, 5, 6, 4, 1, 1,
            3, 7, 5, 4, 1, 1,
            3, 5, 6, 7, 4, 1,
        ]),
        ("target", vec![
            3, 5, 6, 4, 1, 1,
            3, 7, 4, 1, 1, 1,
            3, 8, 4, 1, 1, 1,
            3, 8, 7, 6, 5, 4,
            3, 5, 4, 1, 1, 1,
        ]),
        ("target_output", vec![
            5, 6, 4, 1, 1, 1,
            7, 4, 1, 1, 1, 1,
            8, 4, 1, 1, 1, 1,
            8, 7, 6, 5, 4, 1,
            5, 4, 1, 1, 1, 1,
        ]),
    ];
    let lists: [(&str, Vec<i64>); 8] = [
        ("target_l_all", vec![4, 3, 3, 6, 3]),
        ("batch_idx", vec![1, 3, 5]),
        ("batch_l", vec![2, 2, 1]),
        ("batch_w", vec![3, 4, 5]),
        ("target_l", vec![4, 6, 3]),
        ("target_nonzeros", vec![5, 7, 2]),
        ("source_size", vec![7]),
        ("target_size", vec![8]),
    ];
    let tables = tables
        .into_iter()
        .map(|(name, values)| (name, (vec![5, 6], values)));
    let lists = lists
        .into_iter()
        .map(|(name, values)| (name, (vec![values.len() as u64], values)));
    tables.chain(lists).collect()
}

fn save(dir: &Path, parts: &Parts) -> PathBuf {
    let mut builder = FileBuilder::new();
    for (name, (shape, values)) in parts {
        builder
            .create_dataset(name)
            .with_i64_data(values)
            .with_shape(shape);
    }
    file(dir, "x.hdf5", builder.finish().unwrap())
}

fn read(parts: &Parts) -> Result<Dataset, DataError> {
    let dir = tempfile::tempdir().unwrap();
    hdf5::read(&save(dir.path(), parts))
}

/// `small()` as h5py 3.16 with HDF5 2.0 writes it with `libver='latest'`: in compressed chunks, and without
/// limits on its dimensions.
const NEWER: [&[u8]; 2] = [
    include_bytes!("fixtures/latest.hdf5"),
    include_bytes!("fixtures/resizable.hdf5"),
];

#[test]
fn a_newer_form_is_refused_with_the_command_that_rewrites_it() {
    let dir = tempfile::tempdir().unwrap();
    for bytes in NEWER {
        let error = hdf5::read(&file(dir.path(), "it's-train.hdf5", bytes)).unwrap_err();
        assert!(matches!(error, DataError::NewerHdf5 { .. }), "{error}");
        let said = error.to_string();
        let (_, command) = said.split_once('\n').unwrap();
        assert!(command.starts_with("python3 -c 'import h5py"), "{said}");
        assert!(command.ends_with(r"/it'\''s-train.h5'"), "{said}");
        assert_eq!(command.lines().count(), 1);
    }
    let error = hdf5::read(&file(dir.path(), "x.h5", NEWER[0])).unwrap_err();
    assert!(error.to_string().ends_with("/x.hdf5'"), "{error}");
}

#[test]
fn the_file_is_right_before_it_is_broken() {
    assert_eq!(read(&parts()).unwrap(), small());
}

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.hdf5");
    for columns in [0, 52] {
        hdf5::write(&path, &small(), columns).unwrap();
        assert_eq!(hdf5::read(&path).unwrap(), small());
    }
}

#[test]
fn a_last_sentence_in_no_batch_is_allowed() {
    let mut lost = parts();
    for name in [
        "batch_idx",
        "batch_l",
        "batch_w",
        "target_l",
        "target_nonzeros",
    ] {
        let (shape, values) = lost.get_mut(name).unwrap();
        (*shape, _) = (vec![2], values.pop());
    }
    let data = read(&lost).unwrap();
    assert_eq!((data.sentences().len(), data.counts().sentences), (5, 4));
}

#[test]
fn integers_of_other_widths_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = FileBuilder::new();
    for (number, (name, (shape, values))) in parts().into_iter().enumerate() {
        let set = builder.create_dataset(name);
        match number % 4 {
            0 => set.with_i32_data(&values.iter().map(|&v| v as i32).collect::<Vec<_>>()),
            1 => set.with_u8_data(&values.iter().map(|&v| v as u8).collect::<Vec<_>>()),
            2 => set.with_i16_data(&values.iter().map(|&v| v as i16).collect::<Vec<_>>()),
            _ => set.with_u64_data(&values.iter().map(|&v| v as u64).collect::<Vec<_>>()),
        };
        set.with_shape(&shape);
    }
    let path = file(dir.path(), "x.hdf5", builder.finish().unwrap());
    assert_eq!(hdf5::read(&path).unwrap(), small());
}

#[test]
fn each_dataset_missing_floating_or_of_wrong_rank() {
    for name in parts().into_keys() {
        let place = format!("dataset `{name}`");
        let mut without = parts();
        without.remove(name);
        assert_says(read(&without), &["x.hdf5", &place, "not found"]);

        let mut flat = parts();
        let (shape, _) = flat.get_mut(name).unwrap();
        *shape = if shape.len() == 1 {
            vec![shape[0], 1]
        } else {
            vec![30]
        };
        assert_says(read(&flat), &["x.hdf5", &place, "dimensions"]);

        let dir = tempfile::tempdir().unwrap();
        let mut builder = FileBuilder::new();
        for (other, (shape, values)) in parts() {
            let set = builder.create_dataset(other);
            if other == name {
                set.with_f64_data(&vec![1.0; values.len()])
                    .with_shape(&shape);
            } else {
                set.with_i64_data(&values).with_shape(&shape);
            }
        }
        let path = file(dir.path(), "x.hdf5", builder.finish().unwrap());
        assert_says(hdf5::read(&path), &["x.hdf5", &place, "f64"]);
    }
}

#[test]
fn wrong_values_are_named_with_dataset_and_row() {
    // Which value of which dataset becomes what, and what the error says.
    #[rustfmt::skip]
    let cases: &[(&str, usize, i64, &[&str])] = &[
        ("source", 13, 0, &["`source`, row 2", "column 1", "index 0 is not in 1..=7"]),
        ("source", 13, 8, &["`source`, row 2", "index 8 is not in 1..=7"]),
        ("source", 13, -3, &["`source`, row 2", "index -3"]),
        ("source", 13, i64::MAX, &["`source`, row 2", "is not in 1..=7"]),
        ("source", 13, 1, &["`source`, row 2", "column 2: a word after the padding of column 1"]),
        ("target", 29, 9, &["`target`, row 4", "index 9 is not in 1..=8"]),
        ("target", 8, 1, &["`target_l_all`, row 1", "2 words"]),
        ("target_output", 7, 5, &["`target_output`, row 1", "column 1", "shifted left"]),
        ("target_output", 29, 4, &["`target_output`, row 4", "column 5", "shifted left"]),
        ("target_l_all", 3, 5, &["`target_l_all`, row 3", "6 words"]),
        ("batch_idx", 1, 0, &["`batch_idx`, row 1", "0 is not in 3..=5"]),
        ("batch_idx", 1, 2, &["`batch_idx`, row 1", "2 is not in 3..=5"]),
        ("batch_idx", 2, 6, &["`batch_idx`, row 2", "6 is not in 5..=5"]),
        ("batch_l", 2, 2, &["`batch_l`, row 2", "2 is not in 1..=1"]),
        ("batch_l", 0, 0, &["`batch_l`, row 0", "0 is not in"]),
        ("batch_l", 0, i64::MAX, &["`batch_l`, row 0", "is not in 1..=5"]),
        ("batch_l", 0, 3, &["`batch_w`, row 0", "row 2 of `source` has 4"]),
        ("batch_w", 2, 7, &["`batch_w`, row 2", "row 4 of `source` has 5"]),
        ("target_l", 1, 5, &["`target_l`, row 1", "5, but the rows of the batch give 6"]),
        ("target_l", 1, 99, &["`target_l`, row 1", "99, but"]),
        ("target_nonzeros", 0, 4, &["`target_nonzeros`, row 0", "4, but", "give 5"]),
        ("source_size", 0, 6, &["`source`, row 3", "index 7 is not in 1..=6"]),
        ("source_size", 0, 3, &["`source_size`", "3 is no vocabulary size"]),
        ("target_size", 0, -1, &["`target_size`", "-1 is no vocabulary size"]),
        ("target_size", 0, 1 << 40, &["`target_size`", "is no vocabulary size"]),
    ];
    for &(name, at, value, says) in cases {
        let mut broken = parts();
        broken.get_mut(name).unwrap().1[at] = value;
        assert_says(read(&broken), &[&["x.hdf5"], says].concat());
    }
    let mut empty = parts();
    empty.get_mut("source").unwrap().1[..6].fill(1);
    assert_says(read(&empty), &["x.hdf5", "`source`, row 0", "only padding"]);
}

#[test]
fn shapes_that_do_not_agree_are_named() {
    #[rustfmt::skip]
    let cases: &[(&str, &[u64], &[&str])] = &[
        ("target", &[6, 5], &["`target`", "6 rows, where `source` has 5"]),
        ("target_output", &[6, 5], &["`target_output`", "6 rows"]),
        ("target_output", &[5, 5], &["`target_output`", "5 columns, where `target` has 6"]),
        ("target_l_all", &[4], &["`target_l_all`", "4 rows, where `target` has 5"]),
        ("batch_idx", &[0], &["`batch_idx`", "0 batches for 5 sentences"]),
        ("batch_idx", &[6], &["`batch_idx`", "6 batches for 5 sentences"]),
        ("batch_l", &[2], &["`batch_l`", "2 rows, where `batch_idx` has 3"]),
        ("target_l", &[4], &["`target_l`", "4 rows, where `batch_idx` has 3"]),
        ("source", &[5, 0], &["`source`", "0 columns"]),
        ("source_size", &[2], &["`source_size`", "2 values, not 1"]),
        ("target_size", &[0], &["`target_size`", "0 values, not 1"]),
    ];
    for &(name, new_shape, says) in cases {
        let mut broken = parts();
        let (shape, values) = broken.get_mut(name).unwrap();
        *shape = new_shape.to_vec();
        values.resize(new_shape.iter().product::<u64>() as usize, 4);
        assert_says(read(&broken), &[&["x.hdf5"], says].concat());
    }
    // No sentence at all: empty tables and lists.
    let mut none = parts();
    for (shape, values) in none.values_mut().filter(|(_, values)| values.len() > 1) {
        shape[0] = 0;
        values.clear();
    }
    assert_says(
        read(&none),
        &["x.hdf5", "`batch_idx`", "0 batches for 0 sentences"],
    );
}

#[test]
fn files_that_are_no_hdf5_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_says(
        hdf5::read(&dir.join("x.hdf5")),
        &["cannot open", "x.hdf5", "No such file"],
    );
    assert_says(hdf5::read(dir), &["cannot open", "not a file"]);
    for (name, content) in [
        ("empty.hdf5", Vec::new()),
        ("text.hdf5", b"one two three\n".repeat(100)),
        ("zeros.hdf5", vec![0; 4096]),
        ("signature.hdf5", b"\x89HDF\r\n\x1a\n".to_vec()),
        ("gzip.hdf5", crate::gzip("text")),
    ] {
        assert_says(hdf5::read(&file(dir, name, content)), &[name]);
    }
    let whole = std::fs::read(save(dir, &parts())).unwrap();
    for length in (0..whole.len()).step_by(97) {
        let cut = file(dir, "cut.hdf5", &whole[..length]);
        assert_says(hdf5::read(&cut), &["cut.hdf5"]);
    }
}

#[test]
fn training_and_validation_files_must_have_the_same_vocabularies() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let train = dir.join("x-train.hdf5");
    hdf5::write(&train, &small(), 6).unwrap();
    let mut other = parts();
    other.get_mut("target_size").unwrap().1[0] = 9;
    let valid = save(dir, &other);
    let source = DataSource::Hdf5 {
        train: train.clone(),
        valid: Some(valid),
    };
    assert_says(
        source.load(),
        &["x-train.hdf5", "x.hdf5", "8 target words", "9 target words"],
    );

    let alone = DataSource::Hdf5 { train, valid: None };
    assert!(alone.load().unwrap().source_vocab.is_none());
    file(
        dir,
        "x.src.dict",
        "<blank> 1\n<unk> 2\n<s> 3\n</s> 4\na 5\n",
    );
    assert_says(
        alone.load(),
        &["x.src.dict", "has 5 words", "x-train.hdf5", "with 7"],
    );
    file(
        dir,
        "x.src.dict",
        "<blank> 1\n<unk> 2\n<s> 3\n</s> 4\na 5\nb 6\nc 7\n",
    );
    assert_eq!(
        alone.load().unwrap().source_vocab.unwrap().word(7),
        Some("c")
    );
}
