//! Speed-up by number of workers, against the run with fewest, beside what would be ideal.

use std::collections::BTreeMap;

use plotters::backend::DrawingBackend;

use super::axes::{Axis, Frame, grouped};
use super::canvas::{Drawn, HEIGHT, INK, Pen, Picture, SOFT, Sheet, Side, WIDTH};
use super::heading::{self, EDGE, Sample};
use super::source::Source;

/// A run in the picture.
struct Spot {
    workers: usize,
    rate: f64,
    name: (String, Pen),
}

/// The picture.
pub(super) struct SpeedUp {
    spots: Vec<Spot>,
    unit: String,
    /// Fewest workers, and their mean rate.
    base: (usize, f64),
    /// Mean rate by number of workers.
    means: BTreeMap<usize, f64>,
}

impl SpeedUp {
    /// None where there are not two numbers of workers to compare.
    pub(super) fn new(sources: &[Source]) -> Option<Self> {
        let known = sources.iter().enumerate().filter_map(|(number, source)| {
            let spot = Spot {
                workers: source.worker_count?,
                rate: source.rate?,
                name: (source.label.clone(), Pen::of(number)),
            };
            Some((spot, &source.unit))
        });
        let known: Vec<_> = known.collect();
        let unit = known.first()?.1;
        let known = known.into_iter().filter(|(_, other)| *other == unit);
        let spots: Vec<_> = known.map(|(spot, _)| spot).collect();
        let mut rates: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for spot in &spots {
            rates.entry(spot.workers).or_default().push(spot.rate);
        }
        let mean = |rates: Vec<f64>| rates.iter().sum::<f64>() / rates.len() as f64;
        let means: BTreeMap<_, _> = rates.into_iter().map(|(n, r)| (n, mean(r))).collect();
        let (&workers, &rate) = means.first_key_value()?;
        (means.len() > 1).then_some(Self {
            spots,
            unit: unit.clone(),
            base: (workers, rate),
            means,
        })
    }
}

impl Picture for SpeedUp {
    fn draw<B: DrawingBackend>(&self, sheet: &Sheet<'_, B>) -> Drawn {
        let (fewest, rate) = self.base;
        let most = *self.means.keys().next_back().unwrap_or(&fewest);
        let plural = if fewest == 1 { "" } else { "s" };
        let base = grouped(&format!("{rate:.0}"));
        let note = format!(
            "{}/s while training, against {base} with {fewest} worker{plural} · dashed: ideal · numbers: means",
            self.unit
        );
        let names: Vec<_> = self.spots.iter().map(|spot| spot.name.clone()).collect();
        let title = "Speed-up by number of workers";
        let top = heading::draw(sheet, (title, &note), &names, Sample::Mark)?;
        let ideal = |workers: usize| workers as f64 / fewest as f64;
        let speedups = self.spots.iter().map(|spot| spot.rate / rate);
        let counts = self.spots.iter().map(|spot| spot.workers as f64);
        let frame = Frame::new(
            EDGE + 78.0..WIDTH - EDGE - 40.0,
            top + 14.0..HEIGHT - 76.0,
            Axis::new("workers", counts, most.min(8), true),
            Axis::new("speed-up (times)", speedups.chain([ideal(most)]), 6, true),
        );
        frame.draw(sheet)?;
        let ends = [frame.at((0.0, 0.0)), frame.at((most as f64, ideal(most)))];
        sheet.dashes(&ends, SOFT, 1.5, 7.0)?;
        let means: Vec<_> = self
            .means
            .iter()
            .map(|(&workers, mean)| frame.at((workers as f64, mean / rate)))
            .collect();
        sheet.line(&means, INK, 1.5)?;
        for spot in &self.spots {
            let at = frame.at((spot.workers as f64, spot.rate / rate));
            sheet.mark(at, 8.0, spot.name.1)?;
        }
        for ((&workers, mean), at) in self.means.iter().zip(&means) {
            if workers > fewest {
                let label = format!("× {:.2}", mean / rate);
                // Clear of the marks, wherever they are.
                let above = (at.0, frame.y.end - 16.0);
                sheet.text(&label, above, 15.0, (INK, true), Side::Middle)?;
            }
        }
        Ok(())
    }
}
