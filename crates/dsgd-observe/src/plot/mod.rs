//! Pictures of runs, as the ancestor's `parse_outputs.py` made them: how metrics change with time and
//! epochs, what each worker did, what more workers bring.
//!
//! A picture is made of one or several [`Source`]s: folders of runs, and logs of the ancestor. What
//! stands on a picture is text and lines that any viewer shows; nothing of the system is needed to
//! make one, no font either.

mod axes;
mod canvas;
mod curves;
mod heading;
mod lua_lua;
mod read;
mod source;
mod speedup;
mod workers;

use clap::ValueEnum;

use dsgd_core::metric::Metric;
use dsgd_engine::Error;

pub(crate) use axes::grouped;
pub(crate) use curves::capitalized;
pub use heading::shortened;
pub use source::{Curve, Point, Source, WorkerBar};

use canvas::{Drawn, MOST_RUNS, Picture};
use curves::{Curves, Over};
use speedup::SpeedUp;
use workers::Workers;

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Each metric against time
    Time,
    /// Each metric against epochs
    Epochs,
    /// Speed and staleness by worker
    Workers,
    /// Speed-up by number of workers
    Speedup,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Time, Self::Epochs, Self::Workers, Self::Speedup];

    /// The name of its file, without an ending, where it is of that metric.
    pub fn file_stem(self, metric: &Metric) -> String {
        match self {
            Self::Time => format!("{}-time", metric.key()),
            Self::Epochs => format!("{}-epochs", metric.key()),
            Self::Workers => "workers".to_owned(),
            Self::Speedup => "speedup".to_owned(),
        }
    }

    /// Whether there is one of each metric.
    pub fn is_curve(self) -> bool {
        matches!(self, Self::Time | Self::Epochs)
    }

    /// What it needs, for who asks why there is none.
    pub fn needs(self) -> &'static str {
        match self {
            Self::Time => "a run that tells when its steps were made",
            Self::Epochs => "a run with steps",
            Self::Workers => "a run that tells of its workers, which lua-lua's logs do not",
            Self::Speedup => "runs with different numbers of workers (-n 1, -n 2, …)",
        }
    }
}

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Pixels, 1200 by 800
    Png,
    /// Lines and text
    Svg,
}

impl Format {
    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Svg => "svg",
        }
    }
}

/// The metrics of these runs, as often as they are different.
pub fn metrics(sources: &[Source]) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for curve in sources.iter().flat_map(|source| &source.curves) {
        if metrics
            .iter()
            .all(|metric| metric.key() != curve.metric.key())
        {
            metrics.push(curve.metric.clone());
        }
    }
    metrics
}

/// Draws a picture, if it is one of curves then of that metric; none where the runs do not tell what it needs.
///
/// # Errors
/// When there are more runs than can be told apart.
pub fn draw(
    what: What,
    metric: &Metric,
    sources: &[Source],
    format: Format,
) -> Result<Option<Vec<u8>>, Error> {
    if sources.len() > MOST_RUNS {
        return Err(Error::Options(format!(
            "{} runs are too many for one picture: {MOST_RUNS} can be told apart; give fewer",
            sources.len()
        )));
    }
    let drawn = match what {
        What::Time => Curves::new(Over::Time, metric, sources).map(|p| file(&p, format)),
        What::Epochs => Curves::new(Over::Epochs, metric, sources).map(|p| file(&p, format)),
        What::Workers => Workers::new(sources).map(|p| file(&p, format)),
        What::Speedup => SpeedUp::new(sources).map(|p| file(&p, format)),
    };
    let drawn = drawn.transpose();
    drawn.map_err(|why| Error::Options(format!("the picture could not be drawn: {why}")))
}

fn file(picture: &impl Picture, format: Format) -> Drawn<Vec<u8>> {
    match format {
        Format::Svg => canvas::svg(picture).map(String::into_bytes),
        Format::Png => canvas::png(picture),
    }
}
