//! What to save, and when.

use super::{Action, Core, End};

impl Core {
    /// A checkpoint within an epoch, when `--save-minutes` have passed.
    pub(super) fn save_if_due(&mut self, actions: &mut Vec<Action>) {
        let Some(after) = self.rules.save_after else {
            return;
        };
        if self.over || self.now < self.last_save + after {
            return;
        }
        self.last_save = self.now;
        if self.progress.version > self.saved_version {
            let minutes = after.as_secs_f64() / 60.0;
            let (epoch, value) = (self.progress.epoch, self.training_metric());
            let reason = format!("{minutes} minutes have passed");
            self.save(epoch, value, false, reason, actions);
        }
    }

    /// The run is over, and what was done since the last checkpoint is saved; nothing when it is over already.
    pub(super) fn stop(&mut self, end: End, reason: &str, actions: &mut Vec<Action>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        if self.progress.version > self.saved_version {
            let (epoch, value) = (self.progress.epoch, self.training_metric());
            self.save(epoch, value, false, reason.to_owned(), actions);
        }
        actions.push(Action::Finish(end));
    }

    pub(super) fn save(
        &mut self,
        epoch: u32,
        value: f64,
        best: bool,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        self.last_save = self.now;
        self.saved_version = self.progress.version;
        actions.push(Action::Save {
            epoch,
            value,
            best,
            reason,
        });
    }
}
