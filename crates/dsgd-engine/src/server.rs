//! The server: owns the core and the store of the parameters, and carries the core's actions out.
//!
//! One thread, one inbox. It waits for a message or for the core's next deadline, tells the
//! core, and does what the core says, in that order; observers come last, when
//! the workers have their work. Gradients lie in the store under their lease from push to step.

mod job;
mod message;
mod save;
mod slots;
mod step;

pub use message::Message;
pub use step::ServerStep;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, trace};

use crate::own_state::OwnState;
use crate::run::Saver;
use crate::store::Store;
use crate::worker::{self, Buffers};
use dsgd_core::codec::Codecs;
use dsgd_core::core::{self, Action, Core, End, LeaseId, WorkerId};
use dsgd_core::event::{Event, Observer, Record, Step};
use dsgd_core::params::{Layout, Params};

/// The longest wait for a message before the core is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Messages that are read before a tick that is due: a sign of life that is here already must be
/// read before its sender is called dead, but messages that never end must not keep time away.
const MESSAGES_BEFORE_TICK: u32 = 1000;

/// Who comes this much too late out of a wait was asleep itself (a closed lid, SIGSTOP).
const SLEPT: Duration = Duration::from_secs(2);

/// Everything that a server needs.
pub struct Server {
    core: Core,
    store: Box<dyn Store>,
    step: ServerStep,
    print_every: u64,
    /// The version that workers elsewhere have before they are given any, if they can make it by themselves.
    initial: Option<u64>,
    /// What a worker's own optimizer keeps, as one has told last.
    own_state: Option<Arc<OwnState>>,
    /// What its vectors are called.
    state_names: &'static [&'static str],
    /// How values travel to them and from them.
    codecs: Codecs,
    /// Room for workers that may come back.
    slots: usize,
    /// Whether others may join, beside those that the slots are for.
    joinable: bool,
    inboxes: BTreeMap<WorkerId, Inbox>,
    buffers: Buffers,
    observers: Vec<Observer>,
    saver: Option<Saver>,
    started: Instant,
    numbers: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
    /// Why the last checkpoint could not be written, until one can.
    unsaved: Option<String>,
}

/// Where a worker's assignments go.
struct Inbox {
    /// The worker's name.
    name: String,
    sender: UnboundedSender<worker::Assignment>,
    /// Whether the worker has a copy of the parameters, which what is new is sent for.
    copies: bool,
    /// The version that it was given last.
    given: Option<u64>,
}

/// How a run went.
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// Steps of the parameters in all.
    pub steps: u64,
    /// Why its last checkpoint could not be written, if so.
    pub unsaved: Option<String>,
    /// The parameters as they are now.
    pub params: Arc<Params>,
}

impl Server {
    /// A server for `slots` workers, whose gradients are received in `buffers`; without a saver nothing is saved.
    pub fn new(
        core: Core,
        mut store: Box<dyn Store>,
        buffers: Buffers,
        slots: usize,
        step: ServerStep,
        print_every: usize,
        saver: Option<Saver>,
    ) -> Self {
        store.prepare(slots);
        Self {
            buffers,
            core,
            store,
            step,
            print_every: print_every as u64,
            initial: None,
            own_state: None,
            state_names: &[],
            codecs: Codecs::default(),
            slots,
            joinable: false,
            inboxes: BTreeMap::new(),
            observers: Vec::new(),
            saver,
            started: Instant::now(),
            numbers: Arc::default(),
            over: Arc::default(),
            unsaved: None,
        }
    }

    /// Workers elsewhere can make this version by themselves, and values travel so.
    pub fn reach_elsewhere(&mut self, initial: Option<u64>, codecs: Codecs) {
        self.initial = initial;
        self.codecs = codecs;
    }

