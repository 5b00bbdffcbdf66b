//! Speed and staleness of each worker, in two columns of bars.
//!
//! Many workers are shown by hosts, many hosts as those that did most.

use std::collections::BTreeMap;

use plotters::backend::DrawingBackend;

use super::axes::{Axis, Frame, grouped};
use super::canvas::{Drawn, HEIGHT, INK, Pen, Picture, SOFT, Sheet, Side, WIDTH};
use super::heading::{self, EDGE, Sample, shortened};
use super::source::{Source, WorkerBar};

/// Rows that can be read.
const MOST_ROWS: usize = 24;

/// Height of a row where there are few, and where there are many.
const ROW_HEIGHTS: (f64, f64) = (46.0, 26.0);

/// Room for title, legend and axis.
const AROUND: f64 = 230.0;

const NAME_SIZE: f64 = 15.0;

/// A row of the picture.
struct Row {
    pen: Pen,
    bar: WorkerBar,
}

/// The picture.
pub(super) struct Workers {
    unit: String,
    names: Vec<(String, Pen)>,
    rows: Vec<Row>,
    by_hosts: bool,
    left_out: usize,
}

impl Workers {
    /// None where no run tells of its workers.
    pub(super) fn new(sources: &[Source]) -> Option<Self> {
        let told = sources.iter().enumerate();
        let told: Vec<_> = told.filter(|(_, s)| !s.workers.is_empty()).collect();
        let (_, first) = told.first()?;
        let all: usize = told.iter().map(|(_, s)| s.workers.len()).sum();
        let by_hosts = all > MOST_ROWS;
        let mut picture = Self {
            unit: first.unit.clone(),
            names: Vec::new(),
            rows: Vec::new(),
            by_hosts,
            left_out: 0,
        };
        // Different things cannot stand on one axis.
        let told = told.into_iter().filter(|(_, s)| s.unit == picture.unit);
        for (number, source) in told {
            let pen = Pen::of(number);
            picture.names.push((source.label.clone(), pen));
            let bars = if by_hosts {
                hosts(&source.workers)
            } else {
                source.workers.clone()
            };
            picture
                .rows
                .extend(bars.into_iter().map(|bar| Row { pen, bar }));
        }
        if picture.rows.len() > MOST_ROWS {
            picture.left_out = picture.rows.len() - MOST_ROWS;
            let mut rates: Vec<f64> = picture.rows.iter().map(|row| row.bar.rate).collect();
            rates.sort_by(|a, b| b.total_cmp(a));
            let least = rates[MOST_ROWS - 1];
            picture.rows.retain(|row| row.bar.rate >= least);
            picture.rows.truncate(MOST_ROWS);
        }
        Some(picture)
    }
}

/// Workers of a host as one: their speeds add up.
fn hosts(workers: &[WorkerBar]) -> Vec<WorkerBar> {
    let mut hosts: BTreeMap<&str, Vec<&WorkerBar>> = BTreeMap::new();
    for worker in workers {
        let name = &worker.name;
        let host = name.rsplit_once('/').map_or(&**name, |(host, _)| host);
        hosts.entry(host).or_default().push(worker);
    }
    let bar = |(host, workers): (&str, Vec<&WorkerBar>)| WorkerBar {
        name: format!("{host} ({})", workers.len()),
        rate: workers.iter().map(|worker| worker.rate).sum(),
        staleness: workers.iter().map(|w| w.staleness).sum::<f64>() / workers.len() as f64,
    };
    hosts.into_iter().map(bar).collect()
}

impl Picture for Workers {
    fn height(&self) -> f64 {
        let rows = self.rows.len() as f64;
        let (tall, low) = ROW_HEIGHTS;
        (AROUND + rows * tall).min(HEIGHT).max(AROUND + rows * low)
    }

    fn draw<B: DrawingBackend>(&self, sheet: &Sheet<'_, B>) -> Drawn {
        let who = if self.by_hosts { "host" } else { "worker" };
        let title = format!("Speed and staleness by {who}");
        let mut note = String::from(if self.by_hosts {
            "hosts, with how many workers each: speeds add up, staleness is a mean"
        } else {
            "means over the run, while the worker was at work"
        });
        if self.left_out > 0 {
            note = format!("{note} · {} slower rows are not shown", self.left_out);
        }
        let top = heading::draw(sheet, (&title, &note), &self.names, Sample::Bar)?;
        let names: Vec<_> = self
            .rows
            .iter()
            .map(|row| shortened(&row.bar.name, 24))
            .collect();
        let widths = names.iter().map(|name| sheet.width(name, NAME_SIZE, false));
        let left = EDGE + widths.fold(0.0, f64::max) + 16.0;
        let right = WIDTH - EDGE - 40.0;
        let gap = 90.0;
        let half = (right - left - gap) / 2.0;
        let (top, bottom) = (top + 14.0, self.height() - 76.0);
        let row_height = (bottom - top) / self.rows.len().max(1) as f64;
        let rates = self.rows.iter().map(|row| row.bar.rate);
        let stale = self.rows.iter().map(|row| row.bar.staleness);
        let up = || Axis::new("", [0.0, 1.0], 1, true);
        let columns = [
            (
                left,
                Axis::new(format!("{}/s", self.unit), rates.clone(), 4, true),
                rates.collect::<Vec<_>>(),
                0,
            ),
            (
                left + half + gap,
                Axis::new("mean staleness (versions)", stale.clone(), 4, true),
                stale.collect(),
                2,
            ),
        ];
        for (start, axis, values, decimals) in columns {
            let frame = Frame::new(start..start + half, top..bottom, axis, up());
            frame.draw_across(sheet)?;
            for (number, (row, value)) in self.rows.iter().zip(values).enumerate() {
                let middle = top + row_height * (number as f64 + 0.5);
                let (end, _) = frame.at((value, 0.0));
                let thick = 0.34 * row_height;
                let corners = ((start, middle - thick), (end, middle + thick));
                sheet.bar(corners.0, corners.1, row.pen.colour)?;
                let label = grouped(&format!("{value:.decimals$}"));
                let at = (end + 7.0, middle);
                sheet.text(&label, at, NAME_SIZE - 1.0, (SOFT, false), Side::Right)?;
            }
        }
        for (number, name) in names.iter().enumerate() {
            let middle = top + row_height * (number as f64 + 0.5);
            let at = (left - 9.0, middle);
            sheet.text(name, at, NAME_SIZE, (INK, false), Side::Left)?;
        }
        Ok(())
    }
}
