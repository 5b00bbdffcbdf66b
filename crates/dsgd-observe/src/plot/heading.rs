//! What stands above a frame: a title, what is meant by it, and which run is which.

use plotters::backend::DrawingBackend;

use super::canvas::{Drawn, INK, Pen, SOFT, Sheet, Side, WIDTH};

/// Space at the left and right edge.
pub(super) const EDGE: f64 = 36.0;

const TITLE_SIZE: f64 = 27.0;
const NOTE_SIZE: f64 = 16.0;
const ENTRY_SIZE: f64 = 16.0;
const ROW: f64 = 27.0;

/// Longer names lose their middle.
const LONGEST_NAME: usize = 34;

/// How an entry of the legend shows its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sample {
    /// A line with a marker.
    Curve,
    /// A marker.
    Mark,
    /// A square of its colour.
    Bar,
}

/// Draws it; returns where it ends.
pub(super) fn draw<B: DrawingBackend>(
    sheet: &Sheet<'_, B>,
    (title, note): (&str, &str),
    names: &[(String, Pen)],
    sample: Sample,
) -> Drawn<f64> {
    sheet.text(title, (EDGE, 42.0), TITLE_SIZE, (INK, true), Side::Right)?;
    sheet.text(note, (EDGE, 76.0), NOTE_SIZE, (SOFT, false), Side::Right)?;
    let names = names
        .iter()
        .map(|(name, pen)| (shortened(name, LONGEST_NAME), *pen));
    let names: Vec<_> = names.collect();
    let widths = names
        .iter()
        .map(|(name, _)| 72.0 + sheet.width(name, ENTRY_SIZE, false));
    let widths: Vec<f64> = widths.collect();
    let room = WIDTH - 2.0 * EDGE;
    // Names that need several rows stand below each other.
    let column = if widths.iter().sum::<f64>() > room {
        widths.iter().copied().reduce(f64::max)
    } else {
        None
    };
    let (mut x, mut y) = (EDGE, 110.0);
    for ((name, pen), width) in names.iter().zip(widths) {
        let width = column.unwrap_or(width);
        if x > EDGE && x + width > WIDTH - EDGE {
            (x, y) = (EDGE, y + ROW);
        }
        draw_sample(sheet, (x, y), *pen, sample)?;
        let at = (x + 42.0, y);
        sheet.text(name, at, ENTRY_SIZE, (INK, false), Side::Right)?;
        x += width;
    }
    Ok(if names.is_empty() { y - 14.0 } else { y + 14.0 })
}

fn draw_sample<B: DrawingBackend>(
    sheet: &Sheet<'_, B>,
    (x, y): (f64, f64),
    pen: Pen,
    sample: Sample,
) -> Drawn {
    let line = [(x, y), (x + 34.0, y)];
    match sample {
        Sample::Curve => {
            if pen.dashed {
                sheet.dashes(&line, pen.colour, 2.5, 6.0)?;
            } else {
                sheet.line(&line, pen.colour, 2.5)?;
            }
            sheet.mark((x + 17.0, y), 5.5, pen)
        }
        Sample::Mark => sheet.mark((x + 22.0, y), 7.0, pen),
        Sample::Bar => sheet.bar((x + 14.0, y - 8.0), (x + 30.0, y + 8.0), pen.colour),
    }
}

/// A name of at most so many letters: what tells names apart is at their ends.
pub fn shortened(name: &str, most: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= most {
        return name.to_owned();
    }
    let end = (most - 1) * 3 / 5;
    let start: String = letters[..most - 1 - end].iter().collect();
    let end: String = letters[letters.len() - end..].iter().collect();
    format!("{start}…{end}")
}
