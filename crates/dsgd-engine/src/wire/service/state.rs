//! What workers' own optimizers keep, told and asked for.

use std::iter;

use axum::body::Body;
use axum::extract::State;
use tokio::time::timeout;
use tonic::{Request, Status};
use tracing::debug;

use super::{Reply, Service, integrity, traffic};
use crate::mutex::lock;
use crate::server::Message;
use crate::wire::framing::{self, Messages};
use crate::wire::{MOST_MESSAGE, STALL, most_pushed, proto, state};

impl Service {
    pub(super) async fn push_state(
        State(service): State<Self>,
        request: axum::extract::Request,
    ) -> Reply {
        match service.take_state(Request::from_http(request)).await {
            Ok(()) => framing::reply(iter::once(framing::message(&proto::PushStateReply {}))),
            Err(status) => status.into_http(),
        }
    }

    pub(super) async fn pull_state(
        State(service): State<Self>,
        request: axum::extract::Request,
    ) -> Reply {
        let given = service.give_state(Request::from_http(request)).await;
        given.unwrap_or_else(Status::into_http)
    }

    async fn take_state(&self, request: Request<Body>) -> Result<(), Status> {
        let session = self.session(&request)?;
        let (integrity, traffic) = (integrity(&request), traffic(&request));
        let terms = &self.0.terms;
        let mut messages = Messages::of_a_request(request.into_inner(), most_pushed(&terms.layout));
        let state = state::receive(&mut messages, &traffic, &terms.layout, integrity).await?;
        let state = state.ok_or_else(|| Status::invalid_argument("no state"))?;
        debug!(
            worker = session.name,
            steps = state.steps,
            "tells its optimizer's state"
        );
        if state.vectors.len() != terms.state_vectors {
            return Err(Status::invalid_argument("another optimizer's state"));
        }
        self.deliver(Message::OwnState { state });
        Ok(())
    }

    /// What there was when the worker was given what it has to do.
    async fn give_state(&self, request: Request<Body>) -> Result<Reply, Status> {
        let session = self.session(&request)?;
        let integrity = integrity(&request);
        let mut messages = Messages::of_a_request(request.into_inner(), MOST_MESSAGE);
        let asked = timeout(STALL, messages.next::<proto::PullStateRequest>()).await;
        asked.map_err(|_| Status::deadline_exceeded("no request came"))??;
        let current = lock(&session.current);
        let state = current
            .as_ref()
            .and_then(|current| current.others_state.clone());
        let steps = state.as_ref().map(|state| state.steps);
        debug!(
            worker = session.name,
            ?steps,
            "asks for an optimizer's state"
        );
        let messages = state.map(|state| state::messages(&state, integrity));
        Ok(framing::reply(messages.into_iter().flatten()))
    }
}
