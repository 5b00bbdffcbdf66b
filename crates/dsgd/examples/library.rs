//! A run that is called as a library: no command line, no terminal, no file.
use std::error::Error;
use std::sync::Arc;

use dsgd::config::RunConfig;
use dsgd::event::Event;
use dsgd::{
    Batch, Compute, Finished, Gradient, Layout, Manifest, Model, Seat, Snapshot, Stats, TaskResult,
    TensorId, Training,
};

/// Points of the line y = 3x − 1.
pub struct Line(Manifest);

/// A hundred batches of ten points, and one to validate with.
impl Default for Line {
    fn default() -> Self {
        let layout: Layout = [("line", [2])].into_iter().collect(); // slope and intercept
        Self(Manifest {
            validation_batches: 1,
            ..Manifest::new(layout, 100)
        })
    }
}

/// Loss of ten points, and its gradient where one is wanted.
fn loss(batch: usize, line: &[f32], mut slopes: Option<&mut [f32]>) -> Stats {
    let mut loss = 0.0;
    for point in 0..10 {
        let x = (batch * 10 + point) as f32 * 0.618 % 1.0;
        let error = line[0] * x + line[1] - (3.0 * x - 1.0);
        loss += f64::from(error * error);
        if let Some(slopes) = &mut slopes {
            slopes[0] += 2.0 * error * x / 10.0;
            slopes[1] += 2.0 * error / 10.0;
        }
    }
    Stats::of_examples(loss, 10)
}

/// What each worker computes with: nothing of its own.
impl Compute for &Line {
    fn gradient(&mut self, at: Batch, p: &Snapshot, g: &mut Gradient) -> TaskResult<Stats> {
        let slopes = g.dense(TensorId(0));
        Ok(loss(at.index, p.get(TensorId(0)), Some(slopes)))
    }

    fn evaluate(&mut self, _batch: usize, p: &Snapshot) -> TaskResult<Stats> {
        Ok(loss(100, p.get(TensorId(0)), None))
    }
}

impl Model for Line {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(self))
    }
}

/// Trains with two workers; `seen` is told the loss of each epoch.
pub fn train(mut seen: impl FnMut(f64) + Send + 'static) -> Result<Finished, dsgd::Error> {
    let config = RunConfig {
        workers: Some(2),
        learning_rate: 0.3,
        epochs: 5,
        ..RunConfig::default()
    };
    Training::new(Arc::new(Line::default()), config)
        .named("line")
        .observe(move |record| {
            if let Event::EpochFinished { train, .. } = &record.event {
                seen(train.mean_loss());
            }
        })
        .run()
}

#[allow(dead_code)] // A test calls what is above.
fn main() -> Result<(), Box<dyn Error>> {
    let finished = train(|loss| println!("loss {loss:.6}"))?;
    let line = finished.params().flat();
    println!("y = {:.2} x + {:.2}", line[0], line[1]);
    Ok(())
}
