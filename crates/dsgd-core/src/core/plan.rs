//! How many steps workers take between two exchanges, and in which codec they exchange, chosen by measurement
//! (`--mode auto`).
//!
//! An exchange takes as long whatever the number of steps before it, so more of them mean less waiting, and more that is
//! learned apart from the others. The mildest plan is taken with which workers wait for exchanges a tenth of the time or
//! less: few steps in the finer codec; then the coarser one, which costs no quality that could be measured, while more
//! steps do; then more steps; and where workers would wait for much of the time all the same, exchanges while they
//! compute. A worker that makes the others slower than it makes them faster is left out.

use super::promise::{MOST_STEPS, Pace, Planner, Promise, most_steps};
use super::{Action, Core, Pacing, Plan};
use crate::codec::Codec;
use crate::event::Event;
use crate::mode::Mode;

/// Steps before anything is measured.
const FIRST_STEPS: usize = 4;

/// A plan that promises this much more than the one in force is better.
const BETTER: f64 = 1.15;

/// It must be so for this many exchanges one after the other.
const TIMES: u32 = 2;

/// A worker is left out that adds less than this to what the others do without it.
const HELPS: f64 = 1.05;

impl Core {
    /// Steps of the fastest worker between two exchanges.
    pub(super) fn steps(&self) -> usize {
        self.progress
            .plan
            .map_or(self.rules.round, |plan| plan.steps)
    }

    /// The first plan, before anything is measured; for a resumed run the one that it had.
    pub(super) fn begin_plan(&mut self, actions: &mut Vec<Action>) {
        if self.rules.mode != Mode::Local || self.rules.pacing != Pacing::Planned {
            self.progress.plan = None;
            return;
        }
        let first = Plan {
            steps: FIRST_STEPS.min(self.most_steps(self.rules.workers)),
            codec: self.rules.codecs[0],
            overlaps: false,
        };
        let plan = *self.progress.plan.get_or_insert(first);
        actions.push(Action::Travel { codec: plan.codec });
    }

    fn most_steps(&self, workers: usize) -> usize {
        most_steps(self.rules.batches, workers)
    }

    /// At the beginning of a round: whether another plan is better, now that more is known.
    pub(super) fn replan(&mut self, actions: &mut Vec<Action>) {
        let Some(plan) = self.progress.plan else {
            return;
        };
        if self.planner.since.is_none() {
            self.planner.since = Some((self.now, self.ledger().closed()));
        }
        let paces: Option<Vec<Pace>> = self.roster.paces().collect();
        let Some(paces) = paces.filter(|paces| !paces.is_empty()) else {
            return;
        };
        if let Some(slowest) = self.who_does_not_help(plan, &paces) {
            self.do_without(&slowest, actions);
            return self.replan(actions);
        }
        let most_steps = self.most_steps(paces.len());
        let best = Promise::best(&self.rules.codecs, most_steps, |other| {
            scaled(&paces, plan.codec, other)
        });
        let now = Promise::of(plan, &paces);
        let first = self.planner.speedup.is_none();
        let better = best.plan != plan && best.speedup > BETTER * now.speedup;
        self.planner.worse = if better { self.planner.worse + 1 } else { 0 };
        if !first && self.planner.worse < TIMES {
            return;
        }
        self.adopt(best, &paces, actions);
    }

    fn adopt(&mut self, best: Promise, paces: &[Pace], actions: &mut Vec<Action>) {
        let Promise {
            plan,
            speedup,
            waiting,
        } = best;
        let before = self.progress.plan.replace(plan);
        self.planner = Planner {
            speedup: Some(speedup),
            worse: 0,
            since: Some((self.now, self.ledger().closed())),
        };
        if before.is_none_or(|before| before.codec != plan.codec) {
            let before = before.map_or(plan.codec, |before| before.codec);
            self.roster.scale_transfers(size(plan.codec) / size(before));
            actions.push(Action::Travel { codec: plan.codec });
        }
        if plan.overlaps {
            self.ledger_mut().end_groups();
        }
        let exchange = paces.iter().map(|pace| pace.transfer_secs);
        let exchange = exchange.fold(0.0, f64::max);
        let batch = paces.iter().map(|pace| pace.batch_secs);
        let batch = batch.fold(f64::INFINITY, f64::min);
        let (steps, codec, workers) = (plan.steps, plan.codec, paces.len());
        let name = codec.name();
        let plural = if steps == 1 { "step" } else { "steps" };
        let who = if workers == 1 {
            "worker waits"
        } else {
            "workers wait"
        };
        let (meanwhile, option) = if plan.overlaps {
            (", which go on while they compute", "--prefetch ")
        } else {
            ("", "")
        };
        let message = format!(
            "A batch takes {}, an exchange took {}: {steps} {plural} between exchanges, in {name}{meanwhile}; {workers} \
             {who} {:.0} % of the time; predicted {speedup:.1} × the fastest alone (--mode local {option}--local-steps \
             {steps} --codec {name} keeps this)",
            secs(batch),
            secs(exchange),
            100.0 * waiting
        );
        actions.push(Action::Observe(Event::Plan {
            steps,
            codec,
            workers,
            predicted: speedup,
            waiting,
            measured: None,
            message,
        }));
    }

