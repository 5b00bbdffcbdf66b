//! gRPC messages in HTTP/2 frames, for the calls that carry tensors.
//!
//! tonic copies what it sends into a buffer, what it receives into another, and hands out messages
//! that were cut from that; for tensors that is the better part of the work (`dsgd-bench wire`). Here a
//! message goes out as a head and the tensor's own memory, and comes in by decoding the frames as
//! they lie: values that came in one frame are a view of it, until they are copied into place.
//! Bytes on the wire are what gRPC says (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>);
//! tonic, or any other gRPC, may be at the other end.

use std::collections::VecDeque;
use std::error::Error;
use std::future::poll_fn;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::SESSION;
use super::outgoing::Piece;
use super::proto::{Chunk, Rows};

/// Path of the call that brings work.
pub(super) const PULL: &str = "/dsgd.v1.Dsgd/Pull";

/// Path of the call that takes what came of it.
pub(super) const PUSH: &str = "/dsgd.v1.Dsgd/Push";

/// Path of the call that takes what a worker's own optimizer keeps.
pub(super) const PUSH_STATE: &str = "/dsgd.v1.Dsgd/PushState";

/// Path of the call that gives it to another.
pub(super) const PULL_STATE: &str = "/dsgd.v1.Dsgd/PullState";

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A message, whole.
pub fn message(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut out = BytesMut::with_capacity(PREFIX + bytes.len());
    put_prefix(&mut out, bytes.len());
    out.put_slice(&bytes);
    out.freeze()
}

/// A `PullPart`, `PushPart` or `StatePart` with this chunk: a head, and the values as they are.
pub fn chunk(mut chunk: Chunk) -> [Bytes; 2] {
    let values = std::mem::take(&mut chunk.values);
    with_values(4, &chunk, values)
}

/// A `PullPart`, `PushPart` or `StatePart` with these rows: a head, and the values as they are.
pub fn rows(mut rows: Rows) -> [Bytes; 2] {
    let values = std::mem::take(&mut rows.values);
    with_values(5, &rows, values)
}

/// The one or the other.
pub fn piece(piece: Piece) -> [Bytes; 2] {
    match piece {
        Piece::Chunk(part) => chunk(part),
        Piece::Rows(part) => rows(part),
    }
}

/// A message whose field number `field` is `part` and, as the part's field 3, `values`. Fields may
/// come in any order, so what is large comes last.
fn with_values(field: u8, part: &impl Message, values: Bytes) -> [Bytes; 2] {
    let part = part.encode_to_vec();
    // A field is its number and type (2: so many bytes follow), the length and the bytes.
    let key = |field: u8| field << 3 | 2;
    let len = |bytes| 1 + prost::length_delimiter_len(bytes) + bytes;
    let inner = part.len() + len(values.len());
    let mut head = BytesMut::with_capacity(PREFIX + len(inner) - values.len());
    put_prefix(&mut head, len(inner));
    head.put_u8(key(field));
    put_varint(&mut head, inner);
    head.put_slice(&part);
    head.put_u8(key(3));
    put_varint(&mut head, values.len());
    [head.freeze(), values]
}

fn put_prefix(out: &mut BytesMut, len: usize) {
    const NOT_COMPRESSED: u8 = 0;
    out.put_u8(NOT_COMPRESSED);
    out.put_u32(len as u32);
}

fn put_varint(out: &mut BytesMut, mut number: usize) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// A worker's call: its messages' bytes, sent as they are asked for.
pub(super) fn request(
    path: &'static str,
    session: HeaderValue,
    bytes: impl Iterator<Item = Bytes> + Send + 'static,
) -> http::Request<Body> {
    let mut request = http::Request::new(body(bytes.map(Frame::data)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    headers.insert(SESSION, session);
    request
}

/// The server's answer: its messages' bytes, sent as they are asked for, and that all is well.
pub(super) fn reply(bytes: impl Iterator<Item = Bytes> + Send + 'static) -> http::Response<Body> {
    let well = HeaderValue::from(Code::Ok as i32);
    let end = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), well)]);
    let frames = bytes.map(Frame::data).chain([Frame::trailers(end)]);
    let mut reply = http::Response::new(body(frames));
    reply.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    reply
}

fn body(frames: impl Iterator<Item = Frame<Bytes>> + Send + 'static) -> Body {
    let frames = frames.map(Ok::<_, Status>);
    Body::new(StreamBody::new(tokio_stream::iter(frames)))
}