    /// Workers take steps with an optimizer of their own, whose vectors have these names: with this state to begin with.
    pub fn share_state(&mut self, names: &'static [&'static str], begin: Option<OwnState>) {
        self.state_names = names;
        self.own_state = begin.map(Arc::new);
    }

    /// Where gradients come from that are pushed to this server.
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Set before the inboxes are closed, if they are because the run is over.
    pub fn over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.over)
    }

    /// The next worker's number.
    pub fn numbers(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.numbers)
    }

    /// The model's tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        self.store.current().layout()
    }

    /// Adds an observer.
    pub fn observe(&mut self, observer: Observer) {
        self.observers.push(observer);
    }

    /// Passes an event to the observers.
    pub fn emit(&mut self, event: Event) {
        let at_secs = self.started.elapsed().as_secs_f64();
        let record = Record { at_secs, event };
        for observer in &mut self.observers {
            observer(&record);
        }
    }

    /// Serves until the run is over. The workers find their inboxes closed then.
    pub fn run(mut self, messages: &Receiver<Message>) -> Finished {
        let now = self.started.elapsed();
        let mut actions = self.core.start(now);
        let mut messages_since_due = 0;
        loop {
            if let Some(end) = self.carry_out(actions) {
                self.over.store(true, Ordering::Relaxed);
                let steps = self.core.version();
                let words = end.to_string();
                self.emit(Event::RunFinished {
                    outcome: words,
                    steps,
                });
                return Finished {
                    end,
                    steps,
                    unsaved: self.unsaved,
                    params: Arc::clone(self.store.current()),
                };
            }
            let now = self.started.elapsed();
            let wait = self
                .core
                .next_tick()
                .map_or(LONGEST_WAIT, |at| at.saturating_sub(now).min(LONGEST_WAIT));
            messages_since_due = if wait.is_zero() {
                messages_since_due + 1
            } else {
                0
            };
            if messages_since_due > MESSAGES_BEFORE_TICK {
                messages_since_due = 0;
                actions = self.core.tick(now);
                continue;
            }
            let message = messages.recv_timeout(wait);
            let then = self.started.elapsed();
            if then > now + wait + SLEPT {
                self.core.excuse(then);
            }
            actions = match message {
                Ok(message) => self.read(then, message),
                Err(RecvTimeoutError::Timeout) => self.core.tick(then),
                Err(RecvTimeoutError::Disconnected) => {
                    self.core.abandon(then, "every worker is gone")
                }
            };
        }
    }

    fn read(&mut self, now: Duration, message: Message) -> Vec<Action> {
        match message {
            Message::Join {
                worker,
                name,
                pulses,
                inbox,
            } => {
                let inbox = Inbox {
                    name: name.clone(),
                    sender: inbox,
                    // A thread of this process reads the server's own.
                    copies: pulses,
                    given: self.initial,
                };
                self.inboxes.insert(worker, inbox);
                self.dispatch(now, worker, core::Message::Join { name, pulses })
            }
            Message::Alive { worker, transfers } => {
                self.dispatch(now, worker, core::Message::Alive { transfers })
            }
            Message::Done { worker, outcome } => {
                let message = self.unpack(outcome);
                self.dispatch(now, worker, message)
            }
            Message::Lost { worker, reason } => {
                self.dispatch(now, worker, core::Message::Lost { reason })
            }
            Message::OthersMayJoin => {
                self.joinable = true;
                self.core.make_room(usize::MAX);
                Vec::new()
            }
            Message::SlotsOpened { slots } => self.open_slots(slots),
            Message::HostDropped { host, slots } => self.drop_host(now, host, slots),
            Message::SlotsClosed { slots, reason } => {
                self.emit(Event::Warning { message: reason });
                self.close_slots(now, slots)
            }
            Message::Emit(event) => {
                self.emit(event);
                Vec::new()
            }
            Message::OwnState { state } => {
                self.keep_state(state);
                Vec::new()
            }
            Message::Interrupt => self.core.interrupt(now, "interrupted"),
        }
    }

    fn dispatch(&mut self, now: Duration, worker: WorkerId, message: core::Message) -> Vec<Action> {
        match &message {
            core::Message::Alive { .. } => trace!(worker, "a sign of life"),
            message => debug!(worker, ?message, "a message to the core"),
        }
        self.core.handle(now, worker, message)
    }

    /// An outcome as the core's message; the gradient stays here.
    fn unpack(&mut self, outcome: worker::Outcome) -> core::Message {
        match outcome {
            worker::Outcome::Gradient {
                lease,
                report,
                gradient,
                state,
            } => {
                if let Some(state) = state {
                    self.keep_state(state);
                }
                self.store.hold(lease, gradient, report.stats.examples);
                core::Message::Push { lease, report }
            }
            worker::Outcome::Evaluated { lease, stats } => {
                core::Message::Evaluated { lease, stats }
            }
            worker::Outcome::Failed { lease, reason } => core::Message::Failed { lease, reason },
            worker::Outcome::Panicked { lease, reason } => {
                core::Message::Panicked { lease, reason }
            }
        }
    }

    /// Carries the core's actions out; observers come when all else is done.
    fn carry_out(&mut self, actions: Vec<Action>) -> Option<End> {
        let mut end = None;
        let mut events = VecDeque::new();
        for action in actions {
            match &action {
                // Observers show it.
                Action::Observe(event) => trace!(event = event.kind(), "the core tells"),
                action => debug!(?action, "the core decides"),
            }
            match action {
                Action::Grant {
                    worker,
                    lease,
                    work,
                } => self.grant(worker, lease, work),
                Action::Apply {
                    leases,
                    step,
                    share,
                } => {
                    events.push_back(Event::Step(self.apply(&leases, step, share)));
                }
                Action::Discard { lease } => self.store.discard(lease),
                Action::Save {
                    epoch,
                    value,
                    best,
                    reason,
                } => {
                    // What was seen before comes before the checkpoint, also in the log.
                    events.drain(..).for_each(|event| self.emit(event));
                    events.extend(self.save(epoch, value, best, reason));
                }
                Action::Travel { codec } => {
                    self.codecs = Codecs {
                        push: codec,
                        pull: codec,
                    };
                    self.store.travel_in(codec);
                }
                Action::Dismiss { worker } => drop(self.inboxes.remove(&worker)),
                Action::Observe(event) => events.push_back(event),
                Action::Finish(how) => end = Some(how),
            }
        }
        assert_eq!(self.store.version(), self.core.version());
        for mut event in events {
            if let Event::Step(step) = &mut event
                && step.version.is_multiple_of(self.print_every)
            {
                let params = self.store.current().flat();
                step.param_norm = Some(dsgd_core::params::sum_of_squares(params).sqrt());
            }
            self.emit(event);
        }
        end
    }

    /// One step from these gradients: their mean by examples, clipped; or the mean of these deltas, of which `share`
    /// is added.
    fn apply(&mut self, leases: &[LeaseId], mut step: Step, share: f32) -> Step {
        if leases.len() > 1 {
            step.grad_norm = self.store.average(leases);
        }
        let size = self.step.size(&step, share);
        self.store.apply(leases[0], size);
        step
    }
}
