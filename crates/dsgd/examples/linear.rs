//! Your own model in a program of its own: a straight line through 1,000 noisy points.
use dsgd::{Batch, Gradient, Layout, Params, Stats, Task, TaskResult, TensorId};

/// y = 3x − 1 and a little noise, in batches of ten points.
struct Linear(Vec<[f32; 2]>);

#[derive(clap::Args, serde::Serialize, serde::Deserialize, Clone)]
struct Options {
    /// Size of the noise
    #[arg(long, default_value_t = 0.1)]
    noise: f32,
}

impl Task for Linear {
    type Options = Options;
    type Scratch = ();
    fn load(options: &Options, _seed: u64) -> TaskResult<Self> {
        let x = |i: usize| (i as f32 * 0.618) % 1.0;
        Ok(Linear(
            (0..1000)
                .map(|i| [x(i), 3.0 * x(i) - 1.0 + options.noise * (x(i * 7) - 0.5)])
                .collect(),
        ))
    }
    fn layout(&self) -> Layout {
        let mut layout = Layout::new();
        layout.dense("line", &[2]); // slope, intercept
        layout
    }
    fn init(&self, _seed: u64, _params: &mut Params) -> TaskResult<()> {
        Ok(())
    } // they are zero
    fn batches(&self) -> usize {
        self.0.len() / 10
    }
    fn scratch(&self, _threads: usize) {}
    fn gradient(
        &self,
        batch: Batch,
        params: &Params,
        (): &mut (),
        gradient: &mut Gradient,
    ) -> TaskResult<Stats> {
        let (line, mut loss) = (params.get(TensorId(0)), 0.0);
        for [x, y] in &self.0[batch.index * 10..][..10] {
            let error = line[0] * x + line[1] - y;
            loss += f64::from(error * error);
            gradient.dense(TensorId(0))[0] += 2.0 * error * x / 10.0;
            gradient.dense(TensorId(0))[1] += 2.0 * error / 10.0;
        }
        Ok(Stats {
            loss,
            count: 10,
            examples: 10,
            ..Stats::default()
        })
    }
}

fn main() {
    dsgd::Tasks::new().with::<Linear>("linear").main()
}
