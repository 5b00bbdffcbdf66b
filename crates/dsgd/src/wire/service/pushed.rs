//! What a worker pushes: parts on their way in become the outcome of its assignment.

use std::time::Instant;

use axum::body::Body;
use tokio::time::timeout;
use tonic::Status;

use super::desk::Session;
use super::{SIGN_OF_LIFE, Service};
use crate::core::{Report, WorkerId};
use crate::event::Cost;
use crate::params::{Gradient, Layout, Part};
use crate::server::Letter;
use crate::wire::framing::Messages;
use crate::wire::incoming::{IncomingGradient, WireError};
use crate::wire::integrity::Integrity;
use crate::wire::proto::{self, PushPart, push_part};
use crate::wire::words::{cut, secs, told_stats};
use crate::wire::{MOST_REASON, STALL};
use crate::worker::Outcome;

/// How a push begins.
pub(super) enum Head {
    Gradient(proto::Gradient),
    Evaluated(proto::Evaluated),
    Failed(proto::Failed),
}

/// Reads how a push begins. It must be of the work that the worker has, and the worker has it no
/// more afterwards.
pub(super) async fn head(session: &Session, parts: &mut Messages<Body>) -> Result<Head, Status> {
    match next(parts).await? {
        Some(push_part::Part::Gradient(head)) => {
            session.finish(head.lease, true)?;
            Ok(Head::Gradient(head))
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
    service: &Service,
    worker: WorkerId,
    integrity: Integrity,
    head: Head,
    parts: &mut Messages<Body>,
) -> Result<Outcome, Status> {
    match head {
        Head::Gradient(head) => gradient(service, worker, integrity, &head, parts).await,
        Head::Evaluated(evaluated) => Ok(Outcome::Evaluated {
            lease: evaluated.lease,
            stats: told_stats(evaluated.stats).map_err(Status::invalid_argument)?,
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
    service: &Service,
    worker: WorkerId,
    integrity: Integrity,
    head: &proto::Gradient,
    parts: &mut Messages<Body>,
) -> Result<Outcome, Status> {
    let stats = told_stats(head.stats).map_err(Status::invalid_argument)?;
    let terms = service.terms();
    let mut incoming = IncomingGradient::new(terms.buffers.take(), integrity);
    let received = receive(service, worker, &mut incoming, parts).await;
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
        push_secs: secs(head.push_secs),
        wait_secs: secs(head.wait_secs),
        bytes: params_bytes(&terms.layout) + gradient_bytes(&gradient),
    };
    Ok(Outcome::Gradient {
        lease: head.lease,
        report: Report {
            stats,
            grad_norm,
            cost,
        },
        gradient,
    })
}

async fn receive(
    service: &Service,
    worker: WorkerId,
    incoming: &mut IncomingGradient,
    parts: &mut Messages<Body>,
) -> Result<(), Status> {
    let mut last_sign = Instant::now();
    while let Some(part) = next(parts).await? {
        match part {
            push_part::Part::Chunk(chunk) => incoming.chunk(&chunk),
            push_part::Part::Rows(rows) => incoming.rows(&rows),
            _ => return Err(Status::invalid_argument("no part of a gradient")),
        }
        .map_err(|error| invalid(&error))?;
        if last_sign.elapsed() > SIGN_OF_LIFE {
            last_sign = Instant::now();
            service.tell(Letter::Alive { worker });
        }
    }
    Ok(())
}

/// Bytes of the tensors that a pull brings.
fn params_bytes(layout: &Layout) -> u64 {
    (layout.len() * size_of::<f32>()) as u64
}

/// Bytes of the tensors and rows that a push brings.
fn gradient_bytes(gradient: &Gradient) -> u64 {
    let bytes = |part: &Part| match part {
        Part::Dense(values) => size_of_val(&values[..]),
        Part::Rows(rows) => size_of_val(rows.indices()) + size_of_val(rows.values()),
    };
    gradient.parts().iter().map(bytes).sum::<usize>() as u64
}

/// The next part of a push, which must come in time.
async fn next(parts: &mut Messages<Body>) -> Result<Option<push_part::Part>, Status> {
    let part = timeout(STALL, parts.next()).await;
    let part = part.map_err(|_| Status::deadline_exceeded("nothing came for 30 s"))??;
    match part {
        None => Ok(None),
        Some(PushPart { part: Some(part) }) => Ok(Some(part)),
        Some(PushPart { part: None }) => Err(Status::invalid_argument("an empty part")),
    }
}

fn invalid(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}
