//! What a worker's own optimizer keeps, on its way out and in.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use tonic::Status;

use super::framing::{self, Messages};
use super::incoming::{IncomingParams, WireError};
use super::integrity::Integrity;
use super::outgoing;
use super::paced::{Traffic, nothing_came, while_moving};
use super::proto::{self, StatePart, state_part};
use super::words;
use crate::own_state::{self, OwnState};
use dsgd_core::codec::Codec;
use dsgd_core::optim::MAX_STATE;
use dsgd_core::params::{Layout, Params};

/// A state's messages: how many steps and what of each vector, then the vectors one after the other.
pub(super) fn messages(
    state: &OwnState,
    integrity: Integrity,
) -> impl Iterator<Item = Bytes> + Send + use<> {
    let vectors = state.vectors.iter();
    let vectors = vectors.map(|vector| (own_state::news(vector), own_state::codec(vector)));
    let vectors: Vec<_> = vectors.collect();
    let head = vectors.iter().map(|(news, codec)| proto::StateVector {
        codec: codec.id(),
        fresh: words::fresh(news),
    });
    let head = framing::message(&StatePart {
        part: Some(state_part::Part::Head(proto::StateHead {
            steps: state.steps,
            vectors: head.collect(),
        })),
    });
    let pieces = vectors.into_iter().flat_map(move |(news, codec)| {
        outgoing::params(news, codec, integrity).flat_map(framing::piece)
    });
    std::iter::once(head).chain(pieces)
}

/// Takes a state in; none where there is none.
pub(super) async fn receive<B>(
    messages: &mut Messages<B>,
    traffic: &Traffic,
    layout: &Arc<Layout>,
    integrity: Integrity,
) -> Result<Option<OwnState>, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let head = match next(messages, traffic).await? {
        None => return Ok(None),
        Some(state_part::Part::Head(head)) => head,
        Some(_) => return Err(wrong("it begins with its head")),
    };
    if head.vectors.len() > MAX_STATE {
        return Err(wrong("more vectors than an optimizer has"));
    }
    let mut vectors = Vec::new();
    for entry in head.vectors {
        let codec = Codec::of_id(entry.codec).ok_or_else(|| wrong("an unknown codec"))?;
        let mut vector = Params::zeros(Arc::clone(layout));
        let incoming = IncomingParams::over(&mut vector, &entry.fresh, codec, integrity);
        let mut incoming = incoming.map_err(|error| broken(&error))?;
        while !incoming.is_complete() {
            let taken = match next(messages, traffic).await? {
                Some(state_part::Part::Chunk(chunk)) => incoming.chunk(&chunk),
                Some(state_part::Part::Rows(rows)) => incoming.rows(&rows),
                Some(state_part::Part::Head(_)) => return Err(wrong("a second head")),
                None => break,
            };
            taken.map_err(|error| broken(&error))?;
        }
        incoming.finish().map_err(|error| broken(&error))?;
        let least = if codec == Codec::Log8 { 0.0 } else { f32::MIN };
        if !vector
            .flat()
            .iter()
            .all(|value| (least..=f32::MAX).contains(value))
        {
            return Err(wrong("a value that it cannot have"));
        }
        vectors.push(Arc::new(vector));
    }
    match next(messages, traffic).await? {
        Some(_) => Err(wrong("more than it has")),
        None => Ok(Some(OwnState {
            steps: head.steps,
            vectors,
        })),
    }
}

async fn next<B>(
    messages: &mut Messages<B>,
    traffic: &Traffic,
) -> Result<Option<state_part::Part>, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let part = while_moving(|| traffic.read(), messages.next::<StatePart>()).await;
    match part.ok_or_else(nothing_came)?? {
        None => Ok(None),
        Some(StatePart { part: Some(part) }) => Ok(Some(part)),
        Some(StatePart { part: None }) => Err(wrong("an empty part")),
    }
}

fn wrong(what: &str) -> Status {
    Status::invalid_argument(format!("an optimizer's state: {what}"))
}

fn broken(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}
