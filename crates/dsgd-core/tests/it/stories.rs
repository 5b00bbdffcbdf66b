//! Stories told to the core in virtual time, one a file in `stories/`.
//!
//! Each command of a script is a message or time, its output what the core wants done, and after it the
//! core's state in a line: batches and leases; workers.
//! After a change that is meant, `UPDATE_GOLDENFILES=1 cargo test -p dsgd-core` writes
//! the outputs anew; read the difference before you believe it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use dsgd_core::codec::Codec;
use dsgd_core::core::{
    Action, Core, LeaseId, Merge, Message, Pacing, Progress, Report, Round, Rules, Work, WorkerId,
};
use dsgd_core::event::Cost;
use dsgd_core::metric::Metric;
use dsgd_core::mode::Mode;
use dsgd_core::optim::{LrSchedule, Schedule, ScheduleOptions, ScheduleState};
use dsgd_core::task::{BatchSize, Stats};
use goldenscript::{ArgumentConsumer, Command, Context};

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/stories");
    let mut told = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        goldenscript::run(&mut Story::default(), &path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        told += 1;
    }
    assert!(told >= 10, "only {told} stories found");
}

/// A core, the time, and who holds which lease.
#[derive(Default)]
struct Story {
    core: Option<Core>,
    rules: Option<Rules>,
    /// Examples and items of each batch, as the task knows them.
    size: Option<BatchSize>,
    now: Duration,
    leases: BTreeMap<WorkerId, LeaseId>,
    /// Numbers of batches in a story are places in the epoch's order, so that it reads well.
    saved: Option<Progress>,
}

/// A schedule that stays as it is at rate 1.
fn schedule(state: ScheduleState) -> Schedule {
    let options = ScheduleOptions {
        kind: LrSchedule::Decay,
        learning_rate: 1.0,
        warmup_steps: 0,
        lr_decay: 0.5,
        start_decay_at: 100,
        total_steps: 0,
    };
    Schedule::new(options, state)
}

