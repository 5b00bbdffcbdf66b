//! Parameters and gradient where a child reads and writes them: two files in memory, which it maps.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytemuck::cast_slice;
use bytemuck::cast_slice_mut;
use dsgd::{Fresh, Gradient, Kind, Layout, Params, Snapshot, TaskResult, TensorGradient};

/// The two files of a child. Values are `f32` in this machine's order of bytes and lie as in the [`Layout`]; of a table
/// the gradient has its touched rows from the table's place on, and their numbers, `u32`, where
/// [`numbers_of`] says.
pub(crate) struct Regions {
    layout: Arc<Layout>,
    params: File,
    gradient: File,
    /// The version that the parameters are.
    version: Option<u64>,
    /// Numbers and values of a table's touched rows on their way: as large as the most that there were.
    numbers: Vec<u32>,
    values: Vec<f32>,
}

impl Regions {
    /// Two files that are zero.
    pub(crate) fn new(layout: &Arc<Layout>) -> std::io::Result<Self> {
        // What no memory can hold is refused by the system.
        let values = 4u64.saturating_mul(layout.len() as u64);
        let tables = layout.tensors().iter().filter(|t| t.kind == Kind::Rows);
        let numbers = tables.map(|table| 4 * table.shape[0] as u64).sum::<u64>();
        Ok(Self {
            layout: Arc::clone(layout),
            params: in_memory("dsgd-params", values)?,
            gradient: in_memory("dsgd-gradient", values.saturating_add(numbers))?,
            version: None,
            numbers: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Where a child of this process opens them.
    pub(crate) fn paths(&self) -> [PathBuf; 2] {
        [&self.params, &self.gradient].map(path)
    }

    /// Makes the parameters that version: what has not changed since the last one is not written again.
    pub(crate) fn write(&mut self, params: &Snapshot) -> std::io::Result<()> {
        let before = self.version.take();
        if before == Some(params.version) {
            self.version = before;
            return Ok(());
        }
        let since = params
            .since
            .as_ref()
            .filter(|since| before == Some(since.base));
        match since {
            None => self.params.write_all_at(cast_slice(params.flat()), 0)?,
            Some(since) => {
                for (tensor, fresh) in self.layout.tensors().iter().zip(&since.tensors) {
                    let start = tensor.range.start;
                    let values = &params.flat()[tensor.range.clone()];
                    let write = |from: usize, values: &[f32]| {
                        let at = 4 * (start + from) as u64;
                        self.params.write_all_at(cast_slice(values), at)
                    };
                    match fresh {
                        Fresh::Same => {}
                        Fresh::Whole => write(0, values)?,
                        Fresh::Rows(rows) => {
                            let width = tensor.width();
                            // Neighbours at once: frequent words are.
                            for run in rows.chunk_by(|a, b| a + 1 == *b) {
                                let from = run[0] as usize * width;
                                write(from, &values[from..][..run.len() * width])?;
                            }
                        }
                    }
                }
            }
        }
        self.version = Some(params.version);
        Ok(())
    }

    /// The parameters that the child has written.
    pub(crate) fn read_params(&mut self, into: &mut Params) -> std::io::Result<()> {
        self.version = None;
        self.params
            .read_exact_at(cast_slice_mut(into.flat_mut()), 0)
    }

    /// The gradient that the child has written, with so many rows of each table, by its name.
    pub(crate) fn read_gradient(
        &mut self,
        rows: impl Fn(&str) -> usize,
        into: &mut Gradient,
    ) -> TaskResult<()> {
        let mut numbers_at = 4 * self.layout.len() as u64;
        for (tensor, part) in self.layout.tensors().iter().zip(into.tensors_mut()) {
            let at = 4 * tensor.range.start as u64;
            match part {
                TensorGradient::Dense(values) => {
                    self.gradient.read_exact_at(cast_slice_mut(values), at)?;
                }
                TensorGradient::Rows(table) => {
                    let (touched, length) = (rows(&tensor.name), tensor.shape[0]);
                    if touched > length {
                        let name = &tensor.name;
                        return Err(format!("{touched} rows of {name}, which has {length}").into());
                    }
                    let (numbers, values) = (&mut self.numbers, &mut self.values);
                    numbers.resize(touched, 0);
                    values.resize(touched * tensor.width(), 0.0);
                    self.gradient
                        .read_exact_at(cast_slice_mut(numbers), numbers_at)?;
                    self.gradient.read_exact_at(cast_slice_mut(values), at)?;
                    numbers_at += 4 * length as u64;
                    for (&row, values) in numbers.iter().zip(values.chunks(tensor.width().max(1))) {
                        let row = row as usize;
                        if row >= length || table.get(row).is_some() {
                            let name = &tensor.name;
                            return Err(format!(
                                "row {row} of {name}, which has {length}, each once"
                            )
                            .into());
                        }
                        table.row(row).copy_from_slice(values);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A file of zeros that is in no folder.
#[cfg(target_os = "linux")]
fn in_memory(name: &str, bytes: u64) -> std::io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.set_len(bytes)?;
    Ok(file)
}

#[cfg(target_os = "linux")]
fn path(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsgd::{Since, TensorId};

    fn layout() -> Arc<Layout> {
        let mut layout = Layout::new();
        layout.dense("a", &[3]);
        layout.rows("t", 4, 2);
        layout.dense("b", &[1]);
        layout.rows("u", 2, 1);
        Arc::new(layout)
    }

    fn snapshot(version: u64, value: f32, since: Option<Since>) -> Snapshot {
        let mut params = Params::zeros(layout());
        params.flat_mut().fill(value);
        Snapshot {
            since,
            ..Snapshot::new(version, Arc::new(params))
        }
    }

    #[test]
    fn what_is_fresh_is_written_and_nothing_else() {
        let mut regions = Regions::new(&layout()).unwrap();
        regions.write(&snapshot(4, 1.0, None)).unwrap();
        let since = |base| Since {
            base,
            tensors: vec![
                Fresh::Same,
                Fresh::Rows(vec![1, 3]),
                Fresh::Whole,
                Fresh::Same,
            ],
        };
        let values = |regions: &Regions| {
            let mut values = vec![0f32; layout().len()];
            regions
                .params
                .read_exact_at(cast_slice_mut(&mut values), 0)
                .unwrap();
            values
        };
        regions.write(&snapshot(5, 2.0, Some(since(4)))).unwrap();
        let mixed = [1., 1., 1., 1., 1., 2., 2., 1., 1., 2., 2., 2., 1., 1.];
        assert_eq!(values(&regions), mixed);
        // The same again is nothing to do; from another base all is written.
        regions.write(&snapshot(5, 9.0, None)).unwrap();
        assert_eq!(values(&regions), mixed);
        regions.write(&snapshot(8, 3.0, Some(since(7)))).unwrap();
        assert_eq!(values(&regions), [3.0; 14]);
        let mut params = Params::zeros(layout());
        regions.read_params(&mut params).unwrap();
        assert_eq!(params.flat(), [3.0; 14]);
    }

    #[test]
    fn a_gradient_is_read_as_it_was_written_and_rows_that_cannot_be_are_refused() {
        let mut regions = Regions::new(&layout()).unwrap();
        let values: Vec<f32> = (0..14).map(|x| x as f32).collect();
        regions
            .gradient
            .write_all_at(cast_slice(&values), 0)
            .unwrap();
        let file = regions.gradient.try_clone().unwrap();
        let numbers = |numbers: [u32; 6]| {
            file.write_all_at(cast_slice(&numbers), 4 * 14).unwrap();
        };
        numbers([3, 0, 9, 9, 1, 9]);
        let mut gradient = Gradient::new(layout());
        let rows = |name: &str| if name == "t" { 2 } else { 1 };
        regions.read_gradient(rows, &mut gradient).unwrap();
        assert_eq!(gradient.dense(TensorId(0)), [0., 1., 2.]);
        assert_eq!(gradient.row(TensorId(1), 3), [3., 4.]);
        assert_eq!(gradient.row(TensorId(1), 0), [5., 6.]);
        assert_eq!(gradient.dense(TensorId(2)), [11.]);
        assert_eq!(gradient.row(TensorId(3), 1), [12.]);
        for wrong in [[4, 0, 0, 0, 1, 0], [2, 2, 0, 0, 1, 0], [0, 1, 0, 0, 2, 0]] {
            numbers(wrong);
            gradient.clear();
            assert!(
                regions.read_gradient(rows, &mut gradient).is_err(),
                "{wrong:?}"
            );
        }
        assert!(regions.read_gradient(|_| 5, &mut gradient).is_err());
    }

    #[test]
    fn another_process_opens_them() {
        let regions = Regions::new(&layout()).unwrap();
        let [params, gradient] = regions.paths();
        for (path, bytes) in [(params, 56), (gradient, 56 + 24)] {
            let seen = std::process::Command::new("wc")
                .arg("-c")
                .arg(&path)
                .output()
                .unwrap();
            let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
            assert!(seen.starts_with(&bytes.to_string()), "{seen}");
        }
    }
}
