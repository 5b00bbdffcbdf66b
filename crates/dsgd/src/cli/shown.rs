//! How a run is shown to whoever started it.

use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::log;
use dsgd_observe::Verbosity;

/// How this call is shown. The next life of a killed server is shown alike.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(super) struct Shown {
    /// Lines only, also where a terminal could show more
    #[arg(long, help_heading = "Output")]
    plain: bool,
    /// Form of what is said on standard output: text, or json for whoever collects logs
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help_heading = "Output"
    )]
    log_format: LogFormat,
    /// Serve a page about the run [default address: 127.0.0.1:3743, or another port when that is taken]
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "",
          help_heading = "Output")]
    pub(super) dashboard: Option<String>,
    /// Write what goes on inside to debug.log in the run's folder: LEVEL, or PART=LEVEL, separated by commas, such
    /// as debug,wire=trace
    #[arg(long, value_name = "FILTER", value_parser = log::filter, help_heading = "Output")]
    #[serde(default)]
    pub(super) log: Option<String>,
    /// Say only what went wrong, and the end
    #[arg(long, short, help_heading = "Output")]
    quiet: bool,
    /// Say more
    #[arg(long, short, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    verbose: u8,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

impl Shown {
    pub(super) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        }
    }

    pub(super) fn form(&self) -> Form {
        match (self.log_format, self.plain) {
            (LogFormat::Json, _) => Form::Json,
            (LogFormat::Text, true) => Form::Plain,
            (LogFormat::Text, false) => Form::Live,
        }
    }
}

/// What the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines, and a picture below them where there is a terminal.
    Live,
    /// Lines.
    Plain,
    /// Lines of JSON.
    Json,
}

impl Form {
    /// How much is said when the run is over: programs read lines of JSON, and nothing else.
    pub(super) fn last_words(self, verbosity: Verbosity) -> Verbosity {
        match self {
            Self::Json => Verbosity::Quiet,
            Self::Live | Self::Plain => verbosity,
        }
    }
}
