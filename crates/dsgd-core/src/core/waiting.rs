//! Waiting for workers: for all of them before the first local steps, and for one when none is left.
//!
//! Where workers keep something from round to round, who computes what matters: rounds are dealt out in the order of
//! the workers' names, from the first one on. Whoever comes late is waited for only so long.

use std::time::Duration;

use super::{Action, Core, WorkerId};
use crate::event::Event;

/// The first round waits for so long after the first worker.
const GATHERING: Duration = Duration::from_secs(20);

impl Core {
    /// Until when the first round waits for workers, if it does.
    pub(super) fn gathering_ends(&self) -> Option<Duration> {
        let waits = self.rules.by_name
            && self.progress.version == self.first_version
            && self.roster.slots() < self.rules.workers.min(self.room);
        let ends = self.first_joined.map(|joined| joined + GATHERING);
        ends.filter(|&ends| waits && ends > self.now)
    }

    /// Workers that want work, in the order in which it is dealt out.
    pub(super) fn in_turn(&self) -> Vec<WorkerId> {
        let mut idle = self.roster.idle();
        if self.rules.by_name {
            idle.sort_by_key(|&worker| self.roster.name(worker));
        }
        idle
    }

    /// An event when the last worker has gone and others may come.
    pub(super) fn notice_solitude(&mut self, actions: &mut Vec<Action>) {
        if self.working() == 0 {
            self.roster.take_in();
        }
        if self.working() > 0 {
            self.alone_since = None;
        }
        if self.working() > 0 || self.alone_since.is_some() || self.over {
            return;
        }
        self.alone_since = Some(self.now);
        if let Some(patience) = self.rules.give_up_after {
            let who = match self.roster.live_count() {
                0 => "no worker is left",
                _ => "every worker that is left rests",
            };
            let message = format!(
                "{who}; waiting for one for {} s (--give-up-after)",
                patience.as_secs_f64()
            );
            actions.push(Action::Observe(Event::Warning { message }));
        }
    }

    pub(super) fn patience_ends(&self) -> Option<Duration> {
        Some(self.alone_since? + self.rules.give_up_after?)
    }
}
