//! How the picture's text looks.

use dsgd_core::metric::{Metric, Value};
use ratatui::style::{Color, Modifier, Style};

/// Quiet text.
pub(super) const DIM: Style = Style::new().add_modifier(Modifier::DIM);
/// Text that matters.
pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
/// Something is wrong.
pub(super) const BAD: Style = Style::new().fg(Color::Indexed(9));

/// A metric's value in as many digits as there is room for.
pub(super) fn value(metric: &Metric, value: f64) -> String {
    match value {
        value if metric.value != Value::Perplexity => metric.words(value),
        ..10_000.0 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}
