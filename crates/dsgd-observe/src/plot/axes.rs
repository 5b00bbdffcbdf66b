//! A frame with two axes: ticks at round numbers, the grid, and where a value lies on the paper.

use std::ops::Range;

use plotters::backend::DrawingBackend;

use super::canvas::{Drawn, GRID, INK, SOFT, Sheet, Side};

/// Text at ticks.
const TICK_SIZE: f64 = 15.0;

/// Text that names an axis.
pub(super) const NAME_SIZE: f64 = 16.0;

/// One direction of a frame.
pub(super) struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
    decimals: usize,
    name: String,
}

impl Axis {
    /// An axis for values, with about so many ticks; `from_zero` when bars or speeds stand on it.
    pub(super) fn new(
        name: impl Into<String>,
        values: impl IntoIterator<Item = f64>,
        count: usize,
        from_zero: bool,
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        if from_zero {
            (low, high) = (0.0, high.max(0.0));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // A single value lies in the middle, or below the top.
        if high - low < 1e-9 * high.abs().max(1e-9) {
            let room = if high == 0.0 { 1.0 } else { high.abs() / 2.0 };
            (low, high) = (if from_zero { 0.0 } else { low - room }, high + room);
        }
        let step = nice_step((high - low) / count.max(1) as f64);
        let room = 0.03 * (high - low);
        let low = if from_zero { 0.0 } else { low - room };
        let range = low..high + room;
        let first = (range.start / step).ceil() as i64;
        let last = (range.end / step).floor() as i64;
        Self {
            ticks: (first..=last).map(|n| n as f64 * step).collect(),
            decimals: (-step.log10().floor()).max(0.0) as usize,
            range,
            name: name.into(),
        }
    }

    /// Where a value lies, 0 at the start of the axis and 1 at its end.
    fn share(&self, value: f64) -> f64 {
        (value - self.range.start) / (self.range.end - self.range.start)
    }

    fn label(&self, value: f64) -> String {
        grouped(&format!("{value:.*}", self.decimals))
    }
}

/// 1, 2 or 5 times a power of ten, and no less than that.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let nice = [1.0, 2.0, 5.0].into_iter().map(|n| n * power);
    nice.into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(10.0 * power)
}

/// `12345.6` as `12,345.6`.
pub(crate) fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let digits = whole.trim_start_matches('-');
    let mut out = String::from(&whole[..whole.len() - digits.len()]);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// A frame on the paper.
pub(super) struct Frame {
    /// Its left and right edge.
    pub(super) x: Range<f64>,
    /// Its upper and lower edge.
    pub(super) y: Range<f64>,
    across: Axis,
    up: Axis,
}

impl Frame {
    pub(super) fn new(x: Range<f64>, y: Range<f64>, across: Axis, up: Axis) -> Self {
        Self { x, y, across, up }
    }

    /// Where a pair of values lies.
    pub(super) fn at(&self, (across, up): (f64, f64)) -> (f64, f64) {
        (self.x_of(across), self.y_of(up))
    }

    fn x_of(&self, value: f64) -> f64 {
        self.x.start + self.across.share(value) * (self.x.end - self.x.start)
    }

    fn y_of(&self, value: f64) -> f64 {
        self.y.end - self.up.share(value) * (self.y.end - self.y.start)
    }

    /// Draws grid, ticks and names.
    pub(super) fn draw<B: DrawingBackend>(&self, sheet: &Sheet<'_, B>) -> Drawn {
        let (x, y) = (&self.x, &self.y);
        let mut widest: f64 = 0.0;
        for &tick in &self.up.ticks {
            let at = self.y_of(tick);
            sheet.line(&[(x.start, at), (x.end, at)], GRID, 1.0)?;
            let label = self.up.label(tick);
            widest = widest.max(sheet.width(&label, TICK_SIZE, false));
            sheet.text(
                &label,
                (x.start - 9.0, at),
                TICK_SIZE,
                (SOFT, false),
                Side::Left,
            )?;
        }
        let name = (x.start - widest - 32.0, f64::midpoint(y.start, y.end));
        sheet.text(&self.up.name, name, NAME_SIZE, (INK, false), Side::Upwards)?;
        self.draw_across(sheet)
    }

    /// The horizontal axis alone, for frames whose rows have names.
    pub(super) fn draw_across<B: DrawingBackend>(&self, sheet: &Sheet<'_, B>) -> Drawn {
        let (x, y) = (&self.x, &self.y);
        for &tick in &self.across.ticks {
            let at = self.x_of(tick);
            sheet.line(&[(at, y.start), (at, y.end)], GRID, 1.0)?;
            let label = self.across.label(tick);
            let below = (at, y.end + 17.0);
            sheet.text(&label, below, TICK_SIZE, (SOFT, false), Side::Middle)?;
        }
        let name = (f64::midpoint(x.start, x.end), y.end + 46.0);
        let (colour, text) = ((INK, false), &self.across.name);
        sheet.text(text, name, NAME_SIZE, colour, Side::Middle)?;
        let corner = [(x.start, y.start), (x.start, y.end), (x.end, y.end)];
        sheet.line(&corner, SOFT, 1.0)
    }

    /// A second name for the vertical axis, at its right: what the values mean.
    pub(super) fn draw_right<B: DrawingBackend>(
        &self,
        sheet: &Sheet<'_, B>,
        name: &str,
        meaning: impl Fn(f64) -> String,
    ) -> Drawn {
        let mut widest: f64 = 0.0;
        for &tick in &self.up.ticks {
            let (label, at) = (meaning(tick), self.y_of(tick));
            widest = widest.max(sheet.width(&label, TICK_SIZE, false));
            let at = (self.x.end + 9.0, at);
            sheet.text(&label, at, TICK_SIZE, (SOFT, false), Side::Right)?;
        }
        let middle = f64::midpoint(self.y.start, self.y.end);
        let at = (self.x.end + widest + 32.0, middle);
        sheet.text(name, at, NAME_SIZE, (INK, false), Side::Downwards)
    }
}
