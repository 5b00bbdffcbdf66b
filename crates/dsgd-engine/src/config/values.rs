//! Values of options.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
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

/// A mode; `auto` is none, for the one that fits.
pub(super) fn mode_or_auto() -> impl TypedValueParser<Value = Option<Mode>> {
    let modes = Mode::value_variants().iter();
    let modes = modes.filter_map(ValueEnum::to_possible_value);
    let names = std::iter::once(PossibleValue::new("auto")).chain(modes);
    PossibleValuesParser::new(names).map(|name| Mode::from_str(&name, false).ok())
}
