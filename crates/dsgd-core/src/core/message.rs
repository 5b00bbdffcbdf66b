//! The core's interface: messages that go in, actions that come out.

use crate::codec::Codec;
use crate::event::{Cost, Event, Step};
use crate::task::{Part, Stats};

/// A worker's number; never given twice in a run.
pub type WorkerId = u32;

/// A lease's number; never given twice in a run.
pub type LeaseId = u64;

/// A message from a worker, or about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// It is there and wants work.
    Join {
        /// Name for people, such as `local/2`.
        name: String,
        /// Whether it gives signs of life, so that its silence means something.
        pulses: bool,
    },
    /// A sign of life: it is still at its work.
    Alive {
        /// Whether its work, or what came of it, is under way: that is no time in which it computes.
        transfers: bool,
    },
    /// It has computed the gradient of its lease and wants more work.
    Push {
        /// The lease that it was granted.
        lease: LeaseId,
        /// What it found out.
        report: Report,
    },
    /// It has evaluated the validation batch of its lease and wants more work.
    Evaluated {
        /// The lease that it was granted.
        lease: LeaseId,
        /// Sums over the batch.
        stats: Stats,
    },
    /// The task's code returned an error for the batch of its lease; it wants more work.
    Failed {
        /// The lease that it was granted.
        lease: LeaseId,
        /// The error, in words.
        reason: String,
    },
    /// The task's code panicked over the batch of its lease: the batch has failed, and the worker
    /// is gone and will not come back under this number.
    Panicked {
        /// The lease that it was granted.
        lease: LeaseId,
        /// The panic's message, in words.
        reason: String,
    },
    /// It is gone and will not come back under this number.
    Lost {
        /// Why, in words.
        reason: String,
    },
}

/// What comes with a gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Sums over the batch.
    pub stats: Stats,
    /// Norm of the gradient; not finite when an element is not.
    pub grad_norm: f64,
    /// What it took.
    pub cost: Cost,
}

/// What a lease is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// One gradient of training batches.
    Train(Round),
    /// The loss of a validation batch.
    Validate {
        /// 0-based validation batch.
        batch: usize,
    },
}

/// Training batches that are computed under one lease, from the same parameters, or one after the other by a worker
/// that takes steps of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// 1-based epoch.
    pub epoch: u32,
    /// 0-based batches; at least one, and no more than `--round`.
    pub batches: Vec<usize>,
    /// Which part of each of them.
    pub part: Part,
    /// In local mode the learning rate of the worker's step with each of them, else none.
    pub rates: Vec<f32>,
    /// In local mode the other leases that hold: what is pushed under them is not in the parameters yet.
    pub open: Vec<LeaseId>,
    /// In local mode whether the worker's slot may take the next steps while what comes of these is on its way.
    pub overlaps: bool,
    /// In local mode whether the worker is to tell what its optimizer keeps after the last of them.
    pub tell_state: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Give a worker this work with the current parameters.
    Grant {
        /// To whom.
        worker: WorkerId,
        /// Under which lease.
        lease: LeaseId,
        /// To do what.
        work: Work,
    },
    /// Make one step from the gradients pushed under these leases, in this order.
    Apply {
        /// Leases in batch order.
        leases: Vec<LeaseId>,
        /// Its learning rate, and its event, but for what the step itself finds out.
        step: Step,
        /// How many times the mean of deltas is added: where one is applied alone, its worker's share of all work; where
        /// a slot was ahead, the rounds that it is of; else 1.
        share: f32,
    },
    /// Throw away the gradient that was pushed under this lease.
    Discard {
        /// The lease.
        lease: LeaseId,
    },
    /// Write a checkpoint of the parameters, the optimizer and [`Core::progress`](super::Core::progress).
    Save {
        /// 1-based epoch that names it.
        epoch: u32,
        /// Value of the metric that names it: validation's, or the epoch's own so far.
        value: f64,
        /// Whether it is the best epoch so far.
        best: bool,
        /// Why now, in words.
        reason: String,
    },
    /// From now on workers elsewhere pull and push in this codec.
    Travel {
        /// Which one.
        codec: Codec,
    },
    /// The worker is lost: nothing is sent to it any more.
    Dismiss {
        /// Which one.
        worker: WorkerId,
    },
    /// Pass an event to the observers.
    Observe(Event),
    /// Let the workers go and end the run.
    Finish(End),
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Done,
    /// Someone asked for it.
    Interrupted,
    /// It makes no sense to go on.
    Failed(String),
    /// Training has diverged: its parameters are worth nothing, and were not saved.
    Diverged(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => write!(f, "finished"),
            Self::Interrupted => write!(f, "interrupted"),
            Self::Failed(reason) => write!(f, "failed ({reason})"),
            Self::Diverged(reason) => write!(f, "diverged ({reason})"),
        }
    }
}
