//! Room for workers, which comes and goes with the run's hosts.

use std::time::Duration;

use super::Server;
use dsgd_core::core::{self, Action};
use dsgd_core::event::Event;

impl Server {
    /// More workers will come. What they read and write is made room for now, not in the middle of a step.
    pub(super) fn open_slots(&mut self, slots: usize) -> Vec<Action> {
        self.slots += slots;
        self.make_room();
        self.store.prepare(self.slots);
        Vec::new()
    }

    /// Some workers will not come any more. A run for which none can come that gets work is over.
    pub(super) fn close_slots(&mut self, now: Duration, slots: usize) -> Vec<Action> {
        self.slots = self.slots.saturating_sub(slots);
        self.make_room();
        let resting = self.core.live_count() - self.core.working();
        if self.joinable || self.slots > resting {
            return Vec::new();
        }
        let reason = match resting {
            0 => "no worker is left, and none can come",
            _ => "every worker that is left rests, and no other can come",
        };
        self.core.abandon(now, reason)
    }

    fn make_room(&mut self) {
        if !self.joinable {
            self.core.make_room(self.slots);
        }
    }

    /// Lets a host's workers go. What they were given is free at once, whether or not they still answer.
    pub(super) fn drop_host(&mut self, now: Duration, host: String, slots: usize) -> Vec<Action> {
        let is_there = |name: &str| name.rsplit_once('/').is_some_and(|(of, _)| of == host);
        let workers = self
            .inboxes
            .iter()
            .filter(|(_, inbox)| is_there(&inbox.name));
        let workers: Vec<_> = workers.map(|(&worker, _)| worker).collect();
        self.emit(Event::HostDropped { host });
        let mut actions = Vec::new();
        for worker in workers {
            let reason = "its host was dropped from the run".to_owned();
            actions.extend(
                self.core
                    .handle(now, worker, core::Message::Lost { reason }),
            );
        }
        actions.extend(self.close_slots(now, slots));
        actions
    }
}
