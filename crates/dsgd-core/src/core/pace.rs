//! How many batches a worker is given at once.
//!
//! In local mode a step waits for the deltas of all workers. So that they come at about the same time, a slower one
//! takes fewer steps of its own (dynamic local updates, `DyLU`: Liu et al. 2024), unless their number is fixed.

use super::{Core, Phase, Work, WorkerId};
use crate::mode::Mode;

/// Who is slower than the fastest by less than this takes as many steps.
const ALIKE: f64 = 1.2;

impl Core {
    /// Most batches of this worker's next lease: one of validation. In local mode an epoch's last batches are shared.
    pub(super) fn round_of(&self, worker: WorkerId) -> usize {
        let most = self.rules.round;
        match &self.phase {
            Phase::Training(ledger) if self.rules.mode == Mode::Local => {
                let all = self.steps_of_all().max(1);
                let left = if self.rules.together {
                    ledger.group().len()
                } else {
                    ledger.first_free(all, |_| true).len()
                };
                let share = (left * self.steps_of(worker)).div_ceil(all);
                share.clamp(1, most)
            }
            Phase::Training(_) => most,
            Phase::Validating(..) => 1,
        }
    }

    /// Steps that all workers take in a full round.
    pub(super) fn steps_of_all(&self) -> usize {
        let working = self.roster.working_numbers();
        working.map(|worker| self.steps_of(worker)).sum()
    }

    /// Steps that a worker takes in a full round: as many as the fastest one has the time for.
    fn steps_of(&self, worker: WorkerId) -> usize {
        let most = self.rules.round;
        let known = || self.roster.paces();
        let fastest = known().map(|(_, pace)| pace);
        let fastest = fastest.min_by(|a, b| a.batch_secs.total_cmp(&b.batch_secs));
        let own = known().find(|(of, _)| *of == worker).map(|(_, pace)| pace);
        let (Some(fastest), Some(own), true) = (fastest, own, self.rules.paced) else {
            return most;
        };
        if own.batch_secs < ALIKE * fastest.batch_secs {
            return most;
        }
        let time = most as f64 * fastest.batch_secs + fastest.transfer_secs - own.transfer_secs;
        let steps = (time / own.batch_secs).round();
        steps.clamp(1.0, most as f64) as usize
    }

    /// What a lease on these positions is for.
    pub(super) fn work(&self, positions: &[usize]) -> Work {
        let mut work = self.ledger().work(positions);
        if let Work::Train(round) = &mut work
            && self.rules.mode == Mode::Local
        {
            let rate = |&position| self.schedule.learning_rate(self.steps_before(position));
            round.rates = positions.iter().map(rate).collect();
            round.open = self.ledger().open().collect();
        }
        work
    }
}
