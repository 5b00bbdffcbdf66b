//! Rows of a CSV file told apart by logistic regression, which is judged by its accuracy.
use dsgd::{Batch, Compute, DataFile, Gradient, Layout, Manifest, Metric, Model, Seat, Snapshot};
use dsgd::{Stats, Task, TaskResult, TensorId};

#[derive(Clone, clap::Args, serde::Serialize, serde::Deserialize)]
struct Options {
    /// Rows to learn from, `feature,…,class` a line, of the classes 0 and 1
    #[arg(long)]
    csv: DataFile,
}

/// Rows: 1, features, class. Batch b of n is each nth row from the bth on: a file may be sorted.
struct Classifier(Vec<Vec<f32>>, Manifest);

impl Classifier {
    /// Sums over a batch; `learn` is given each row's error in the probability of class 1, over their number.
    fn run(&self, batch: usize, p: &Snapshot, mut learn: impl FnMut(f32, &[f32])) -> Stats {
        let Classifier(rows, of) = self;
        let batches = of.batches + of.validation_batches;
        let rows = rows.iter().skip(batch).step_by(batches);
        let (mut stats, number) = (Stats::default(), rows.len() as f32);
        for row in rows {
            let (class, x) = row.split_last().expect("a row has a class");
            let score: f32 = p.get(TensorId(0)).iter().zip(x).map(|(w, x)| w * x).sum();
            let error = 1.0 / (1.0 + (-score).exp()) - class;
            learn(error / number, x);
            let loss = -(1.0 - error.abs()).max(f32::MIN_POSITIVE).ln();
            stats.add(&Stats::of_examples(loss.into(), 1));
            stats.sums[0] += f64::from(error.abs() < 0.5); // right: what Metric::accuracy() counts
        }
        stats
    }
}

impl Compute for &Classifier {
    fn gradient(&mut self, at: Batch, p: &Snapshot, g: &mut Gradient) -> TaskResult<Stats> {
        Ok(self.run(at.index, p, |error, x| {
            let weights = g.dense(TensorId(0)).iter_mut().zip(x);
            weights.for_each(|(w, x)| *w += error * x);
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
        let file = options.csv.display();
        let text = std::fs::read_to_string(&options.csv).map_err(|e| format!("{file}: {e}"))?;
        let features = text.lines().next().unwrap_or("").split(',').count(); // and 1, but no class
        let mut rows: Vec<Vec<f32>> = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let row = format!("1,{line}");
            let row: Vec<f32> = row.split(',').flat_map(str::parse).collect();
            let fits = row.len() == features + 1 && [0.0, 1.0].contains(&row[features]);
            let wrong = || format!("{file}, line {number}: not {features} numbers, 0 or 1 last");
            fits.then(|| rows.push(row)).ok_or_else(wrong)?;
        }
        let layout: Layout = [("weights", [features])].into_iter().collect();
        let mut manifest = Manifest::new(layout, rows.len() / 11);
        manifest.validation_batches = rows.len() / 10 - manifest.batches; // the last ones
        manifest.metrics.insert(0, Metric::accuracy()); // before the loss, which every task has
        Ok(Classifier(rows, manifest))
    }
}

fn main() {
    dsgd::Tasks::new().with::<Classifier>("classifier").main();
}
