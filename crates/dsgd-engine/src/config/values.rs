//! Values of options.

use clap::{Args, FromArgMatches, ValueEnum};

use dsgd_core::mode::Mode;

/// The value of options of which none is typed.
pub(super) fn defaults<C: Args + FromArgMatches>() -> C {
    let command = C::augment_args(clap::Command::new("")).no_binary_name(true);
    let matches = command.get_matches_from([""; 0]);
    C::from_arg_matches(&matches).expect("every option has a default or is optional")
}

/// A number, as an option's value.
pub(super) fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("must be a number".to_owned()),
    }
}

/// A number above 0, as an option's value.
pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("must be a number above 0".to_owned()),
    }
}

/// A mode, or none for the one that fits.
pub(super) fn mode_or_auto(text: &str) -> Result<Option<Mode>, String> {
    let modes = || Mode::value_variants().iter();
    let name = |mode: &Mode| {
        mode.to_possible_value()
            .map(|value| value.get_name().to_owned())
    };
    if text == "auto" {
        return Ok(None);
    }
    let mode = modes().find(|mode| name(mode).as_deref() == Some(text));
    let names: Vec<_> = modes().filter_map(name).collect();
    let unknown = || format!("it is auto, {}", names.join(", "));
    mode.map(|mode| Some(*mode)).ok_or_else(unknown)
}