    /// The epoch's training batches are done: what became of the promise.
    pub(super) fn measure_plan(&mut self, actions: &mut Vec<Action>) {
        let (Some(plan), Some((since, counted))) = (self.progress.plan, self.planner.since.take())
        else {
            return;
        };
        let paces: Vec<_> = self.roster.paces().flatten().collect();
        let (Some(predicted), Some(fastest)) = (self.planner.speedup, self.roster.fastest()) else {
            return;
        };
        let batches = self.ledger().closed().saturating_sub(counted);
        let took = self.now.saturating_sub(since).as_secs_f64();
        let now = Promise::of(plan, &paces);
        let measured = batches as f64 / took.max(1e-9) * fastest.batch_secs;
        let message = format!(
            "Epoch {}: predicted {predicted:.1} × the fastest worker alone, measured {measured:.1} ×",
            self.progress.epoch
        );
        actions.push(Action::Observe(Event::Plan {
            steps: plan.steps,
            codec: plan.codec,
            workers: paces.len(),
            predicted,
            waiting: now.waiting,
            measured: Some(measured),
            message,
        }));
    }

    /// The worker whose exchanges take longest, where the others are as fast without it.
    fn who_does_not_help(&self, plan: Plan, paces: &[Pace]) -> Option<String> {
        if paces.len() < 2 {
            return None;
        }
        let (name, slowest) = self.roster.slowest()?;
        let at = paces.iter().position(|pace| *pace == slowest)?;
        let mut others = paces.to_vec();
        others.remove(at);
        // With as many steps at most: that fewer workers may take more of them says nothing of this one.
        let most_steps = self.most_steps(paces.len());
        let rate = |paces: &[Pace]| {
            let best = Promise::best(&self.rules.codecs, most_steps, |other| {
                scaled(paces, plan.codec, other)
            });
            let batch = paces.iter().map(|pace| pace.batch_secs);
            // Batches a second: the fastest may be the one that goes.
            best.speedup / batch.fold(f64::INFINITY, f64::min)
        };
        (rate(paces) < HELPS * rate(&others)).then(|| name.to_owned())
    }

    fn do_without(&mut self, name: &str, actions: &mut Vec<Action>) {
        let pace = self.roster.slowest().map(|(_, pace)| pace);
        self.roster.leave_out(name);
        let exchange = pace.map_or(0.0, |pace| pace.transfer_secs);
        let batch = pace.map_or(0.0, |pace| pace.batch_secs);
        let message = format!(
            "{name} takes {} for an exchange and {} for a batch: the others are as fast without it; it is left out (--mode \
             local --local-steps {MOST_STEPS} insists)",
            secs(exchange),
            secs(batch)
        );
        actions.push(Action::Observe(Event::Notice { message }));
    }
}

/// What rounds would take in another plan's codec.
fn scaled(paces: &[Pace], now: Codec, other: Plan) -> Vec<Pace> {
    let scale = size(other.codec) / size(now);
    let scaled = |pace: &Pace| Pace {
        transfer_secs: pace.transfer_secs * scale,
        ..*pace
    };
    paces.iter().map(scaled).collect()
}

/// Bytes of an element.
fn size(codec: Codec) -> f64 {
    codec.bytes(codec.block()) as f64 / codec.block() as f64
}

fn secs(secs: f64) -> String {
    match secs {
        ..0.01 => format!("{:.1} ms", secs * 1e3),
        ..1.0 => format!("{:.0} ms", secs * 1e3),
        _ => format!("{secs:.1} s"),
    }
}
