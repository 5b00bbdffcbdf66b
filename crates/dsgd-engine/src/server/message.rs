//! Messages to the server: from workers, and from what supervises them.

use tokio::sync::mpsc::UnboundedSender;

use crate::own_state::OwnState;
use crate::worker::{Assignment, Outcome};
use dsgd_core::core::WorkerId;
use dsgd_core::event::Event;

/// A message to the server.
pub enum Message {
    /// A worker is there.
    Join {
        /// Its number, never used before.
        worker: WorkerId,
        /// Its name.
        name: String,
        /// Whether it gives signs of life; a thread of this process does not.
        pulses: bool,
        /// Where its assignments go; closed when the run is over.
        inbox: UnboundedSender<Assignment>,
    },
    /// A sign of life of a worker that is still at its work.
    Alive {
        /// Its number.
        worker: WorkerId,
        /// Whether what it was given, or what came of it, is under way to this server or from it.
        transfers: bool,
    },
    /// A worker has done its assignment.
    Done {
        /// Its number.
        worker: WorkerId,
        /// What came of it.
        outcome: Outcome,
    },
    /// A worker elsewhere has told what its own optimizer keeps.
    OwnState {
        /// After a round of its steps.
        state: OwnState,
    },
    /// A worker is gone.
    Lost {
        /// Its number.
        worker: WorkerId,
        /// Why, in words.
        reason: String,
    },
    /// Others may join at any time, beside those that there are slots for.
    OthersMayJoin,
    /// There is room for more workers, which will come.
    SlotsOpened {
        /// How many.
        slots: usize,
    },
    /// A host has no part in the run any more: its workers are let go, and its slots are closed.
    HostDropped {
        /// Its name; its workers' begin so.
        host: String,
        /// How many slots.
        slots: usize,
    },
    /// Slots will have no worker any more.
    SlotsClosed {
        /// How many.
        slots: usize,
        /// Whose, and why, in words.
        reason: String,
    },
    /// An event for the observers.
    Emit(Event),
    /// The user wants the run to stop.
    Interrupt,
}
