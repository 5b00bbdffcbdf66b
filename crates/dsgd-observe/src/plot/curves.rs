//! A metric against time and against epochs, several runs in one picture: training as a line,
//! validation as markers.

use plotters::backend::DrawingBackend;

use super::axes::{Axis, Frame, grouped};
use super::canvas::{Drawn, HEIGHT, Pen, Picture, Sheet, WIDTH};
use super::heading::{self, EDGE, Sample};
use super::source::{Curve, Point, Source};
use dsgd_core::metric::{Metric, Value};

/// More markers on a curve hide it.
const MOST_MARKS: usize = 40;

/// What a curve runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Time,
    Epochs,
}

/// The picture.
pub(super) struct Curves<'a> {
    over: Over,
    metric: &'a Metric,
    sources: Vec<(&'a Source, &'a Curve, Pen)>,
    /// Seconds of the axis' unit, and its name.
    unit: (f64, &'static str),
}

impl<'a> Curves<'a> {
    /// None where no run tells of it.
    pub(super) fn new(over: Over, metric: &'a Metric, sources: &'a [Source]) -> Option<Self> {
        let sources = sources.iter().enumerate().filter_map(|(number, source)| {
            let curve = source.curves.iter().find(|curve| curve.metric == *metric)?;
            Some((source, curve, Pen::of(number)))
        });
        let mut curves = Self {
            over,
            metric,
            sources: sources.collect(),
            unit: (1.0, "seconds"),
        };
        let known: Vec<bool> = curves
            .sources
            .iter()
            .map(|(_, curve, _)| curves.points(curve).next().is_some())
            .collect();
        let mut known = known.into_iter();
        curves.sources.retain(|_| known.next().unwrap_or(false));
        let all = curves.sources.iter();
        let secs = all.flat_map(|(_, c, _)| c.train.iter().chain(&c.validation));
        let longest = secs.filter_map(|point| point.secs).fold(0.0, f64::max);
        curves.unit = match longest {
            ..600.0 => (1.0, "seconds"),
            600.0..36_000.0 => (60.0, "minutes"),
            36_000.0..864_000.0 => (3600.0, "hours"),
            _ => (86_400.0, "days"),
        };
        (!curves.sources.is_empty()).then_some(curves)
    }

    fn x(&self, point: &Point) -> Option<f64> {
        match self.over {
            Over::Time => Some(point.secs? / self.unit.0),
            Over::Epochs => Some(point.epochs),
        }
    }

    fn pairs<'p>(&self, points: &'p [Point]) -> impl Iterator<Item = (f64, f64)> + use<'_, 'p> {
        points
            .iter()
            .filter_map(|point| Some((self.x(point)?, point.value)))
    }

    fn points<'p>(&self, curve: &'p Curve) -> impl Iterator<Item = (f64, f64)> + use<'_, 'p> {
        let ranges = curve.train.iter().filter_map(|point| {
            let (lowest, highest) = point.range?;
            Some([(self.x(point)?, lowest), (self.x(point)?, highest)])
        });
        self.pairs(&curve.train)
            .chain(self.pairs(&curve.validation))
            .chain(ranges.flatten())
    }

    fn curve<B: DrawingBackend>(
        &self,
        sheet: &Sheet<'_, B>,
        frame: &Frame,
        curve: &Curve,
        pen: Pen,
    ) -> Drawn {
        self.band(sheet, frame, curve, pen)?;
        let line: Vec<_> = self.pairs(&curve.train).map(|p| frame.at(p)).collect();
        match line.len() {
            0 => {}
            1 => sheet.mark(line[0], 3.5, pen)?,
            _ if pen.dashed => sheet.dashes(&line, pen.colour, 2.2, 7.0)?,
            _ => sheet.line(&line, pen.colour, 2.2)?,
        }
        Ok(())
    }

    /// From the lowest to the highest step of each point, pale behind the line: no peak is lost in a mean.
    fn band<B: DrawingBackend>(
        &self,
        sheet: &Sheet<'_, B>,
        frame: &Frame,
        curve: &Curve,
        pen: Pen,
    ) -> Drawn {
        let edge = |high: bool| {
            curve.train.iter().filter_map(move |point| {
                let (lowest, highest) = point.range.unwrap_or((point.value, point.value));
                let value = if high { highest } else { lowest };
                Some(frame.at((self.x(point)?, value)))
            })
        };
        if curve.train.iter().all(|point| point.range.is_none()) {
            return Ok(());
        }
        let mut corners: Vec<_> = edge(true).collect();
        let mut back: Vec<_> = edge(false).collect();
        back.reverse();
        corners.extend(back);
        sheet.area(&corners, pen.colour)
    }

    fn marks<B: DrawingBackend>(
        &self,
        sheet: &Sheet<'_, B>,
        frame: &Frame,
        curve: &Curve,
        pen: Pen,
    ) -> Drawn {
        let marks: Vec<_> = self.pairs(&curve.validation).collect();
        let every = marks.len().div_ceil(MOST_MARKS).max(1);
        // The last one is always there.
        let kept = marks.iter().rev().step_by(every).rev();
        for &mark in kept {
            sheet.mark(frame.at(mark), 5.5, pen)?;
        }
        Ok(())
    }
}

impl Picture for Curves<'_> {
    fn draw<B: DrawingBackend>(&self, sheet: &Sheet<'_, B>) -> Drawn {
        let validated = self
            .sources
            .iter()
            .any(|(_, c, _)| !c.validation.is_empty());
        let is_log = self.metric.value == Value::Perplexity;
        let name = match &*self.metric.name {
            name if is_log => format!("log-{name}"),
            name => name.to_owned(),
        };
        let (title, across) = match self.over {
            Over::Time => ("time", format!("time of training ({})", self.unit.1)),
            Over::Epochs => ("epochs", "epochs".to_owned()),
        };
        let title = format!("{} against {title}", capitalized(&name));
        let upwards = match &*self.metric.unit {
            _ if is_log => format!("{name} (nats per item)"),
            "" => name,
            unit => format!("{name} ({unit})"),
        };
        let note = if validated {
            "line: training · markers: validation after each epoch"
        } else {
            "line: training"
        };
        let names: Vec<_> = self
            .sources
            .iter()
            .map(|(source, _, pen)| (source.label.clone(), *pen))
            .collect();
        let top = heading::draw(sheet, (&title, note), &names, Sample::Curve)?;
        let points = || self.sources.iter().flat_map(|(_, c, _)| self.points(c));
        let frame = Frame::new(
            EDGE + 78.0..WIDTH - EDGE - 78.0,
            top + 14.0..HEIGHT - 76.0,
            Axis::new(across, points().map(|(x, _)| x), 8, true),
            Axis::new(upwards, points().map(|(_, y)| y), 7, false),
        );
        frame.draw(sheet)?;
        if is_log {
            frame.draw_right(sheet, &self.metric.name, perplexity)?;
        }
        for (_, curve, pen) in &self.sources {
            self.curve(sheet, &frame, curve, *pen)?;
        }
        for (_, curve, pen) in &self.sources {
            self.marks(sheet, &frame, curve, *pen)?;
        }
        Ok(())
    }
}

/// With a capital letter, as a title begins.
pub(crate) fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// As many digits as are read.
fn perplexity(log: f64) -> String {
    let value = log.exp();
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        100.0..1e6 => grouped(&format!("{value:.0}")),
        _ => format!("{value:.1e}"),
    }
}
