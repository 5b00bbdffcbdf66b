//! How fast bytes get to a host, inside of the login that workers would use.

use std::time::{Duration, Instant};

use super::SshError;
use super::channel::Script;
use super::object::random_bytes;
use super::remote::{ANSWER, Remote};

/// Sent at first, and at most: enough to fill the windows of a fast connection, over in a moment.
const BYTES: (usize, usize) = (16 << 10, 8 << 20);
/// So much more each time.
const GROWTH: usize = 4;
/// What took so long says enough.
const ENOUGH: Duration = Duration::from_secs(1);
/// One sending on a slow connection that loses much.
const ARRIVING: Duration = Duration::from_secs(20);
const PIECE_BYTES: usize = 16 << 10;

/// Reads as many bytes as it is asked to, and confirms them, again and again.
const SCRIPT: &str = r#"while read -r n; do head -c "$n" >/dev/null && echo got || exit 1; done"#;

impl Remote {
    /// Sends bytes that go nowhere, more and more until they take a second. What counts is what has
    /// arrived, not what was handed to buffers on the way. Returns bytes a second.
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
        let mut time_for = async |bytes: usize| {
            let started = Instant::now();
            channel.wait_for(ARRIVING);
            let mut going = channel.write(format!("{bytes}\n").as_bytes()).await?;
            let mut left = bytes;
            while going && left > 0 {
                let now = left.min(piece.len());
                going = channel.write(&piece[..now]).await?;
                left -= now;
            }
            let line = channel.some_line().await?;
            match line.as_str() {
                "got" => Ok(started.elapsed()),
                _ => Err(self.makes_no_sense(WHAT, &line)),
            }
        };
        let there_and_back = time_for(1).await?;
        let mut bytes = BYTES.0;
        loop {
            let took = time_for(bytes).await?;
            if took >= ENOUGH || bytes >= BYTES.1 {
                let under_way = took.saturating_sub(there_and_back).max(took / 10);
                return Ok(bytes as f64 / under_way.as_secs_f64().max(1e-6));
            }
            bytes *= GROWTH;
        }
    }
}
