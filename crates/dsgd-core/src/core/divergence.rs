//! Whether training still learns, or does worse than a model that was never trained.
//!
//! The measure is the loss of the batches that were computed from the first parameters. A loss many
//! times that high is absurd, and so is one that is not finite. One such report may be its worker's
//! fault: training has diverged when most are, for long, or at the end of an epoch. A run that has
//! diverged ends, and saves nothing.

use super::losses::{Losses, Share};
use super::{Action, Core, End, WorkerId};
use crate::event::Event;
use crate::task::Stats;

/// A loss this many times that of the first parameters is absurd.
const ABSURD: f64 = 10.0;

/// One this many times as high is refused.
const REFUSED: f64 = 1000.0;

/// Where the first parameters have almost no loss, as trained ones, this one is the measure.
const LEAST: f64 = 1.0;

/// Batches from the first parameters that are the measure.
const FIRST: usize = 20;

/// Batches that are judged together while an epoch is under way.
const WINDOW: u32 = 20;

/// So many windows in a row, most of whose losses are absurd, end the run; the first is a warning.
const WINDOWS: u32 = 4;

/// So many refused reports in a row, of all workers and without one that is taken, end the run; half as
/// many are a warning.
const REFUSED_IN_A_ROW: u32 = 20;

const ADVICE: &str = "try a lower --learning-rate or --max-grad-norm";

impl Core {
    /// Why a loss is so high that its gradient must not be applied, if it is.
    pub(super) fn check_height(&self, stats: &Stats) -> Result<(), String> {
        let mean = stats.mean_loss();
        match self.progress.first_loss {
            Some(first) if mean > REFUSED * first.max(LEAST) => Err(format!(
                "its loss is absurd: {mean:.4e} an item, where the first parameters have {first:.4}"
            )),
            _ => Ok(()),
        }
    }

    /// A report was refused for figures that no run that learns has.
    pub(super) fn note_refused(&mut self, worker: WorkerId, actions: &mut Vec<Action>) {
        if self.over {
            return;
        }
        let name = self.roster.name(worker).unwrap_or_default().to_owned();
        let seen = &mut self.losses;
        seen.refused += 1;
        seen.refused_by.insert(name);
        let refused = seen.refused;
        let everyone = |seen: &Losses| {
            let mut able = self.roster.able();
            able.all(|name| seen.refused_by.contains(name))
        };
        if refused >= REFUSED_IN_A_ROW && everyone(&self.losses) {
            let what = format!("{refused} reports in a row had absurd or infinite figures");
            self.end_diverged(&what, actions);
        } else if refused == REFUSED_IN_A_ROW / 2 {
            let message = format!(
                "{refused} reports in a row had absurd or infinite figures: training may be diverging"
            );
            actions.push(Action::Observe(Event::Warning { message }));
        }
    }

    /// A report was taken.
    pub(super) fn note_taken(&mut self) {
        self.losses.refused = 0;
        self.losses.refused_by.clear();
    }

    /// A batch is counted that was computed from this version.
    pub(super) fn note_loss(&mut self, version: u64, stats: &Stats, actions: &mut Vec<Action>) {
        let seen = &mut self.losses;
        if version == 0 && stats.count > 0 && seen.first.len() < FIRST {
            seen.first.push(stats.mean_loss());
            seen.first.sort_by(f64::total_cmp);
            self.progress.first_loss = Some(seen.first[seen.first.len() / 2]);
        }
        let absurd = self.is_absurd(stats);
        let seen = &mut self.losses;
        seen.epoch.add(absurd);
        seen.window.add(absurd);
        if seen.window.batches < WINDOW {
            return;
        }
        let window = std::mem::take(&mut seen.window);
        seen.windows = if window.is_most() {
            seen.windows + 1
        } else {
            0
        };
        let what =
            format!("most losses lately are more than {ABSURD} times that of the first parameters");
        match seen.windows {
            1 => {
                let message = format!("{what}: training may be diverging; {ADVICE}");
                actions.push(Action::Observe(Event::Warning { message }));
            }
            WINDOWS.. => self.end_diverged(&what, actions),
            _ => {}
        }
    }

    /// Why an epoch shows that training has diverged, if it does.
    pub(super) fn verdict_of_epoch(&mut self, validation: &[Option<Stats>]) -> Option<String> {
        let epoch = std::mem::take(&mut self.losses.epoch);
        let mut validated = Share::default();
        for stats in validation.iter().flatten() {
            validated.add(self.is_absurd(stats));
        }
        let missing = |left_out: usize, of: usize| left_out * 2 > of;
        let missing = missing(self.progress.left_out.len(), self.rules.batches)
            || missing(
                validation.len() - validated.batches as usize,
                validation.len(),
            );
        let number = self.progress.epoch;
        let first = self.progress.first_loss.unwrap_or_default();
        let worse =
            format!("are more than {ABSURD} times that of the first parameters ({first:.4})");
        if validated.is_most() {
            Some(format!("most validation losses of epoch {number} {worse}"))
        } else if epoch.is_most() || self.losses.windows > 0 {
            Some(format!("most losses of epoch {number} {worse}"))
        } else if self.losses.refused > 0 && missing {
            Some(format!(
                "most batches of epoch {number} had absurd or infinite figures"
            ))
        } else {
            None
        }
    }

    /// The run is over, and nothing is saved: what there is of it is worth less than its last checkpoint.
    pub(super) fn end_diverged(&mut self, what: &str, actions: &mut Vec<Action>) {
        let reason = format!("training has diverged: {what}; {ADVICE}");
        if !std::mem::replace(&mut self.over, true) {
            actions.push(Action::Finish(End::Diverged(reason)));
        }
    }

    fn is_absurd(&self, stats: &Stats) -> bool {
        let first = self.progress.first_loss;
        first.is_some_and(|first| stats.mean_loss() > ABSURD * first.max(LEAST))
    }
}
