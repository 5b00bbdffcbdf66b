//! Event files for TensorBoard, in the run's own folder: `tensorboard --logdir runs`.
//!
//! What is written is of bounded size: means since the point before, at first with each step, then
//! once a second, and then ever more seldom, so that a run of a month has some thousands of points.
//! Hyper-parameters are those of `config.toml`, so that runs can be sorted by them. What a resumption
//! undid, TensorBoard forgets.

mod histogram;
mod messages;
mod records;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dsgd_core::event::{Event, Observer, Record, Step};
use dsgd_core::metric::{Metric, Units, key};
use dsgd_core::task::Stats;

use histogram::Histogram;
use messages::{SessionLog, Setting, SettingKind, Status, Summary, Value, What};

/// So many steps are all shown.
const FIRST_STEPS: u64 = 100;

/// After them, points come no closer than this.
const LEAST_SECS: f64 = 1.0;

/// … nor closer than this part of the time so far.
const LEAST_SHARE: f64 = 1.0 / 2000.0;

/// Histograms come so much more seldom.
const HISTOGRAM_EVERY: f64 = 20.0;

/// Writes them into that folder; `config` is the text of the run's `config.toml`.
///
/// # Errors
/// When there can be no file in it.
pub fn tensorboard(folder: &Path, config: &str) -> io::Result<Observer> {
    fs::create_dir_all(folder)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0.0, |since| since.as_secs_f64());
    // Names sort by time, and no other life of the run has this one's.
    let name = format!(
        "events.out.tfevents.{:010}.dsgd.{}",
        now as u64,
        std::process::id()
    );
    let path = folder.join(name);
    let mut board = Board {
        file: File::options().create(true).append(true).open(&path)?,
        name: path.display().to_string(),
        failed: false,
        settings: settings(config),
        metrics: Vec::new(),
        units: Units::default(),
        unix_secs: now,
        step: 0,
        sums: Sums::default(),
        learning_rate: 0.0,
        live: 0,
        staleness: Histogram::of_counts(),
        parts: PARTS.map(|_| Histogram::of_secs()),
        points: 0,
        written_at: 0.0,
        histograms_at: 0.0,
    };
    board.write(0.0, What::FileVersion("brain.Event:2".to_owned()));
    Ok(Box::new(move |record| board.see(record)))
}

/// Parts of a gradient's way.
const PARTS: [&str; 4] = ["compute", "pull", "push", "wait"];

/// The settings of a `config.toml`, those of its tables under their own names.
fn settings(config: &str) -> HashMap<String, Setting> {
    let mut settings = HashMap::new();
    let tables = config.parse::<toml::Table>().unwrap_or_default();
    let tables = tables.values().filter_map(toml::Value::as_table);
    for (name, value) in tables.flatten() {
        let kind = match value {
            toml::Value::Boolean(value) => SettingKind::Bool(*value),
            toml::Value::Integer(value) => SettingKind::Number(*value as f64),
            toml::Value::Float(value) => SettingKind::Number(*value),
            toml::Value::String(text) => SettingKind::Text(text.clone()),
            other => SettingKind::Text(other.to_string()),
        };
        settings.insert(name.clone(), Setting { kind: Some(kind) });
    }
    settings
}

/// Sums since the point before.
#[derive(Default)]
struct Sums {
    steps: f64,
    stats: Stats,
    grad_norm: f64,
    staleness: f64,
}

struct Board {
    file: File,
    name: String,
    failed: bool,
    settings: HashMap<String, Setting>,
    metrics: Vec<Metric>,
    units: Units,
    /// Seconds since 1970 at which the run, or its resumption, started.
    unix_secs: f64,
    /// The last step.
    step: u64,
    sums: Sums,
    learning_rate: f32,
    live: usize,
    staleness: Histogram,
    parts: [Histogram; 4],
    points: u64,
    written_at: f64,
    histograms_at: f64,
}

