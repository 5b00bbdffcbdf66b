//! How many batches a worker is given at once.
//!
//! In local mode a step waits for the deltas of all workers. So that they come at about the same time, a slower one
//! takes fewer steps of its own (dynamic local updates, `DyLU`: Liu et al. 2024), unless their number is fixed.

use super::promise::{Pace, steps_at};
use super::{Core, Pacing, Phase, Work, WorkerId};
use crate::mode::Mode;

/// Steps of the parameters after which a worker's optimizer state is asked for at the latest.
const TOLD_AFTER: u64 = 64;

impl Core {
    /// Most batches of this worker's next lease: one of validation. In local mode an epoch's last batches are shared.
    pub(super) fn round_of(&self, worker: WorkerId) -> usize {
        match &self.phase {
            Phase::Training(ledger) if self.rules.mode == Mode::Local => {
                let own = self.roster.pace(worker);
                let own = self.steps_of(own, self.roster.fastest());
                let all = self.steps_of_all().max(1);
                if self.in_groups() {
                    let left = ledger.group().len();
                    return (left * own).div_ceil(all).clamp(1, self.steps());
                }
                let left = ledger.first_free(all, |_| true).len();
                // A short round takes as long an exchange as a long one: it is at least half of one.
                let least = left.min(own.div_ceil(2));
                let share = (left * own).div_ceil(all).max(least);
                let rest = left.saturating_sub(share);
                // Nor is what remains a round by itself.
                let share = if rest < least { left } else { share };
                share.clamp(1, own)
            }
            Phase::Training(_) => self.rules.round,
            Phase::Validating(..) => 1,
        }
    }

    /// Steps that all workers take in a full round.
    pub(super) fn steps_of_all(&self) -> usize {
        let fastest = self.roster.fastest();
        let paces = self.roster.paces();
        paces.map(|own| self.steps_of(own, fastest)).sum()
    }

    /// Steps that a worker of that pace takes in a full round; one that has not pushed yet is supposed to be as fast as
    /// any.
    fn steps_of(&self, own: Option<Pace>, fastest: Option<Pace>) -> usize {
        match (own, fastest) {
            (Some(own), Some(fastest)) if self.rules.pacing != Pacing::Even => {
                steps_at(own, fastest, self.steps())
            }
            _ => self.steps(),
        }
    }

    /// In local mode one worker tells what its optimizer keeps, for those that come later and for checkpoints: with the
    /// first step of the parameters, the third, the ninth, and so on. It is as large as an exchange. What `AdaGrad` keeps
    /// grows with the steps, so a third of it is known at least, and steps by what is known are too long by a factor of
    /// less than two.
    pub(super) fn ask_for_state(&mut self, work: &mut Work) {
        let version = self.progress.version;
        if let Work::Train(round) = work
            && self.rules.mode == Mode::Local
            && version >= self.state_due
        {
            round.tell_state = true;
            let so_far = version - self.first_version;
            self.state_due = version + (2 * so_far + 2).min(TOLD_AFTER);
        }
    }

    /// What a lease on these positions is for.
    pub(super) fn work(&self, positions: &[usize]) -> Work {
        let mut work = self.ledger().work(positions);
        if let Work::Train(round) = &mut work
            && self.rules.mode == Mode::Local
        {
            let rate = |&position| self.schedule.learning_rate(self.steps_before(position));
            round.rates = positions.iter().map(rate).collect();
            // Who waits for all others begins at what all have pushed.
            round.overlaps = self.overlaps();
            if !self.in_groups() {
                round.open = self.ledger().open().collect();
            }
        }
        work
    }
}
