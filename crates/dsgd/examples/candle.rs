//! A model written with candle, trained by dsgd.
//!
//! `cargo run --release --example candle -- train -n 2` learns to tell two spirals apart in a
//! few seconds, with as many workers as you like.
//!
//! For those who know candle: the model is built by `VarBuilder` from a `VarMap` and its loss is
//! differentiated by `backward`, as always. What is not here is the optimizer: `candle_nn::optim`
//! steps on the variables of one process, dsgd on the parameters of all workers. So for each batch
//! a worker copies the parameters that it is given into its own variables ([`Network::set`]) and
//! adds what `backward` found to dsgd's gradient ([`Network::add_gradients`]). A worker's variables
//! live in its [`Worker`], made once.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Linear, Module, VarBuilder, VarMap, linear, loss};
use dsgd::{
    Batch, Compute, Gradient, Layout, Manifest, Model, Params, Seat, Snapshot, Stats, Task,
};
use dsgd::{TaskResult, TensorId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Turns that each spiral makes.
const TURNS: f32 = 1.0;

/// Points of two spirals: which of them a point is on is to be learned.
struct Spirals {
    training: Points,
    validation: Points,
    options: Options,
    manifest: Manifest,
}

/// Points in the plane, in rows of two, and the spiral of each.
struct Points {
    at: Vec<[f32; 2]>,
    spiral: Vec<u32>,
}

#[derive(clap::Args, serde::Serialize, serde::Deserialize, Clone)]
struct Options {
    /// Width of the two hidden layers
    #[arg(long, default_value_t = 32)]
    hidden: usize,
    /// Points in the training data
    #[arg(long, default_value_t = 2000)]
    points: usize,
    /// Points in a batch
    #[arg(long, default_value_t = 50)]
    batch_size: usize,
}

impl Points {
    fn random(count: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let spiral: Vec<u32> = (0..count as u32).map(|point| point % 2).collect();
        let point = |&spiral: &u32| {
            let along: f32 = random.random_range(0.1..1.0);
            let angle = (along * TURNS + spiral as f32 / 2.0) * std::f32::consts::TAU;
            let radius = 4.0 * along + random.random_range(-0.1..0.1);
            [radius * angle.cos(), radius * angle.sin()]
        };
        let at = spiral.iter().map(point).collect();
        Self { at, spiral }
    }

    /// Inputs and targets of the `size` points that begin with this one.
    fn tensors(&self, start: usize, size: usize) -> candle_core::Result<(Tensor, Tensor)> {
        let end = self.at.len().min(start.saturating_add(size));
        let (at, spiral) = (&self.at[start..end], &self.spiral[start..end]);
        let inputs = Tensor::from_slice(at.as_flattened(), (end - start, 2), &Device::Cpu)?;
        let targets = Tensor::from_slice(spiral, end - start, &Device::Cpu)?;
        Ok((inputs, targets))
    }
}

/// The model as a candle user writes it, with its variables in the order of dsgd's layout.
struct Network {
    layers: [Linear; 3],
    variables: Vec<(String, Var)>,
}

impl Network {
    fn new(hidden: usize) -> candle_core::Result<Self> {
        let map = VarMap::new();
        let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let layers = [
            linear(2, hidden, builder.pp("layer1"))?,
            linear(hidden, hidden, builder.pp("layer2"))?,
            linear(hidden, 2, builder.pp("output"))?,
        ];
        // A map has no order of its own; a layout needs one that is the same everywhere.
        let variables = map.data().lock().expect("nobody has panicked over it");
        let mut variables: Vec<_> = variables.clone().into_iter().collect();
        variables.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self { layers, variables })
    }

    fn forward(&self, inputs: &Tensor) -> candle_core::Result<Tensor> {
        let hidden = self.layers[0].forward(inputs)?.relu()?;
        let hidden = self.layers[1].forward(&hidden)?.relu()?;
        self.layers[2].forward(&hidden)
    }

    /// dsgd's parameters → candle's variables.
    fn set(&self, params: &Params) -> candle_core::Result<()> {
        for (id, (_, variable)) in self.variables.iter().enumerate() {
            let values = params.get(TensorId(id));
            variable.set(&Tensor::from_slice(values, variable.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// candle's gradients → dsgd's gradient.
    fn add_gradients(&self, found: &GradStore, gradient: &mut Gradient) -> candle_core::Result<()> {
        for (id, (_, variable)) in self.variables.iter().enumerate() {
            // A variable that the loss does not depend on has no gradient.
            let Some(found) = found.get(variable) else {
                continue;
            };
            let found = found.flatten_all()?.to_vec1::<f32>()?;
            for (sum, g) in gradient.dense(TensorId(id)).iter_mut().zip(found) {
                *sum += g;
            }
        }
        Ok(())
    }

    /// Loss, summed over the points, and how many of them are told right.
    fn judge(&self, inputs: &Tensor, targets: &Tensor) -> candle_core::Result<(Stats, u32)> {
        let logits = self.forward(inputs)?;
        let right = logits.argmax(1)?.eq(targets)?.to_dtype(DType::U32)?;
        let mean = loss::cross_entropy(&logits, targets)?.to_scalar::<f32>()?;
        let right = right.sum_all()?.to_scalar()?;
        Ok((stats(mean, targets.elem_count()), right))
    }
}

fn stats(mean_loss: f32, points: usize) -> Stats {
    Stats::of_examples(f64::from(mean_loss) * points as f64, points as u64)
}

/// What a worker computes with: the data, and a model of its own.
struct Worker<'a> {
    task: &'a Spirals,
    network: Network,
    /// Of the parameters that the network's variables hold.
    version: Option<u64>,
}

impl Worker<'_> {
    /// Copies parameters into the network, unless it has them already.
    fn set(&mut self, params: &Snapshot) -> candle_core::Result<()> {
        if self.version != Some(params.version) {
            self.network.set(params)?;
            self.version = Some(params.version);
        }
        Ok(())
    }
}

impl Compute for Worker<'_> {
    fn gradient(
        &mut self,
        batch: Batch,
        params: &Snapshot,
        into: &mut Gradient,
    ) -> TaskResult<Stats> {
        self.set(params)?;
        let size = self.task.options.batch_size;
        let (inputs, targets) = self.task.training.tensors(batch.index * size, size)?;
        let mean_loss = loss::cross_entropy(&self.network.forward(&inputs)?, &targets)?;
        self.network.add_gradients(&mean_loss.backward()?, into)?;
        Ok(stats(mean_loss.to_scalar()?, targets.elem_count()))
    }

    fn evaluate(&mut self, _: usize, params: &Snapshot) -> TaskResult<Stats> {
        self.set(params)?;
        let (inputs, targets) = self.task.validation.tensors(0, usize::MAX)?;
        Ok(self.network.judge(&inputs, &targets)?.0)
    }
}

impl Model for Spirals {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Uniform in ±1/√inputs, as candle does it, but from the run's seed: candle cannot seed
    /// its own random numbers on the CPU.
    fn init(&self, seed: u64, params: &mut Params) -> TaskResult<()> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let layout = params.layout().clone();
        for tensor in layout.tensors().iter().filter(|t| t.shape.len() == 2) {
            let bound = (tensor.width() as f32).recip().sqrt();
            for value in &mut params.flat_mut()[tensor.range.clone()] {
                *value = random.random_range(-bound..bound);
            }
        }
        Ok(())
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        let network = Network::new(self.options.hidden)?;
        Ok(Box::new(Worker {
            task: self,
            network,
            version: None,
        }))
    }
}

