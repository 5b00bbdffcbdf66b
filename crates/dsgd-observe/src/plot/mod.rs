//! Pictures of runs, as the ancestor's `parse_outputs.py` made them: how perplexity falls with time and
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

use dsgd_engine::Error;

pub(crate) use axes::grouped;
pub use heading::shortened;
pub use source::{Point, Source, Unit, WorkerBar};

use canvas::{Drawn, MOST_RUNS, Picture};
use curves::{Curves, Over};
use speedup::SpeedUp;
use workers::Workers;

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Log-perplexity against time
    Time,
    /// Log-perplexity against epochs
    Epochs,
    /// Tokens a second and staleness by worker
    Workers,
    /// Speed-up by number of workers
    Speedup,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Time, Self::Epochs, Self::Workers, Self::Speedup];

    /// The name of its file, without an ending.
    pub fn file_stem(self) -> &'static str {
        match self {
            Self::Time => "perplexity-time",
            Self::Epochs => "perplexity-epochs",
            Self::Workers => "workers",
            Self::Speedup => "speedup",
        }
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

/// Draws a picture; none where the runs do not tell what it needs.
///
/// # Errors
/// When there are more runs than can be told apart.
pub fn draw(what: What, sources: &[Source], format: Format) -> Result<Option<Vec<u8>>, Error> {
    if sources.len() > MOST_RUNS {
        return Err(Error::Options(format!(
            "{} runs are too many for one picture: {MOST_RUNS} can be told apart; give fewer",
            sources.len()
        )));
    }
    let drawn = match what {
        What::Time => Curves::new(Over::Time, sources).map(|p| file(&p, format)),
        What::Epochs => Curves::new(Over::Epochs, sources).map(|p| file(&p, format)),
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
