//! A small model with everything that a model may have: a table of rows, dense tensors, dropout,
//! validation. And trouble on demand.

use std::fs::{File, read_to_string};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, id};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use dsgd::{
    Batch, Compute, DataFile, Gradient, Layout, Manifest, Metric, Model, Params, Seat, Snapshot,
    Stats, Task, TaskResult, TensorId,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const WORDS: usize = 30;
pub(crate) const WIDTH: usize = 4;
pub(crate) const TABLE: TensorId = TensorId(0);
pub(crate) const MIX: TensorId = TensorId(1);
pub(crate) const BIAS: TensorId = TensorId(2);

const VALIDATION_BATCHES: usize = 3;

/// Pairs of words and a number for each pair, to be learned by a linear layer over embeddings.
pub(crate) struct Words {
    options: Options,
    manifest: Manifest,
    trouble: Trouble,
    /// Gradients that this process has begun to compute.
    begun: AtomicU64,
}

#[derive(clap::Args, serde::Serialize, serde::Deserialize, Clone, Debug)]
pub(crate) struct Options {
    /// Training examples
    #[arg(long, default_value_t = 195)]
    pub(crate) examples: usize,
    /// Examples of a batch; the last one may be smaller
    #[arg(long, default_value_t = 10)]
    pub(crate) batch_size: usize,
    /// Share of the inputs that is dropped
    #[arg(long, default_value_t = 0.2)]
    pub(crate) dropout: f32,
    /// Width of one more tensor, which nothing depends on
    #[arg(long, default_value_t = 0)]
    pub(crate) ballast: usize,
    /// Size of the numbers to be learned
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f32,
    /// What goes wrong; the variable TROUBLE says so for one process
    #[arg(long, default_value = "")]
    pub(crate) trouble: String,
    /// A file of numbers, one a line
    #[arg(long)]
    pub(crate) data: Option<DataFile>,
    /// Into how many parts a batch may be cut
    #[arg(long, default_value_t = 1)]
    pub(crate) most_parts: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Trouble {
    None,
    /// Each batch takes a random time, so that workers finish in a random order.
    Jitter,
    /// The gradient of that number panics.
    Panic(u64),
    PanicAlways,
    ErrorAlways,
    NanAlways,
    /// The gradient of that number takes for ever.
    Hang(u64),
    /// When the run is over, the process stays for ever.
    Linger,
    /// Each gradient takes so many milliseconds.
    Slow(u64),
    /// The process is killed with the gradient of that number.
    Die(u64),
    /// Ctrl-C while the gradient of that number is computed.
    Interrupt(u64),
    /// A file takes all the space that is left while the gradient of that number is computed.
    Fill(u64, PathBuf),
}

impl Trouble {
    fn parse(text: &str) -> TaskResult<Self> {
        let mut words = text.splitn(3, ':');
        let kind = words.next().unwrap_or_default();
        let number = words.next().unwrap_or("0").parse()?;
        Ok(match kind {
            "" => Self::None,
            "jitter" => Self::Jitter,
            "panic" if number == 0 => Self::PanicAlways,
            "panic" => Self::Panic(number),
            "error" => Self::ErrorAlways,
            "nan" => Self::NanAlways,
            "linger" => Self::Linger,
            "hang" => Self::Hang(number),
            "slow" => Self::Slow(number),
            "die" => Self::Die(number),
            "interrupt" => Self::Interrupt(number),
            "fill" => Self::Fill(number, words.next().unwrap_or_default().into()),
            other => return Err(format!("no trouble of the kind {other:?}").into()),
        })
    }
}

impl Words {
    /// The model without the trouble, for loops of a test's own.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            manifest: manifest(&options),
            options,
            trouble: Trouble::None,
            begun: AtomicU64::new(0),
        }
    }

    fn make_trouble(&self) -> TaskResult<()> {
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        match &self.trouble {
            Trouble::Jitter => {
                let micros = RandomState::new().hash_one(number) % 300;
                thread::sleep(Duration::from_micros(micros));
            }
            Trouble::Panic(at) if *at == number => panic!("trouble with gradient {number}"),
            Trouble::PanicAlways => panic!("trouble as ever"),
            Trouble::ErrorAlways => return Err("panicked in words only".into()),
            Trouble::Hang(at) if *at == number => loop {
                thread::park();
            },
            Trouble::Slow(millis) => thread::sleep(Duration::from_millis(*millis)),
            Trouble::Die(at) if *at == number => {
                let pid = id().to_string();
                Command::new("kill").args(["-s", "KILL", &pid]).status()?;
            }
            Trouble::Interrupt(at) if *at == number => {
                let pid = id().to_string();
                Command::new("kill").args(["-s", "INT", &pid]).status()?;
                // A gradient that takes long, so that steps are left when the signal has arrived.
                thread::sleep(Duration::from_millis(50));
            }
            Trouble::Fill(at, path) if *at == number => {
                let mut file = File::create(path)?;
                while file.write_all(&[1; 1024]).is_ok() {}
                while file.write_all(&[1]).is_ok() {}
            }
            _ => {}
        }
        Ok(())
    }

    fn example(&self, number: usize) -> (usize, usize, f32) {
        let (a, b) = (number * 7 % WORDS, (number * 13 + number / WORDS) % WORDS);
        (
            a,
            b,
            self.options.scale * ((a as f32).sin() - (b as f32).cos()),
        )
    }

    /// Error of one example; the inputs are those of the two words, each multiplied by its mask.
    fn error(
        &self,
        params: &Params,
        example: usize,
        mask: &[f32; 2 * WIDTH],
    ) -> (f32, [f32; 2 * WIDTH]) {
        let (a, b, wanted) = self.example(example);
        let table = params.get(TABLE);
        let input = |k: usize| {
            let word = if k < WIDTH { a } else { b };
            table[word * WIDTH + k % WIDTH] * mask[k]
        };
        let inputs: [f32; 2 * WIDTH] = std::array::from_fn(input);
        let mixed = inputs.iter().zip(params.get(MIX)).map(|(x, w)| x * w);
        (mixed.sum::<f32>() + params.get(BIAS)[0] - wanted, inputs)
    }
}

