//! How the picture's text looks.

use ratatui::style::{Color, Modifier, Style};

/// Quiet text.
pub(super) const DIM: Style = Style::new().add_modifier(Modifier::DIM);
/// Text that matters.
pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
/// Something is wrong.
pub(super) const BAD: Style = Style::new().fg(Color::Indexed(9));

/// A perplexity in as many digits as say something.
pub(super) fn ppl(value: f64) -> String {
    if value < 10_000.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.2e}")
    }
}
