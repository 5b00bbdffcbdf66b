//! What programs on hosts write, line by line, each of bounded length.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::sync::mpsc::Sender;

use dsgd_core::text;

/// Longer lines are cut.
const LINE_BYTES: usize = 4 << 10;

/// Where a program wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// To its standard output.
    Out,
    /// To its standard error.
    Err,
}

/// A line without its end, and where it was written.
pub type Line = (Stream, String);

/// Sends the lines of a pipe until its end.
pub(super) async fn send_lines(
    mut pipe: impl AsyncBufRead + Unpin,
    stream: Stream,
    to: Sender<Line>,
) {
    while let Some(line) = next_line(&mut pipe).await {
        // Nobody listens: read on, so that the program is not held up.
        let _ = to.send((stream, line)).await;
    }
}

/// A line without its end, fit to be shown; what is beyond the limit is left out.
async fn next_line(pipe: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    let mut any = false;
    while let Ok(buffer) = pipe.fill_buf().await {
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = &buffer[..end.unwrap_or(buffer.len())];
        let room = LINE_BYTES - line.len();
        line.extend_from_slice(&taken[..taken.len().min(room)]);
        let used = end.map_or(buffer.len(), |end| end + 1);
        pipe.consume(used);
        if end.is_some() {
            break;
        }
    }
    any.then(|| text::line(&String::from_utf8_lossy(&line)))
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    #[tokio::test]
    async fn lines_are_cut_and_the_last_one_needs_no_end() {
        let long = "x".repeat(3 * LINE_BYTES);
        let text = format!("a\r\n\n{long}\n\u{fc}\nend");
        let mut pipe = BufReader::with_capacity(1000, text.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut pipe).await {
            lines.push(line);
        }
        assert_eq!(lines, ["a", "", &long[..LINE_BYTES], "ü", "end"]);
    }

    #[tokio::test]
    async fn a_line_commands_no_terminal() {
        let said: &[u8] = b"\x1b]0;title\x07one\x1b[2J\n\x1b]52;c;ZXZpbA==\x07\rtwo\n";
        let mut pipe = BufReader::new(said);
        assert_eq!(next_line(&mut pipe).await.unwrap(), "one");
        assert_eq!(next_line(&mut pipe).await.unwrap(), " two");
    }
}
