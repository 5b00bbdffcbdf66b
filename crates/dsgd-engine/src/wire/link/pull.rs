//! Pulling: asking for work, and taking in the parameters that come with it.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tonic::body::Body;
use tracing::debug;

use super::Remote;
use super::error::LinkError;
use super::newest::Held;
use crate::wire::framing::{self, Messages};
use crate::wire::incoming::IncomingParams;
use crate::wire::paced::{Traffic, while_moving};
use crate::wire::proto::{self, PullPart, pull_part};
use crate::wire::{LONGEST_PULL, words};
use crate::worker::{Assignment, TransferTimes};
use dsgd_core::codec::{Codec, Codecs};
use dsgd_core::params::Snapshot;

/// What a pull begins with, the rest of it, and what another worker has that it may be new to.
type Begun = (proto::Assignment, Messages<Body>, Option<Held>);

impl Remote {
    /// Waits for work; none when the run is over, or this worker is to leave.
    pub(super) async fn pull(&mut self) -> Result<Option<Assignment>, LinkError> {
        match self.ask().await? {
            None => Ok(None),
            Some(begun) => self.receive(begun).await.map(Some),
        }
    }

    async fn ask(&mut self) -> Result<Option<Begun>, LinkError> {
        loop {
            if self.leaving.load(Ordering::Relaxed) {
                self.client
                    .leave(&self.session, "it was told to stop")
                    .await?;
                return Ok(None);
            }
            if !self.life.holds.load(Ordering::Relaxed) {
                let reason = "its signs of life do not arrive".to_owned();
                return Err(LinkError::Broken { reason });
            }
            let wait_ms = LONGEST_PULL.as_millis() as u32;
            let near = self.newest.newer(&self.server, self.version);
            let asked = framing::message(&proto::PullRequest {
                wait_ms,
                have: self.version,
                near: near.as_ref().map(|held| held.version),
            });
            let arrived = Arc::clone(&self.life.arrived);
            let parts = self.call(framing::PULL, iter::once(asked));
            // On a slow way the question waits behind what this process's other workers push.
            let parts = while_moving(|| arrived.load(Ordering::Relaxed), parts).await;
            let mut parts = parts.ok_or_else(|| LinkError::stalled("a pull"))??;
            match next(&mut parts, &self.traffic).await? {
                Some(pull_part::Part::Wait(_)) => {}
                Some(pull_part::Part::Finished(_)) => return Ok(None),
                Some(pull_part::Part::Assignment(given)) => {
                    return Ok(Some((given, parts, near)));
                }
                _ => {
                    return Err(LinkError::unexpected(
                        "a pull that begins with neither work nor a word",
                    ));
                }
            }
        }
    }

    async fn receive(&mut self, (given, mut parts, near): Begun) -> Result<Assignment, LinkError> {
        let job = words::job(given.work).map_err(LinkError::unexpected)?;
        let (lease, version) = (given.lease, given.version);
        debug!(lease, ?job, version, base = given.base, "a pull begins");
        self.codec = codec(given.codec)?;
        let pull_codec = codec(given.params_codec)?;
        let started = Instant::now();
        let params = self.params.take();
        let mut params = params.expect("a link that broke is not used again");
        // What is here is whole again when all has come.
        let mut have = self.version.take();
        self.newest.forget(&params);
        if let Some(near) = near.filter(|near| given.base == Some(near.version)) {
            have = given.base;
            near.replace(&mut params);
        }
        let into = Arc::make_mut(&mut params);
        if given.base.is_some() && given.base != have {
            return Err(LinkError::unexpected("what is new to another version"));
        }
        let from_nothing = given.base.is_none() && !given.differences.is_empty();
        if from_nothing {
            into.flat_mut().fill(0.0);
        }
        let mut differences = given.differences.iter();
        let mut incoming = match given.base {
            None if !from_nothing => IncomingParams::new(into, pull_codec, self.integrity),
            Some(_) if !given.fresh.is_empty() => {
                IncomingParams::over(into, &given.fresh, pull_codec, self.integrity)?
            }
            // Nothing is new, or the first of what is.
            _ => {
                let nothing = Bytes::from(vec![0; into.layout().tensors().len()]);
                IncomingParams::over(into, &nothing, pull_codec, self.integrity)?.adding()
            }
        };
        loop {
            while incoming.is_complete()
                && let Some(proto::Difference { fresh, codec: id }) = differences.next()
            {
                incoming = incoming.then(fresh, codec(*id)?)?;
            }
            let Some(part) = next(&mut parts, &self.traffic).await? else {
                break;
            };
            match part {
                pull_part::Part::Chunk(chunk) => incoming.chunk(&chunk)?,
                pull_part::Part::Rows(rows) => incoming.rows(&rows)?,
                _ => {
                    return Err(LinkError::unexpected(
                        "a pull with something else than parameters",
                    ));
                }
            }
            self.client.note_reply();
        }
        incoming.finish()?;
        debug!(lease, "a pull has arrived");
        self.params = Some(Arc::clone(&params));
        self.version = Some(given.version);
        // What came from nothing is short of something, which comes with this session's next pull.
        if !from_nothing {
            self.newest.note(Held {
                server: self.server.clone(),
                version: given.version,
                params: Arc::clone(&params),
            });
        }
        Ok(Assignment {
            lease: given.lease,
            job,
            params: Snapshot::new(given.version, params),
            codecs: Codecs {
                push: self.codec,
                pull: pull_codec,
            },
            differences: None,
            others_state: None,
            transfer: TransferTimes {
                pull_secs: started.elapsed().as_secs_f64(),
                push_secs: 0.0,
            },
        })
    }
}

fn codec(id: u32) -> Result<Codec, LinkError> {
    let unknown = || LinkError::unexpected("a codec that is unknown here");
    Codec::of_id(id).ok_or_else(unknown)
}

/// The next part of a pull, which may take its time while bytes of it come.
async fn next(
    parts: &mut Messages<Body>,
    traffic: &Traffic,
) -> Result<Option<pull_part::Part>, LinkError> {
    let part = while_moving(|| traffic.read(), parts.next()).await;
    match part.ok_or_else(|| LinkError::stalled("a pull"))?? {
        None => Ok(None),
        Some(PullPart { part: Some(part) }) => Ok(Some(part)),
        Some(PullPart { part: None }) => Err(LinkError::unexpected("an empty part")),
    }
}
