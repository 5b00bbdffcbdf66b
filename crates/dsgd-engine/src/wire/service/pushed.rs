//! What a worker pushes: parts on their way in become the outcome of its assignment.

use std::time::Instant;

use axum::body::Body;
use tonic::Status;
use tracing::trace;

use super::sessions::{Session, Sessions};
use super::terms::Terms;
use crate::wire::MOST_REASON;
use crate::wire::framing::Messages;
use crate::wire::incoming::{IncomingGradient, WireError};
use crate::wire::integrity::Integrity;
use crate::wire::paced::{Traffic, nothing_came, while_moving};
use crate::wire::proto::{self, PushPart, push_part};
use crate::wire::words::{cut, read_stats, secs};
use crate::worker::Outcome;
use dsgd_core::codec::Codec;
use dsgd_core::core::Report;
use dsgd_core::event::Cost;
use dsgd_core::params::{Gradient, TensorGradient};

/// What a push brings, part by part.
pub(super) struct Parts<'a> {
    pub(super) messages: Messages<Body>,
    pub(super) terms: &'a Terms,
    pub(super) sessions: &'a Sessions,
    pub(super) session: &'a Session,
    pub(super) traffic: Traffic,
}

/// How a push begins.
pub(super) enum Head {
    /// In that codec.
    Gradient(proto::Gradient, Codec),
    Evaluated(proto::Evaluated),
    Failed(proto::Failed),
}

/// Reads how a push begins. It must be of the work that the worker has, and the worker has it no
/// more afterwards.
pub(super) async fn head(parts: &mut Parts<'_>) -> Result<Head, Status> {
    let session = parts.session;
    match parts.next().await? {
        Some(push_part::Part::Gradient(head)) => {
            let codec = session.finish(head.lease, true)?;
            Ok(Head::Gradient(head, codec))
        }
        Some(push_part::Part::Evaluated(evaluated)) => {
            session.finish(evaluated.lease, false)?;
            Ok(Head::Evaluated(evaluated))
        }
        Some(push_part::Part::Failed(failed)) => {
            let train = session.finish(failed.lease, true);
            train.or_else(|_| session.finish(failed.lease, false))?;
            Ok(Head::Failed(failed))
        }
        _ => Err(Status::invalid_argument(
            "a push begins with Gradient, Evaluated or Failed",
        )),
    }
}

/// Reads the rest of a push.
pub(super) async fn outcome(
    integrity: Integrity,
    head: Head,
    parts: &mut Parts<'_>,
) -> Result<Outcome, Status> {
    match head {
        Head::Gradient(head, codec) => gradient(integrity, (&head, codec), parts).await,
        Head::Evaluated(evaluated) => Ok(Outcome::Evaluated {
            lease: evaluated.lease,
            stats: read_stats(evaluated.stats.as_ref()).map_err(Status::invalid_argument)?,
        }),
        Head::Failed(failed) => {
            let (lease, reason) = (failed.lease, cut(failed.reason, MOST_REASON));
            Ok(if failed.fatal {
                Outcome::Panicked { lease, reason }
            } else {
                Outcome::Failed { lease, reason }
            })
        }
    }
}

async fn gradient(
    integrity: Integrity,
    (head, codec): (&proto::Gradient, Codec),
    parts: &mut Parts<'_>,
) -> Result<Outcome, Status> {
    let started = Instant::now();
    let stats = read_stats(head.stats.as_ref()).map_err(Status::invalid_argument)?;
    let terms = parts.terms;
    let mut incoming = IncomingGradient::new(terms.buffers.take(), codec, integrity);
    let received = receive(&mut incoming, parts).await;
    if let Err(status) = received {
        terms.buffers.give(incoming.into_buffer());
        return Err(status);
    }
    let (gradient, grad_norm) = incoming.finish().map_err(|(error, buffer)| {
        terms.buffers.give(buffer);
        invalid(&error)
    })?;
    let cost = Cost {
        compute_secs: secs(head.compute_secs),
        pull_secs: secs(head.pull_secs),
        push_secs: started.elapsed().as_secs_f64(),
        wait_secs: secs(head.wait_secs),
        bytes: parts.session.pulled() + gradient_bytes(&gradient, codec),
        catches_up: parts.session.catches_up(),
    };
    Ok(Outcome::Gradient {
        lease: head.lease,
        report: Report {
            stats,
            grad_norm,
            cost,
        },
        gradient,
        // It is told by a call of its own.
        state: None,
    })
}

async fn receive(incoming: &mut IncomingGradient, parts: &mut Parts<'_>) -> Result<(), Status> {
    while let Some(part) = parts.next().await? {
        match part {
            push_part::Part::Chunk(chunk) => incoming.chunk(&chunk),
            push_part::Part::Rows(rows) => incoming.rows(&rows),
            _ => return Err(Status::invalid_argument("no part of a gradient")),
        }
        .map_err(|error| invalid(&error))?;
    }
    Ok(())
}

/// Bytes of the tensors and rows that a push brings.
fn gradient_bytes(gradient: &Gradient, codec: Codec) -> u64 {
    let bytes = |part: &TensorGradient| match part {
        TensorGradient::Dense(values) => codec.bytes(values.len()),
        TensorGradient::Rows(rows) => {
            size_of_val(rows.indices()) + rows.len() * codec.bytes(rows.width())
        }
    };
    gradient.tensors().iter().map(bytes).sum::<usize>() as u64
}

impl Parts<'_> {
    /// The next part, which may take its time while bytes of it come. Each second they are a sign of life: on a
    /// slow way the pulses may wait behind them.
    async fn next(&mut self) -> Result<Option<push_part::Part>, Status> {
        let mut seen = self.traffic.read();
        let arrived = || {
            let arrived = self.traffic.read();
            if arrived != seen {
                seen = arrived;
                for message in self.sessions.signs_of_life(self.session) {
                    // The inbox is closed when the run is over.
                    let _ = self.terms.messages.send(message);
                }
            }
            arrived
        };
        let part = while_moving(arrived, self.messages.next()).await;
        trace!(bytes = self.traffic.read(), "a part has come, or the end");
        match part.ok_or_else(nothing_came)?? {
            None => Ok(None),
            Some(PushPart { part: Some(part) }) => Ok(Some(part)),
            Some(PushPart { part: None }) => Err(Status::invalid_argument("an empty part")),
        }
    }
}

fn invalid(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}
