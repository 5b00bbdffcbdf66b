//! Your own data in a program of its own: a straight line through the points of a CSV file.
use dsgd::{Batch, Compute, DataFile, Gradient, Layout, Manifest, Model, Seat, Snapshot, Stats};
use dsgd::{Task, TaskResult, TensorId};

/// The task's options, which `--help` shows.
#[derive(Clone, clap::Args, serde::Serialize, serde::Deserialize)]
struct Options {
    /// Points, `x,y` a line. Workers on other hosts get a copy, because it is a `DataFile`
    #[arg(long)]
    csv: DataFile,
}

struct Table {
    points: Vec<[f32; 2]>,
    manifest: Manifest,
}

/// What a worker computes with: the points alone.
struct Line<'a>(&'a [[f32; 2]]);

impl Compute for Line<'_> {
    fn gradient(&mut self, at: Batch, p: &Snapshot, g: &mut Gradient) -> TaskResult<Stats> {
        let (line, slopes, mut loss) = (p.get(TensorId(0)), g.dense(TensorId(0)), 0.0);
        for [x, y] in &self.0[at.index * 10..][..10] {
            let error = line[0] * x + line[1] - y;
            loss += f64::from(error * error);
            slopes[0] += 2.0 * error * x / 10.0;
            slopes[1] += 2.0 * error / 10.0;
        }
        Ok(Stats::of_examples(loss, 10))
    }

    fn evaluate(&mut self, _batch: usize, p: &Snapshot) -> TaskResult<Stats> {
        let line = p.get(TensorId(0));
        let errors = self.0.iter().map(|[x, y]| line[0] * x + line[1] - y);
        let loss = errors.map(|error| f64::from(error * error)).sum();
        Ok(Stats::of_examples(loss, self.0.len() as u64))
    }
}

impl Model for Table {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(Line(&self.points)))
    }
}

impl Task for Table {
    type Options = Options;

    fn load(options: &Options, _seed: u64) -> TaskResult<Self> {
        let text = std::fs::read_to_string(&options.csv)
            .map_err(|error| format!("{}: {error}", options.csv.display()))?;
        let point = |(line, text): (usize, &str)| -> TaskResult<[f32; 2]> {
            let wrong = || format!("{}, line {}: no x,y", options.csv.display(), line + 1);
            let (x, y) = text.split_once(',').ok_or_else(wrong)?;
            Ok([x.trim().parse()?, y.trim().parse()?])
        };
        let points = text
            .lines()
            .enumerate()
            .map(point)
            .collect::<TaskResult<Vec<_>>>()?;
        let layout: Layout = [("line", [2])].into_iter().collect(); // slope and intercept
        let manifest = Manifest {
            validation_batches: 1,
            ..Manifest::new(layout, points.len() / 10)
        };
        Ok(Table { points, manifest })
    }
}

fn main() {
    dsgd::Tasks::new().with::<Table>("table").main();
}
