//! Your own model in a program of its own: a straight line through a thousand noisy points.
use dsgd::{
    Batch, Compute, Gradient, Manifest, Model, Seat, Snapshot, Stats, Task, TaskResult, TensorId,
};

/// Points near y = 3x − 1, in batches of ten.
struct Linear(Vec<[f32; 2]>, Manifest);

impl Model for Linear {
    fn manifest(&self) -> &Manifest {
        &self.1
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(|at: Batch, p: &Snapshot, g: &mut Gradient| {
            let (line, slopes, mut loss) = (p.get(TensorId(0)), g.dense(TensorId(0)), 0.0);
            for [x, y] in &self.0[at.index * 10..][..10] {
                let error = line[0] * x + line[1] - y;
                loss += f64::from(error * error);
                slopes[0] += 2.0 * error * x / 10.0;
                slopes[1] += 2.0 * error / 10.0;
            }
            Ok(Stats::of_examples(loss, 10))
        }))
    }
}

impl Task for Linear {
    type Options = dsgd::NoOptions;
    fn load(_: &dsgd::NoOptions, _seed: u64) -> TaskResult<Self> {
        let point = |x: f32| [x, 3.0 * x - 1.0 + 0.1 * (999.0 * x).sin()];
        let points = (0..1000).map(|i| point(i as f32 * 0.618 % 1.0));
        let layout = [("line", [2])].into_iter().collect::<dsgd::Layout>(); // slope and intercept
        Ok(Linear(points.collect(), Manifest::new(layout, 100)))
    }
}

fn main() {
    dsgd::Tasks::new().with::<Linear>("linear").main();
}