/// Calls the server; returns when its answer begins.
pub(super) async fn call(
    channel: &mut Channel,
    request: http::Request<Body>,
    most: usize,
) -> Result<Messages<Body>, Status> {
    let failed = |error| Status::from_error(Box::new(error));
    poll_fn(|context| channel.poll_ready(context))
        .await
        .map_err(failed)?;
    let (head, body) = channel.call(request).await.map_err(failed)?.into_parts();
    if let Some(status) = read_status(head.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    if head.status != StatusCode::OK {
        let words = format!("the answer to a call was HTTP {}", head.status);
        return Err(Status::unknown(words));
    }
    Ok(Messages {
        end: End::Awaited,
        ..Messages::of_a_request(body, most)
    })
}

/// What the other side says how a call ended.
fn read_status(mut headers: HeaderMap) -> Option<Status> {
    // Nobody here reads these, and tonic panics when they are malformed.
    headers.remove("grpc-status-details-bin");
    Status::from_header_map(&headers)
}

/// Messages of a body, on their way in.
pub struct Messages<B> {
    body: B,
    rope: Rope,
    /// Bytes of the largest message.
    most: usize,
    end: End,
}

/// What a body ends with.
enum End {
    /// A request: with its last message.
    None,
    /// An answer: with a status, which has not come.
    Awaited,
    /// This one.
    Came(Status),
}

impl<B> Messages<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// What a caller sends, in messages of at most `most` bytes.
    pub fn of_a_request(body: B, most: usize) -> Self {
        Self {
            body,
            rope: Rope::default(),
            most,
            end: End::None,
        }
    }

    /// The next message, or the end of all.
    ///
    /// # Errors
    /// What the other side says that went wrong, what became of the connection, or what is wrong
    /// with the message: `OUT_OF_RANGE` when it is too large.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(len) = self.whole()? {
                self.rope.advance(PREFIX);
                let message = M::decode((&mut self.rope).take(len));
                let broken = |error| Status::internal(format!("no message of ours: {error}"));
                return message.map(Some).map_err(broken);
            }
            let Some(frame) = self.body.frame().await else {
                return self.ended().map(|()| None);
            };
            let frame = frame.map_err(|error| Status::from_error(error.into()))?;
            match frame.into_data() {
                Ok(bytes) => self.rope.append(bytes),
                Err(frame) => {
                    if let Some(status) = frame.into_trailers().ok().and_then(read_status) {
                        self.end = End::Came(status);
                    }
                }
            }
        }
    }

    /// Length of the first message, if all of it is here.
    fn whole(&self) -> Result<Option<usize>, Status> {
        let mut prefix = [0; PREFIX];
        if self.rope.peek(&mut prefix) < PREFIX {
            return Ok(None);
        }
        let [compressed, len @ ..] = prefix;
        if compressed != 0 {
            return Err(Status::unimplemented("compressed messages are not taken"));
        }
        let len = u32::from_be_bytes(len) as usize;
        if len > self.most {
            let most = self.most;
            let words = format!("message length too large: {len} bytes, the limit is {most}");
            return Err(Status::out_of_range(words));
        }
        Ok((self.rope.remaining() >= PREFIX + len).then_some(len))
    }

    fn ended(&mut self) -> Result<(), Status> {
        match &self.end {
            End::Came(status) if status.code() != Code::Ok => Err(status.clone()),
            End::Awaited => Err(Status::unknown("the answer ended without a status")),
            _ if self.rope.remaining() > 0 => Err(Status::internal("ended within a message")),
            _ => Ok(()),
        }
    }
}

/// Frames that have come, as they came.
#[derive(Default)]
struct Rope {
    frames: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    fn append(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.len += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// Copies the first bytes without taking them; returns how many there were.
    fn peek(&self, into: &mut [u8]) -> usize {
        let bytes = self.frames.iter().flatten();
        let copied = into.iter_mut().zip(bytes).map(|(into, byte)| *into = *byte);
        copied.count()
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&[], |frame| frame)
    }

    fn advance(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(frame) = self.frames.front_mut() {
            if count < frame.len() {
                frame.advance(count);
                return;
            }
            count -= frame.len();
            self.frames.pop_front();
        }
    }

    /// A view, where all of it lies in one frame.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let front = self.frames.front();
        let Some(view) = front.filter(|f| len <= f.len()).map(|f| f.slice(..len)) else {
            let mut copy = BytesMut::with_capacity(len);
            copy.put(self.take(len));
            return copy.freeze();
        };
        self.advance(len);
        view
    }
}
