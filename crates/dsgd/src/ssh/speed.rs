//! How fast bytes get to a host, inside of the login that workers would use.

use std::time::{Duration, Instant};

use super::SshError;
use super::channel::Script;
use super::object::random_bytes;
use super::remote::{ANSWER, Remote};

/// Enough to fill the windows of a fast connection, over in a moment.
const MOST_BYTES: usize = 8 << 20;
/// A slow connection is not measured longer.
const MOST_TIME: Duration = Duration::from_secs(2);
/// What is on its way then still has to arrive.
const ARRIVING: Duration = Duration::from_secs(5);
const PIECE_BYTES: usize = 32 << 10;

const SCRIPT: &str = "cat >/dev/null; echo done";

impl Remote {
    /// Sends bytes that go nowhere, for at most 2 s. Returns bytes a second.
    pub async fn speed(&self) -> Result<f64, SshError> {
        const WHAT: &str = "measuring the speed";
        let script = Script {
            what: WHAT,
            body: SCRIPT,
            args: &[],
        };
        // Random, because ssh may compress.
        let piece = random_bytes(PIECE_BYTES)?;
        let mut channel = self.open(&script, ANSWER).await?;
        let started = Instant::now();
        let mut sent = 0;
        while sent < MOST_BYTES && started.elapsed() < MOST_TIME {
            channel.wait_for(ARRIVING);
            if !channel.write(&piece).await? {
                break;
            }
            sent += piece.len();
        }
        channel.wait_for(ARRIVING);
        let answer = channel.answer().await?;
        if answer.trim() != "done" {
            return Err(self.makes_no_sense(WHAT, &answer));
        }
        Ok(sent as f64 / started.elapsed().as_secs_f64())
    }
}
