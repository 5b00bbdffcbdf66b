//! Your own model in a program of its own: a straight line through a thousand noisy points.
use dsgd::{Batch, Gradient, Layout, NoOptions, Params, Stats, Task, TaskResult, TensorId};

/// Points near y = 3x − 1, in batches of ten.
struct Linear(Vec<[f32; 2]>);

impl Task for Linear {
    type Options = NoOptions;
    type Scratch = ();
    fn load(_: &NoOptions, _seed: u64) -> TaskResult<Self> {
        let point = |x: f32| [x, 3.0 * x - 1.0 + 0.1 * (999.0 * x).sin()];
        let points = (0..1000).map(|i| point(i as f32 * 0.618 % 1.0));
        Ok(Linear(points.collect()))
    }
    fn layout(&self) -> Layout {
        [("line", [2])].into_iter().collect() // slope and intercept
    }
    fn init(&self, _seed: u64, params: &mut Params) -> TaskResult<()> {
        params.flat_mut().fill(0.0);
        Ok(())
    }
    fn batches(&self) -> usize {
        self.0.len() / 10
    }
    fn scratch(&self, _threads: usize) {}
    fn gradient(&self, at: Batch, p: &Params, (): &mut (), g: &mut Gradient) -> TaskResult<Stats> {
        let (line, slopes, mut loss) = (p.get(TensorId(0)), g.dense(TensorId(0)), 0.0);
        for [x, y] in &self.0[at.index * 10..][..10] {
            let error = line[0] * x + line[1] - y;
            loss += f64::from(error * error);
            slopes[0] += 2.0 * error * x / 10.0;
            slopes[1] += 2.0 * error / 10.0;
        }
        Ok(Stats::of_examples(loss, 10))
    }
}

fn main() {
    dsgd::Tasks::new().with::<Linear>("linear").main();
}
