//! What a worker's own optimizer keeps, told to the server and asked of it.

use std::iter;

use tracing::debug;

use super::client::{Client, SessionHeader};
use super::error::LinkError;
use crate::own_state::OwnState;
use crate::wire::integrity::Integrity;
use crate::wire::paced::while_moving;
use crate::wire::{MOST_MESSAGE, framing, proto, state};

impl Client {
    /// Tells a worker's state on a connection of its own, while the worker goes on: it is large, and nobody waits for it.
    /// What does not arrive is told again some steps later.
    pub(super) fn push_state(&self, session: SessionHeader, integrity: Integrity, own: OwnState) {
        let client = self.clone();
        self.runtime().spawn(async move {
            let sent = client.send_state(session, integrity, &own).await;
            debug!(steps = own.steps, ?sent, "has told its optimizer's state");
        });
    }

    async fn send_state(
        &self,
        session: SessionHeader,
        integrity: Integrity,
        own: &OwnState,
    ) -> Result<(), LinkError> {
        let (mut connection, traffic) = self.connection()?;
        let messages = state::messages(own, integrity);
        let request = framing::request(framing::PUSH_STATE, session, messages);
        let sent = async {
            let mut reply = framing::call(&mut connection, request, MOST_MESSAGE).await?;
            while reply.next::<proto::PushStateReply>().await?.is_some() {}
            Ok(())
        };
        let sent = while_moving(|| traffic.both(), sent).await;
        sent.ok_or_else(|| LinkError::stalled("telling an optimizer's state"))?
    }
}

impl super::Remote {
    /// What another worker's optimizer kept when this one was given what it has to do.
    pub(super) async fn pull_state(&mut self) -> Result<Option<OwnState>, LinkError> {
        let asked = framing::message(&proto::PullStateRequest {});
        let traffic = self.traffic.clone();
        let reply = self.call(framing::PULL_STATE, iter::once(asked));
        let reply = while_moving(|| traffic.read(), reply).await;
        let mut reply =
            reply.ok_or_else(|| LinkError::stalled("asking for an optimizer's state"))??;
        let layout = self.layout();
        Ok(state::receive(&mut reply, &traffic, &layout, self.integrity).await?)
    }
}
