//! Rows of a CSV file told apart by logistic regression, which is judged by its accuracy.
use dsgd::{Batch, Compute, DataFile, Gradient, Layout, Manifest, Metric, Model, Seat, Snapshot};
use dsgd::{Stats, Task, TaskResult, TensorId};

#[derive(Clone, clap::Args, serde::Serialize, serde::Deserialize)]
struct Options {
    /// Rows to learn from, `feature,…,class` a line, of the classes 0 and 1
    #[arg(long)]
    csv: DataFile,
}

/// A row is 1 for the bias, its features and its class. Batch b of n is every nth row from the bth on,
/// so that a file may be sorted by class.
struct Classifier(Vec<Vec<f32>>, Manifest);

impl Classifier {
    fn rows(&self, batch: usize) -> impl ExactSizeIterator<Item = &Vec<f32>> {
        let batches = self.1.batches + self.1.validation_batches;
        self.0.iter().skip(batch).step_by(batches)
    }

    /// Sums over a batch; `learn` is given the error in each row's probability of class 1.
    fn run(&self, batch: usize, p: &Snapshot, mut learn: impl FnMut(f32, &[f32])) -> Stats {
        let mut stats = Stats::default();
        for row in self.rows(batch) {
            let (class, x) = row.split_last().expect("a row has a class");
            let score: f32 = p.get(TensorId(0)).iter().zip(x).map(|(w, x)| w * x).sum();
            let error = 1.0 / (1.0 + (-score).exp()) - class;
            learn(error, x);
            let loss = -(1.0 - error.abs()).max(f32::MIN_POSITIVE).ln();
            stats.add(&Stats::of_examples(loss.into(), 1));
            stats.sums[0] += f64::from(error.abs() < 0.5); // right: what Metric::accuracy() counts
        }
        stats
    }
}

impl Compute for &Classifier {
    fn gradient(&mut self, at: Batch, p: &Snapshot, g: &mut Gradient) -> TaskResult<Stats> {
        let mean = 1.0 / self.rows(at.index).len() as f32;
        Ok(self.run(at.index, p, |error, x| {
            let weights = g.dense(TensorId(0)).iter_mut().zip(x);
            weights.for_each(|(w, x)| *w += mean * error * x);
        }))
    }

    fn evaluate(&mut self, batch: usize, p: &Snapshot) -> TaskResult<Stats> {
        Ok(self.run(self.1.batches + batch, p, |_, _| {}))
    }
}

impl Model for Classifier {
    fn manifest(&self) -> &Manifest {
        &self.1
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(self))
    }
}

impl Task for Classifier {
    type Options = Options;

    fn load(options: &Options, _seed: u64) -> TaskResult<Self> {
        let text = std::fs::read_to_string(&options.csv)?;
        let row = |line: &str| format!("1,{line}").split(',').map(str::parse).collect();
        let rows: Vec<Vec<f32>> = text.lines().map(row).collect::<Result<_, _>>()?;
        let columns = rows.first().ok_or("the file has no rows")?.len();
        let layout: Layout = [("weights", [columns - 1])].into_iter().collect();
        let mut manifest = Manifest::new(layout, rows.len() / 11);
        manifest.validation_batches = rows.len() / 10 - manifest.batches; // the last ones
        manifest.metrics.insert(0, Metric::accuracy()); // before the loss, which every task has
        Ok(Classifier(rows, manifest))
    }
}

fn main() {
    dsgd::Tasks::new().with::<Classifier>("classifier").main();
}