impl Board {
    fn see(&mut self, record: &Record) {
        let at = record.at_secs;
        match &record.event {
            Event::RunStarted {
                unix_secs,
                metrics,
                units,
                resumed_at,
                ..
            } => {
                (self.metrics, self.units) = (metrics.clone(), units.clone());
                self.unix_secs = *unix_secs;
                if let Some(step) = resumed_at {
                    self.step = step + 1;
                    self.write(at, What::SessionLog(SessionLog::START));
                }
                let settings = std::mem::take(&mut self.settings);
                self.show(at, vec![Value::session_start(settings, *unix_secs)]);
            }
            Event::EpochStarted { .. } => self.written_at = at,
            Event::Step(step) => {
                self.add(step);
                let pause = LEAST_SECS.max(at * LEAST_SHARE);
                if self.points < FIRST_STEPS || at >= self.written_at + pause {
                    self.point(at);
                }
                if at >= self.histograms_at + HISTOGRAM_EVERY * pause {
                    self.histograms(at);
                }
            }
            Event::EpochFinished {
                validation: Some(stats),
                ..
            } => self.show(at, self.judged("validation", stats)),
            Event::RunFinished { outcome, .. } => {
                if self.sums.steps > 0.0 {
                    self.point(at);
                }
                self.histograms(at);
                let status = if outcome.starts_with("failed") || outcome.starts_with("diverged") {
                    Status::Failure
                } else {
                    Status::Success
                };
                let end = Value::session_end(status, self.unix_secs + at);
                self.show(at, vec![end]);
            }
            _ => {}
        }
    }

    fn add(&mut self, step: &Step) {
        self.step = step.version;
        (self.learning_rate, self.live) = (step.learning_rate, step.live);
        self.sums.steps += 1.0;
        self.sums.stats.add(&step.stats());
        self.sums.grad_norm += step.grad_norm;
        self.sums.staleness += step.staleness as f64;
        self.staleness.add(step.staleness as f64);
        for part in &step.parts {
            let cost = &part.cost;
            let secs = [
                cost.compute_secs,
                cost.pull_secs,
                cost.push_secs,
                cost.wait_secs,
            ];
            for (histogram, secs) in self.parts.iter_mut().zip(secs) {
                histogram.add(secs);
            }
        }
    }

    /// Means since the point before.
    fn point(&mut self, at: f64) {
        let secs = (at - self.written_at).max(1e-9);
        let Sums {
            steps,
            stats,
            grad_norm,
            staleness,
        } = std::mem::take(&mut self.sums);
        let (unit, items) = self.units.shown(stats.units, stats.examples);
        let speed = format!("speed/{}_per_s", key(unit));
        let mut values = self.judged("train", &stats);
        values.extend([
            Value::scalar("train/learning_rate", f64::from(self.learning_rate)),
            Value::scalar("train/grad_norm", grad_norm / steps),
            Value::scalar(&speed, items as f64 / secs),
            Value::scalar("workers/staleness", staleness / steps),
            Value::scalar("workers/live", self.live as f64),
        ]);
        self.points += 1;
        self.written_at = at;
        self.show(at, values);
    }

    /// The loss, and the task's metrics where they are known.
    fn judged(&self, what: &str, stats: &Stats) -> Vec<Value> {
        let loss = ("loss".to_owned(), stats.mean_loss());
        let metrics = self.metrics.iter().map(|m| (m.key(), m.value(stats)));
        let metrics = metrics.filter(|(key, value)| *key != loss.0 && !value.is_nan());
        let all = [loss.clone()].into_iter().chain(metrics);
        all.map(|(key, value)| Value::scalar(&format!("{what}/{key}"), value))
            .collect()
    }

    fn histograms(&mut self, at: f64) {
        self.histograms_at = at;
        let staleness = self.staleness.take();
        let mut values: Vec<_> = staleness
            .map(|counted| Value::histogram("workers/staleness_of_steps", counted))
            .into_iter()
            .collect();
        for (name, histogram) in PARTS.iter().zip(&mut self.parts) {
            let tag = format!("gradient/{name}_secs");
            // A local worker spends no time on the way.
            let spent = histogram.take().filter(|histogram| histogram.max > 0.0);
            values.extend(spent.map(|histogram| Value::histogram(&tag, histogram)));
        }
        if !values.is_empty() {
            self.show(at, values);
        }
    }

    fn show(&mut self, at: f64, value: Vec<Value>) {
        self.write(at, What::Summary(Summary { value }));
    }

    /// What cannot be written is left out; that is said once.
    fn write(&mut self, at: f64, what: What) {
        let event = messages::Event {
            wall_time: self.unix_secs + at,
            step: self.step.cast_signed(),
            what: Some(what),
        };
        if let Err(error) = records::write(&mut self.file, &event)
            && !self.failed
        {
            self.failed = true;
            let _ = writeln!(
                io::stderr(),
                "Warning: {} is incomplete: {error}",
                self.name
            );
        }
    }
}
