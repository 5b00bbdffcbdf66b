//! How many batches a worker is given at once.
//!
//! In local mode a step waits for the deltas of all workers. So that they come at about the same time, a slower one
//! takes fewer steps of its own (dynamic local updates, `DyLU`: Liu et al. 2024), unless their number is fixed.

use super::promise::steps_at;
use super::roster::Pace;
use super::{Core, Pacing, Phase, Work, WorkerId};
use crate::mode::Mode;

impl Core {
    /// Most batches of this worker's next lease: one of validation. In local mode an epoch's last batches are shared.
    pub(super) fn round_of(&self, worker: WorkerId) -> usize {
        match &self.phase {
            Phase::Training(ledger) if self.rules.mode == Mode::Local => {
                let own = self.roster.pace(worker);
                let own = self.steps_of(own, self.roster.fastest());
                let all = self.steps_of_all().max(1);
                if self.rules.in_groups() {
                    let left = ledger.group().len();
                    return (left * own).div_ceil(all).clamp(1, self.steps());
                }
                // The two workers of a slot take turns.
                let all = (all * self.roster.slots() / self.roster.working().max(1)).max(1);
                let left = ledger.first_free(all, |_| true).len();
                // A short round takes as long an exchange as a long one: it is at least half of one.
                let least = left.min(own.div_ceil(2));
                (left * own).div_ceil(all).max(least).clamp(1, own)
            }
            Phase::Training(_) => self.rules.round,
            Phase::Validating(..) => 1,
        }
    }

    /// Whether a step waits for several rounds, each of several batches.
    pub(super) fn shares_a_step(&self) -> bool {
        self.rules.mode == Mode::Local && self.rules.in_groups()
    }

    /// So many of these positions, which together are as large as as many of the others: batches may differ severalfold in
    /// what they take. The first ones, where their sizes are not known or alike.
    pub(super) fn even_share(&self, mut free: Vec<usize>, number: usize) -> Vec<usize> {
        let items = |&position: &usize| self.belief.items(self.ledger().batch(position));
        let all = free.len();
        let known = free.iter().all(|position| items(position).is_some());
        let differ = free
            .iter()
            .any(|position| items(position) != items(&free[0]));
        if number >= all || !known || !differ {
            free.truncate(number);
            return free;
        }
        free.sort_by_key(items);
        // By turns the smallest and the largest of as many groups of alike ones.
        let pick = |group: usize| match (group * all / number, (group + 1) * all / number) {
            (first, _) if group.is_multiple_of(2) => free[first],
            (_, end) => free[end - 1],
        };
        let mut picked: Vec<_> = (0..number).map(pick).collect();
        picked.sort_unstable();
        picked
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

    /// What a lease on these positions is for.
    pub(super) fn work(&self, positions: &[usize]) -> Work {
        let mut work = self.ledger().work(positions);
        if let Work::Train(round) = &mut work
            && self.rules.mode == Mode::Local
        {
            let rate = |&position| self.schedule.learning_rate(self.steps_before(position));
            round.rates = positions.iter().map(rate).collect();
            // Who waits for all others begins at what all have pushed.
            if !self.rules.in_groups() {
                round.open = self.ledger().open().collect();
            }
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Merge, Progress, Rules};
    use super::*;
    use crate::optim::{LrSchedule, Schedule, ScheduleOptions, ScheduleState};
    use crate::task::BatchSize;

    fn core(sizes: &[u64]) -> Core {
        let rules = Rules {
            merge: Merge::Rounds,
            ..Rules::new(Mode::Local, 2, sizes.len(), 0)
        };
        let options = ScheduleOptions {
            kind: LrSchedule::Constant,
            learning_rate: 1.0,
            warmup_steps: 0,
            lr_decay: 1.0,
            start_decay_at: 1,
            total_steps: 0,
        };
        let schedule = Schedule::new(options, ScheduleState::default());
        let size = |&count: &u64| BatchSize { examples: 1, count };
        let sizes = sizes.iter().map(size).collect();
        Core::new(rules, schedule, Progress::start(1)).with_sizes(sizes, Vec::new())
    }

    #[test]
    fn rounds_are_as_large_as_one_another() {
        let sizes: Vec<u64> = (0..22).map(|batch| 100 + batch * batch).collect();
        let core = core(&sizes);
        let items = |positions: &[usize]| -> u64 {
            let batches = positions.iter().map(|&p| core.ledger().batch(p));
            batches.map(|batch| sizes[batch]).sum()
        };
        let all: Vec<_> = (0..22).collect();
        let first = core.even_share(all.clone(), 11);
        let rest: Vec<_> = all.iter().copied().filter(|p| !first.contains(p)).collect();
        assert_eq!((first.len(), rest.len()), (11, 11));
        assert!(first.is_sorted());
        let (one, other) = (items(&first) as f64, items(&rest) as f64);
        assert!((one / other - 1.0).abs() < 0.05, "{one} and {other}");
        // A third of the items for who takes a third of the steps.
        let third = core.even_share(all.clone(), 7);
        let share = items(&third) as f64 / items(&all) as f64;
        assert!((share - 7.0 / 22.0).abs() < 0.04, "{share}");
    }

    #[test]
    fn batches_of_one_size_are_dealt_out_in_their_order() {
        let core = core(&[64; 10]);
        assert_eq!(core.even_share((0..10).collect(), 4), [0, 1, 2, 3]);
    }
}