impl Model for Words {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn init(&self, seed: u64, params: &mut Params) -> TaskResult<()> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        params
            .flat_mut()
            .fill_with(|| random.random_range(-0.5..0.5));
        Ok(())
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(self))
    }
}

/// It needs nothing of its own.
impl Compute for &Words {
    fn gradient(
        &mut self,
        batch: Batch,
        params: &Snapshot,
        gradient: &mut Gradient,
    ) -> TaskResult<Stats> {
        self.make_trouble()?;
        let mut random = ChaCha8Rng::seed_from_u64(batch.seed);
        let dropout = self.options.dropout;
        let start = batch.index * self.options.batch_size;
        let end = self.options.examples.min(start + self.options.batch_size);
        let rows = batch.part.rows(end - start, 1);
        let (count, mut loss) = (rows.len() as f32, 0.0);
        // What is random in a row depends on its place in the batch.
        for (row, example) in (start..end).enumerate() {
            let mask = std::array::from_fn(|_| {
                if random.random::<f32>() < dropout {
                    0.0
                } else {
                    1.0 / (1.0 - dropout)
                }
            });
            if !rows.contains(&row) {
                continue;
            }
            let (error, inputs) = self.error(params, example, &mask);
            loss += f64::from(error * error);
            let slope = 2.0 * error / count;
            let (a, b, _) = self.example(example);
            for (k, input) in inputs.iter().enumerate() {
                let word = if k < WIDTH { a } else { b };
                gradient.dense(MIX)[k] += slope * input;
                gradient.row(TABLE, word)[k % WIDTH] += slope * params.get(MIX)[k] * mask[k];
            }
            gradient.dense(BIAS)[0] += slope;
        }
        if self.trouble == Trouble::NanAlways {
            gradient.dense(BIAS)[0] = f32::NAN;
        }
        Ok(Stats {
            units: [2, 1].map(|tokens| tokens * rows.len() as u64),
            ..Stats::of_examples(loss, rows.len() as u64)
        })
    }

    fn evaluate(&mut self, batch: usize, params: &Snapshot) -> TaskResult<Stats> {
        let losses = (0..10).map(|example| {
            let example = self.options.examples + batch * 10 + example;
            let (error, _) = self.error(params, example, &[1.0; 2 * WIDTH]);
            f64::from(error * error)
        });
        Ok(Stats::of_examples(losses.sum(), 10))
    }
}

impl Task for Words {
    const ABOUT: &'static str = "pairs of words";
    type Options = Options;

    fn load(options: &Options, _seed: u64) -> TaskResult<Self> {
        if let Some(file) = &options.data {
            let path = file.display();
            let text = read_to_string(file).map_err(|e| format!("{path}: {e}"))?;
            for (number, line) in text.lines().enumerate() {
                let value: f32 = line.trim().parse().unwrap_or(f32::NAN);
                if value.is_nan() {
                    let number = number + 1;
                    return Err(format!("{path}, line {number}: {line:?} is no number").into());
                }
            }
        }
        let trouble = std::env::var("TROUBLE").unwrap_or_else(|_| options.trouble.clone());
        let trouble = Trouble::parse(&trouble)?;
        let words = Self::new(options.clone());
        Ok(Self { trouble, ..words })
    }

    fn next_steps(&self, _program: &str, _checkpoint: &str) -> Vec<String> {
        if self.trouble != Trouble::Linger {
            return Vec::new();
        }
        loop {
            thread::park();
        }
    }
}

fn manifest(options: &Options) -> Manifest {
    let mut layout = Layout::new();
    layout.rows("table", WORDS, WIDTH);
    layout.dense("mix", &[2 * WIDTH]);
    layout.dense("bias", &[1]);
    if options.ballast > 0 {
        layout.dense("ballast", &[options.ballast]);
    }

    let batches = options.examples.div_ceil(options.batch_size);
    Manifest {
        validation_batches: VALIDATION_BATCHES,
        most_parts: options.most_parts,
        metrics: vec![Metric::perplexity()],
        units: ["source tokens", "target tokens"].into(),
        ..Manifest::new(layout, batches)
    }
}
