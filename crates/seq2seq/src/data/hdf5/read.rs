//! Reading a file of the schema, and checking all of it.

use std::path::Path;

use super::arrays::{Array, Arrays};
use crate::batch::PAD;
use crate::data::sentences::Rows;
use crate::data::{Cut, DataError, Dataset, Sentences, Sizes};

/// Reads a dataset. A file that is wrong anywhere is refused, with the place.
pub fn read(path: &Path) -> Result<Dataset, DataError> {
    let arrays = Arrays::open(path)?;
    let sizes = Sizes {
        source: vocabulary_size(&arrays, "source_size")?,
        target: vocabulary_size(&arrays, "target_size")?,
    };
    let source = arrays.table("source")?;
    let target = arrays.table("target")?;
    target.want_rows(source.rows, "source")?;
    let mut sources = Rows::default();
    source.for_each(|row, values| {
        sources.push(&words(values, sizes.source).map_err(|problem| source.value(row, problem))?);
        Ok(())
    })?;
    let targets = read_targets(&arrays, &target, sizes.target)?;
    let sentences = Sentences::from_rows(sources, targets);
    let batches = read_batches(&arrays, &sentences)?;
    Ok(Dataset::from_parts(sentences, batches, sizes))
}

fn vocabulary_size(arrays: &Arrays, name: &'static str) -> Result<u32, DataError> {
    let list = arrays.list(name)?;
    match list.values()?[..] {
        [size] => u32::try_from(size)
            .ok()
            .filter(|&size| size >= 4)
            .ok_or_else(|| list.value(0, format!("{size} is no vocabulary size (4 or more)"))),
        ref several => Err(arrays.error(name, format!("has {} values, not 1", several.len()))),
    }
}

/// The words of a padded row: indices in 1 ..= size, nothing after the first padding.
fn words(row: &[i64], size: u32) -> Result<Vec<u32>, String> {
    let mut words = Vec::with_capacity(row.len());
    let mut padding = None;
    for (column, &value) in row.iter().enumerate() {
        let word = u32::try_from(value)
            .ok()
            .filter(|word| (1..=size).contains(word));
        match (word, padding) {
            (None, _) => {
                return Err(format!(
                    "column {column}: index {value} is not in 1..={size}"
                ));
            }
            (Some(PAD), _) => padding = padding.or(Some(column)),
            (Some(_), Some(before)) => {
                return Err(format!(
                    "column {column}: a word after the padding of column {before}"
                ));
            }
            (Some(word), None) => words.push(word),
        }
    }
    if words.is_empty() {
        Err("holds only padding".to_owned())
    } else {
        Ok(words)
    }
}

/// `target`, with `target_output` and `target_l_all`, which follow from it.
fn read_targets(arrays: &Arrays, target: &Array<'_>, size: u32) -> Result<Rows, DataError> {
    let output = arrays.table("target_output")?;
    let length = arrays.list("target_l_all")?;
    output.want_rows(target.rows, "target")?;
    length.want_rows(target.rows, "target")?;
    if output.columns != target.columns {
        let (has, wanted) = (output.columns, target.columns);
        let problem = format!("has {has} columns, where `target` has {wanted}");
        return Err(arrays.error("target_output", problem));
    }
    let lengths = length.values()?;
    let mut rows = Rows::default();
    target.for_each(|row, values| {
        let words = words(values, size).map_err(|problem| target.value(row, problem))?;
        if !lengths
            .get(row)
            .is_some_and(|&length| is(length, words.len()))
        {
            let problem = format!("is not the {} words of the row of `target`", words.len());
            return Err(length.value(row, problem));
        }
        rows.push(&words);
        Ok(())
    })?;
    output.for_each(|row, values| {
        let wanted = rows.get(row).iter().skip(1).chain(std::iter::repeat(&PAD));
        match values
            .iter()
            .zip(wanted)
            .position(|(&value, &wanted)| value != i64::from(wanted))
        {
            Some(column) => {
                let problem = format!("column {column}: is not `target` shifted left by one");
                Err(output.value(row, problem))
            }
            None => Ok(()),
        }
    })?;
    Ok(rows)
}

fn read_batches(arrays: &Arrays, sentences: &Sentences) -> Result<Vec<Cut>, DataError> {
    let first = arrays.list("batch_idx")?;
    if first.rows == 0 || first.rows > sentences.len() {
        let (batches, rows) = (first.rows, sentences.len());
        return Err(arrays.error(
            "batch_idx",
            format!("{batches} batches for {rows} sentences"),
        ));
    }
    let list = |name| -> Result<(Array<'_>, Vec<i64>), DataError> {
        let list = arrays.list(name)?;
        list.want_rows(first.rows, "batch_idx")?;
        let values = list.values()?;
        Ok((list, values))
    };
    let (rows, rows_values) = list("batch_l")?;
    let (source_len, source_len_values) = list("batch_w")?;
    let (target_len, target_len_values) = list("target_l")?;
    let (nonzeros, nonzeros_values) = list("target_nonzeros")?;

    let mut batches: Vec<Cut> = Vec::new();
    for (batch, &index) in first.values()?.iter().enumerate() {
        let free = batches.last().map_or(0, |cut| cut.rows.end);
        let total = sentences.len();
        let start = usize::try_from(index)
            .ok()
            .and_then(|index| index.checked_sub(1));
        let start = start
            .filter(|start| (free..total).contains(start))
            .ok_or_else(|| {
                let low = free + 1;
                first.value(
                    batch,
                    format!("{index} is not in {low}..={total} (counted from 1)"),
                )
            })?;
        let count = rows_values[batch];
        let end = usize::try_from(count).ok().filter(|&count| count > 0);
        let end = end
            .and_then(|count| start.checked_add(count))
            .filter(|&end| end <= total);
        let end = end.ok_or_else(|| {
            let left = total - start;
            rows.value(
                batch,
                format!("{count} is not in 1..={left}, the rows that there are"),
            )
        })?;
        let cut = Cut::measure(sentences, start..end);
        let width = source_len_values[batch];
        let odd = (start..end).find(|&row| !is(width, sentences.source(row).len()));
        if let Some(row) = odd {
            let has = sentences.source(row).len();
            let problem = format!("{width} words, but row {row} of `source` has {has}");
            return Err(source_len.value(batch, problem));
        }
        for (array, value, wanted) in [
            (&target_len, target_len_values[batch], cut.target_len),
            (&nonzeros, nonzeros_values[batch], cut.target_words),
        ] {
            if !is(value, wanted) {
                let problem = format!("{value}, but the rows of the batch give {wanted}");
                return Err(array.value(batch, problem));
            }
        }
        batches.push(cut);
    }
    Ok(batches)
}

/// Whether a value of a file is this count.
fn is(value: i64, count: usize) -> bool {
    usize::try_from(value) == Ok(count)
}
