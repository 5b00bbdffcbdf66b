//! Writing a file of the schema.

use std::io::{self, Write};
use std::path::Path;

use hdf5_pure::{FileBuilder, LibVer};

use crate::batch::PAD;
use crate::data::atomic::Pending;
use crate::data::{Cut, DataError, Dataset, Sentences};

/// Writes a dataset; the file is there in full or not at all. `columns` is W of the schema, or
/// less than the longest sentence has, to take what that needs.
pub fn write(path: &Path, data: &Dataset, columns: usize) -> Result<(), DataError> {
    let mut pending = Pending::new();
    pending.write(path, |out| write_to(out, data, columns))?;
    pending.commit()
}

/// As [`write()`], to any writer.
pub fn write_to(out: &mut impl Write, data: &Dataset, columns: usize) -> io::Result<()> {
    let sentences = data.sentences();
    let longest = sentences
        .iter()
        .map(|(source, target)| source.len().max(target.len()))
        .max();
    let columns = columns.max(longest.unwrap_or(1));
    let mut file = FileBuilder::new();
    file.with_libver_bounds(LibVer::Earliest, LibVer::V18);

    let mut table = |name: &str, row: &dyn Fn(&Sentences, usize) -> Vec<u32>| {
        let mut values = Vec::with_capacity(sentences.len() * columns);
        for number in 0..sentences.len() {
            values.extend(row(sentences, number).into_iter().map(i64::from));
            values.resize((number + 1) * columns, i64::from(PAD));
        }
        let shape = [sentences.len() as u64, columns as u64];
        file.create_dataset(name)
            .with_i64_data(&values)
            .with_shape(&shape);
    };
    table("source", &|all, row| all.source(row).to_vec());
    table("target", &|all, row| all.target(row).to_vec());
    table("target_output", &|all, row| {
        all.target(row).iter().skip(1).copied().collect()
    });

    let mut list = |name: &str, values: Vec<usize>| {
        let values: Vec<i64> = values
            .into_iter()
            .map(|value| (value as u64).cast_signed())
            .collect();
        file.create_dataset(name)
            .with_i64_data(&values)
            .with_shape(&[values.len() as u64]);
    };
    let batches = |value: fn(&Cut) -> usize| data.cuts().iter().map(value).collect();
    list(
        "target_l_all",
        sentences.iter().map(|(_, target)| target.len()).collect(),
    );
    list("batch_idx", batches(|cut| cut.rows.start + 1));
    list("batch_l", batches(|cut| cut.rows.len()));
    list("batch_w", batches(|cut| cut.source_len));
    list("target_l", batches(|cut| cut.target_len));
    list("target_nonzeros", batches(|cut| cut.target_words));
    list("source_size", vec![data.sizes().source as usize]);
    list("target_size", vec![data.sizes().target as usize]);
    file.finish_to(out).map_err(|e| match e {
        hdf5_pure::Error::Io(e) => e,
        other => io::Error::other(other.to_string()),
    })
}
