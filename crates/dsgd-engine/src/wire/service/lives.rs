//! A worker's signs of life, and their end.

use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::debug;

use super::Service;
use super::sessions::Session;
use crate::server::Message;
use crate::wire::proto::Pulse;
use dsgd_core::core::WorkerId;

/// Where pulses are answered.
type Answers = tokio::sync::mpsc::Sender<Result<Pulse, Status>>;

impl Service {
    /// Follows a worker's pulses to their end.
    pub(super) async fn follow(
        &self,
        mut pulses: Streaming<Pulse>,
        session: &Session,
        answers: Answers,
    ) {
        // The core notices silence; this only frees what is here.
        let patience = self.0.terms.dead_after * 3;
        let reason = loop {
            match timeout(patience, pulses.message()).await {
                Ok(Ok(Some(_))) => {
                    if !self.deliver(session.sign_of_life()) {
                        return;
                    }
                    let arrived = self.0.sessions.arrived(session);
                    // Who does not take the answers has enough of them.
                    let _ = answers.try_send(Ok(Pulse { arrived }));
                }
                Ok(Ok(None)) => break "it closed its connection",
                Ok(Err(_)) => break "its connection broke",
                Err(_) => break "not heard of for too long",
            }
        };
        self.lose(session.worker, reason.to_owned());
    }

    /// A worker is gone, and what it shows is of no use any more.
    pub(super) fn lose(&self, worker: WorkerId, reason: String) {
        debug!(worker, reason, "a session ends");
        self.0.sessions.close(worker);
        self.deliver(Message::Lost { worker, reason });
    }
}
