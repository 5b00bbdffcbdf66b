//! The plainest of browsers: a request and its answer, by HTTP/1.0, which ends with the connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) body: String,
}

impl Answer {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut pairs = self
            .headers
            .lines()
            .filter_map(|line| line.split_once(": "));
        let found = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends a request with these headers more.
pub(super) fn send(server: SocketAddr, path: &str, headers: &str) -> TcpStream {
    try_to_send(server, path, headers).unwrap()
}

fn try_to_send(server: SocketAddr, path: &str, headers: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let host = if headers.contains("Host: ") {
        String::new()
    } else {
        format!("Host: {server}\r\n")
    };
    write!(stream, "GET {path} HTTP/1.0\r\n{host}{headers}\r\n")?;
    Ok(stream)
}

/// An answer, unless the server goes away over it.
pub(super) fn try_to_get(server: SocketAddr, path: &str, headers: &str) -> io::Result<Answer> {
    let mut text = String::new();
    try_to_send(server, path, headers)?.read_to_string(&mut text)?;
    let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (headers, body) = text.split_once("\r\n\r\n").ok_or_else(gone)?;
    Ok(Answer {
        status: headers.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.to_owned(),
        body: body.to_owned(),
    })
}

pub(super) fn get_with(server: SocketAddr, path: &str, headers: &str) -> Answer {
    try_to_get(server, path, headers).unwrap()
}

pub(super) fn get(server: SocketAddr, path: &str) -> Answer {
    get_with(server, path, "")
}

/// A reader of events.
pub(super) struct Reader(BufReader<TcpStream>);

impl Reader {
    pub(super) fn open(server: SocketAddr, path: &str) -> Self {
        let mut reader = BufReader::new(send(server, path, ""));
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
        Self(reader)
    }

    /// The next frame; none when there are no more.
    pub(super) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 {
            if let Some(frame) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(frame).unwrap());
            }
            line.clear();
        }
        None
    }
}
