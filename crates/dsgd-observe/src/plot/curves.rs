//! Log-perplexity against time and against epochs, several runs in one picture: training as a line,
//! validation as markers.

use plotters::backend::DrawingBackend;

use super::axes::{Axis, Frame, grouped};
use super::canvas::{Drawn, HEIGHT, Pen, Picture, Sheet, WIDTH};
use super::heading::{self, EDGE, Sample};
use super::source::{Point, Source};

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
    sources: Vec<(&'a Source, Pen)>,
    /// Seconds of the axis' unit, and its name.
    unit: (f64, &'static str),
}

impl<'a> Curves<'a> {
    /// None where no run tells of it.
    pub(super) fn new(over: Over, sources: &'a [Source]) -> Option<Self> {
        let pens = sources.iter().enumerate().map(|(n, s)| (s, Pen::of(n)));
        let mut curves = Self {
            over,
            sources: pens.collect(),
            unit: (1.0, "seconds"),
        };
        let known: Vec<bool> = curves
            .sources
            .iter()
            .map(|(source, _)| curves.points(source).next().is_some())
            .collect();
        let mut known = known.into_iter();
        curves.sources.retain(|_| known.next().unwrap_or(false));
        let all = curves.sources.iter();
        let secs = all.flat_map(|(s, _)| s.train.iter().chain(&s.validation));
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
            .filter_map(|point| Some((self.x(point)?, point.loss)))
    }

    fn points<'p>(&self, source: &'p Source) -> impl Iterator<Item = (f64, f64)> + use<'_, 'p> {
        let ranges = source.train.iter().filter_map(|point| {
            let (lowest, highest) = point.range?;
            Some([(self.x(point)?, lowest), (self.x(point)?, highest)])
        });
        self.pairs(&source.train)
            .chain(self.pairs(&source.validation))
            .chain(ranges.flatten())
    }

    fn curve<B: DrawingBackend>(
        &self,
        sheet: &Sheet<'_, B>,
        frame: &Frame,
        source: &Source,
        pen: Pen,
    ) -> Drawn {
        self.band(sheet, frame, source, pen)?;
        let line: Vec<_> = self.pairs(&source.train).map(|p| frame.at(p)).collect();
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
        source: &Source,
        pen: Pen,
    ) -> Drawn {
        let edge = |high: bool| {
            source.train.iter().filter_map(move |point| {
                let (lowest, highest) = point.range.unwrap_or((point.loss, point.loss));
                let loss = if high { highest } else { lowest };
                Some(frame.at((self.x(point)?, loss)))
            })
        };
        if source.train.iter().all(|point| point.range.is_none()) {
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
        source: &Source,
        pen: Pen,
    ) -> Drawn {
        let marks: Vec<_> = self.pairs(&source.validation).collect();
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
        let validated = self.sources.iter().any(|(s, _)| !s.validation.is_empty());
        let (title, across) = match self.over {
            Over::Time => ("Log-perplexity against time", self.unit.1),
            Over::Epochs => ("Log-perplexity against epochs", "epochs"),
        };
        let across = match self.over {
            Over::Time => format!("time of training ({across})"),
            Over::Epochs => across.to_owned(),
        };
        let note = if validated {
            "line: training · markers: validation after each epoch"
        } else {
            "line: training"
        };
        let names: Vec<_> = self
            .sources
            .iter()
            .map(|(source, pen)| (source.label.clone(), *pen))
            .collect();
        let top = heading::draw(sheet, (title, note), &names, Sample::Curve)?;
        let points = || self.sources.iter().flat_map(|(s, _)| self.points(s));
        let frame = Frame::new(
            EDGE + 78.0..WIDTH - EDGE - 78.0,
            top + 14.0..HEIGHT - 76.0,
            Axis::new(across, points().map(|(x, _)| x), 8, true),
            Axis::new(
                "log-perplexity (nats per item)",
                points().map(|(_, y)| y),
                7,
                false,
            ),
        );
        frame.draw(sheet)?;
        frame.draw_right(sheet, "perplexity", perplexity)?;
        for (source, pen) in &self.sources {
            self.curve(sheet, &frame, source, *pen)?;
        }
        for (source, pen) in &self.sources {
            self.marks(sheet, &frame, source, *pen)?;
        }
        Ok(())
    }
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
