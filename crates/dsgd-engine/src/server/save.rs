//! What a checkpoint holds, and having it written.

use std::sync::Arc;
use std::time::Instant;

use super::Server;
use crate::own_state::OwnState;
use crate::run::SaveRequest;
use crate::store::Contents;
use dsgd_core::event::Event;

impl Server {
    /// A worker has told what its own optimizer keeps.
    pub(super) fn keep_state(&mut self, state: OwnState) {
        if state.replaces(self.own_state.as_ref()) {
            self.own_state = Some(Arc::new(state));
        }
    }

    /// What a checkpoint holds: in local mode with the state of a worker's optimizer.
    fn contents(&self) -> Contents<'_> {
        let mut contents = self.store.contents();
        if let Some(own) = &self.own_state {
            let vectors = own.vectors.iter().map(|vector| vector.flat());
            contents.own_steps = Some(own.steps);
            contents.state = self.state_names.iter().copied().zip(vectors).collect();
        }
        contents
    }

    pub(super) fn save(
        &mut self,
        epoch: u32,
        value: f64,
        best: bool,
        reason: String,
    ) -> Option<Event> {
        let mut saver = self.saver.take()?;
        let started = Instant::now();
        let progress = self.core.progress();
        let request = SaveRequest {
            epoch,
            value,
            best,
            contents: self.contents(),
            progress: &progress,
        };
        let saved = saver(&request);
        self.saver = Some(saver);
        Some(match saved {
            Ok(file) => {
                self.unsaved = None;
                let secs = started.elapsed().as_secs_f64();
                Event::Saved { file, reason, secs }
            }
            Err(message) => {
                self.unsaved = Some(message.clone());
                Event::Warning { message }
            }
        })
    }
}