impl Task for Spirals {
    const ABOUT: &'static str = "two spirals told apart by a small network of candle's";
    type Options = Options;

    fn load(options: &Options, seed: u64) -> TaskResult<Self> {
        if options.batch_size == 0 || options.hidden == 0 {
            return Err("--batch-size and --hidden must be 1 or above".into());
        }
        // Asked of candle: whatever the network declares is what dsgd trains.
        let network = Network::new(options.hidden)?;
        let tensors = network.variables.iter();
        let layout: Layout = tensors.map(|(name, v)| (name, v.dims())).collect();
        Ok(Self {
            training: Points::random(options.points, seed),
            validation: Points::random(1000, seed.wrapping_add(1)),
            manifest: Manifest {
                validation_batches: 1,
                ..Manifest::new(layout, options.points.div_ceil(options.batch_size))
            },
            options: options.clone(),
        })
    }

    fn defaults(_: &Options) -> Vec<String> {
        let better = "--optimizer adam --learning-rate 0.01 --lr-schedule cosine --epochs 60";
        better.split(' ').map(str::to_owned).collect()
    }

    fn report(&self, params: &Params, _threads: usize) -> TaskResult<Vec<(String, String)>> {
        let network = Network::new(self.options.hidden)?;
        network.set(params)?;
        let (inputs, targets) = self.validation.tensors(0, usize::MAX)?;
        let (stats, right) = network.judge(&inputs, &targets)?;
        let percent = 100.0 * f64::from(right) / stats.count as f64;
        Ok(vec![("accuracy".to_owned(), format!("{percent:.1} %"))])
    }

    fn next_steps(&self, program: &str, checkpoint: &str) -> Vec<String> {
        vec![format!("How good is it? {program} eval {checkpoint}")]
    }
}

fn main() {
    dsgd::Tasks::new().with::<Spirals>("spirals").main();
}