impl Story {
    fn start(&mut self, command: &Command) -> Result<Vec<Action>, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mode = match args.take_key("mode") {
            Some("sync") => Mode::Sync,
            Some("split") => Mode::Split,
            Some("local") => Mode::Local,
            _ => Mode::Async,
        };
        let workers = take(&mut args, "workers")?.unwrap_or(2);
        let (batches, validation) = (
            take(&mut args, "batches")?.unwrap_or(4),
            take(&mut args, "validation")?.unwrap_or(0),
        );
        let merge = match args.take_key("merge") {
            Some("rounds") => Merge::Rounds,
            Some("overlapping") => Merge::Overlapping,
            _ => Merge::OnArrival,
        };
        let mut secs =
            |name| Ok::<_, Box<dyn Error>>(take(&mut args, name)?.map(Duration::from_secs));
        let rules = Rules {
            lease: secs("lease")?.unwrap_or(Duration::from_secs(60)),
            dead_after: secs("dead_after")?,
            give_up_after: secs("give_up_after")?,
            save_after: take(&mut args, "save_minutes")?.map(|n: u64| Duration::from_secs(60 * n)),
            round: take(&mut args, "round")?.unwrap_or(1),
            pacing: match args.take_key("pacing") {
                Some("planned") => Pacing::Planned,
                Some("by_pace") => Pacing::ByPace,
                _ => Pacing::Even,
            },
            codecs: vec![Codec::Int8, Codec::Int4],
            merge,
            by_name: merge == Merge::Rounds,
            parts: take(&mut args, "parts")?.unwrap_or(1),
            backup_workers: take(&mut args, "backup")?.unwrap_or(0),
            max_staleness: take(&mut args, "max_staleness")?,
            staleness_lr: take(&mut args, "staleness_lr")?.unwrap_or(false),
            wait: take(&mut args, "wait")?,
            metric: match args.take_key("metric") {
                None => Metric::perplexity(),
                Some("accuracy") => Metric::accuracy(),
                Some(other) => return Err(format!("no metric {other}").into()),
            },
            epochs: (1, take(&mut args, "epochs")?.unwrap_or(1)),
            seed: 3435,
            ..Rules::new(mode, workers, batches, validation)
        };
        let size = take(&mut args, "size")?;
        self.size = size.map(|examples| BatchSize {
            examples,
            count: examples,
        });
        args.reject_next()?;
        self.rules = Some(rules);
        self.resume(Progress::start(1))
    }

    fn resume(&mut self, progress: Progress) -> Result<Vec<Action>, Box<dyn Error>> {
        let rules = self.rules.clone().ok_or("start first")?;
        let sizes = |batches| self.size.map_or(Vec::new(), |size| vec![size; batches]);
        let sizes = (sizes(rules.batches), sizes(rules.validation_batches));
        let mut core =
            Core::new(rules, schedule(progress.schedule), progress).with_sizes(sizes.0, sizes.1);
        let actions = core.start(self.now);
        self.core = Some(core);
        Ok(actions)
    }

    fn act(&mut self, command: &Command) -> Result<Vec<Action>, Box<dyn Error>> {
        match command.name.as_str() {
            "start" => return self.start(command),
            "resume" => {
                let mut args = command.consume_args();
                if let (Some(rules), Some(n)) = (&mut self.rules, take(&mut args, "workers")?) {
                    rules.workers = n;
                }
                args.reject_next()?;
                let saved = self.saved.clone().ok_or("nothing was saved")?;
                return self.resume(saved);
            }
            _ => {}
        }
        let core = self.core.as_mut().ok_or("start first")?;
        let mut args = command.consume_args();
        let actions = match command.name.as_str() {
            "open" => {
                core.make_room(usize::MAX);
                Vec::new()
            }
            "room" => {
                let workers: usize = args.next_pos().ok_or("for how many?")?.parse()?;
                core.make_room(workers);
                Vec::new()
            }
            "after" => {
                let secs: u64 = args.next_pos().ok_or("how long?")?.parse()?;
                self.now += Duration::from_secs(secs);
                core.tick(self.now)
            }
            "interrupt" => core.interrupt(self.now, "interrupted"),
            name => {
                let worker: WorkerId = args.next_pos().ok_or("who?")?.parse()?;
                let own = self.leases.get(&worker).copied().unwrap_or_default();
                let lease = take(&mut args, "lease")?.unwrap_or(own);
                let loss: f64 = take(&mut args, "loss")?.unwrap_or(1.0);
                let stats = Stats {
                    loss,
                    count: take(&mut args, "count")?.unwrap_or(1),
                    examples: take(&mut args, "examples")?.unwrap_or(1),
                    sums: [
                        take(&mut args, "right")?.unwrap_or(0.0),
                        0.,
                        0.,
                        0.,
                        0.,
                        0.,
                        0.,
                        0.,
                    ],
                    ..Stats::default()
                };
                let reason = args.take_key("reason").unwrap_or("it said so").to_owned();
                let message = match name {
                    "join" => Message::Join {
                        name: match args.take_key("name") {
                            Some(name) => name.to_owned(),
                            None => format!("w{worker}"),
                        },
                        pulses: !take(&mut args, "thread")?.unwrap_or(false),
                    },
                    "push" => {
                        let grad_norm = take(&mut args, "norm")?.unwrap_or(1.0);
                        let compute_secs = take(&mut args, "secs")?.unwrap_or(0.0);
                        let moved = take(&mut args, "moved")?.unwrap_or(0.0);
                        let cost = Cost {
                            compute_secs,
                            pull_secs: take(&mut args, "pulled")?.unwrap_or(moved),
                            push_secs: moved,
                            catches_up: take(&mut args, "catches_up")?.unwrap_or(false),
                            ..Cost::default()
                        };
                        let report = Report {
                            stats,
                            grad_norm,
                            cost,
                        };
                        Message::Push { lease, report }
                    }
                    "evaluated" => Message::Evaluated { lease, stats },
                    "failed" => Message::Failed { lease, reason },
                    "panicked" => Message::Panicked { lease, reason },
                    "lost" => Message::Lost { reason },
                    "alive" => Message::Alive { transfers: false },
                    "transfers" => Message::Alive { transfers: true },
                    _ => return Err(format!("no command {name}").into()),
                };
                core.handle(self.now, worker, message)
            }
        };
        args.reject_next()?;
        Ok(actions)
    }

    fn describe(&mut self, action: &Action) -> String {
        match action {
            Action::Grant {
                worker,
                lease,
                work,
            } => {
                self.leases.insert(*worker, *lease);
                match work {
                    Work::Train(Round {
                        epoch,
                        batches,
                        part,
                        rates,
                        open,
                        overlaps: _,
                        tell_state,
                    }) => {
                        let batches: Vec<_> = batches.iter().map(ToString::to_string).collect();
                        let mut batches = batches.join("+");
                        if !part.is_whole() {
                            let _ = write!(batches, " part {} of {}", part.number, part.of);
                        }
                        if !rates.is_empty() {
                            let _ = write!(batches, " at rates {rates:?}");
                        }
                        if !open.is_empty() {
                            let _ = write!(batches, " beside leases {open:?}");
                        }
                        if *tell_state {
                            batches.push_str(" and tell its state");
                        }
                        format!(
                            "grant worker {worker}: train batch {batches} of epoch {epoch}, lease {lease}"
                        )
                    }
                    Work::Validate { batch } => {
                        format!("grant worker {worker}: validate batch {batch}, lease {lease}")
                    }
                }
            }
            Action::Travel { codec } => format!("travel in {}", codec.name()),
            Action::Apply {
                leases,
                step,
                share,
            } => {
                let share = match share {
                    1.0 => String::new(),
                    share => format!(", share {share:.2}"),
                };
                format!(
                    "apply leases {leases:?}: version {}, rate {}, staleness {}, counted {}/{}{share}",
                    step.version, step.learning_rate, step.staleness, step.counted, step.batches
                )
            }
            Action::Discard { lease } => format!("discard lease {lease}"),
            Action::Dismiss { worker } => format!("dismiss worker {worker}"),
            Action::Save {
                epoch,
                value,
                best,
                reason,
            } => {
                self.saved = self.core.as_ref().map(Core::progress);
                let metric = &self.rules.as_ref().expect("it has started").metric;
                let value = metric.words(*value);
                format!(
                    "save epoch {epoch}, {} {value}, best {best}: {reason}",
                    metric.name
                )
            }
            Action::Observe(event) => {
                let json = serde_json::to_value(event).unwrap_or_default();
                let kind = json["event"].as_str().unwrap_or_default().to_owned();
                let told = ["worker", "name", "batch", "epoch", "reason", "message"].iter();
                let usual = format!("w{}", json["worker"]);
                let told = told.filter(|&&key| !json[key].is_null() && json[key] != *usual);
                told.fold(format!("tell {kind}"), |mut text, &key| {
                    let _ = write!(text, " {key}={}", json[key]);
                    text
                })
            }
            Action::Finish(outcome) => format!("finish: {outcome}"),
        }
    }
}

/// The value of a `key=value` argument.
fn take<T>(args: &mut ArgumentConsumer<'_>, key: &str) -> Result<Option<T>, Box<dyn Error>>
where
    T: FromStr<Err: Error + 'static>,
{
    Ok(args.take_key(key).map(str::parse).transpose()?)
}

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let actions = self.act(command)?;
        let mut out = String::new();
        for action in &actions {
            writeln!(out, "{}", self.describe(action))?;
        }
        if let Some(core) = &self.core {
            core.assert_sound();
            writeln!(out, "= {core}")?;
        }
        Ok(out)
    }
}
