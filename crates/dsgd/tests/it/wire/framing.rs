//! Messages with tensors in HTTP/2: what goes out is what protobuf says, and what comes in is the
//! same however its frames were cut.

use bytes::{BufMut, Bytes, BytesMut};
use dsgd_engine::wire::framing::{self, Messages};
use dsgd_engine::wire::proto::{self, Chunk, PullPart, PushPart, Rows, pull_part, push_part};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::{Code, Status};

/// Lengths at which the length of a length changes, and others.
const LENGTHS: [usize; 9] = [0, 4, 100, 124, 128, 16_380, 16_384, 70_000, 2_097_156];

fn some_bytes(random: &mut ChaCha8Rng, count: usize) -> Bytes {
    let mut bytes = vec![0; count];
    random.fill_bytes(&mut bytes);
    bytes.into()
}

fn chunk(random: &mut ChaCha8Rng, bytes: usize) -> Chunk {
    Chunk {
        tensor: random.random_range(0..1000),
        offset: random.random_range(0..u64::MAX) >> random.random_range(0..64),
        values: some_bytes(random, bytes),
        crc32: random.random_bool(0.5).then(|| random.next_u32()),
    }
}

fn rows(random: &mut ChaCha8Rng, bytes: usize) -> Rows {
    let chunk = chunk(random, bytes);
    Rows {
        tensor: chunk.tensor,
        indices: some_bytes(random, bytes / 4),
        values: chunk.values,
        crc32: chunk.crc32,
    }
}

/// The message in these bytes, which are one framed message.
fn decoded<M: Message + Default>(framed: &[u8]) -> M {
    let (prefix, message) = framed.split_at(5);
    assert_eq!(prefix[0], 0, "not compressed");
    assert_eq!(prefix[1..], (message.len() as u32).to_be_bytes());
    M::decode(message).unwrap()
}

#[test]
fn what_goes_out_is_what_protobuf_says() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for bytes in LENGTHS {
        let chunk = chunk(&mut random, bytes);
        let [head, values] = framing::chunk(chunk.clone());
        assert_eq!(values.as_ptr(), chunk.values.as_ptr(), "nothing is copied");
        let framed = [head, values].concat();
        let part = Some(pull_part::Part::Chunk(chunk.clone()));
        assert!(decoded::<PullPart>(&framed) == PullPart { part });
        let part = Some(push_part::Part::Chunk(chunk));
        assert!(decoded::<PushPart>(&framed) == PushPart { part });

        let rows = rows(&mut random, bytes);
        let framed = framing::rows(rows.clone()).concat();
        let part = Some(push_part::Part::Rows(rows));
        assert!(decoded::<PushPart>(&framed) == PushPart { part });
    }
    let leave = proto::LeaveRequest {
        reason: "why not".to_owned(),
    };
    assert!(decoded::<proto::LeaveRequest>(&framing::message(&leave)) == leave);
}

/// All messages of a body with these frames.
async fn read<M: Message + Default>(frames: Vec<Bytes>, most: usize) -> Result<Vec<M>, Status> {
    let frames = frames
        .into_iter()
        .map(|bytes| Ok::<_, Status>(Frame::data(bytes)));
    let body = StreamBody::new(tokio_stream::iter(frames));
    let mut incoming = Messages::of_a_request(body, most);
    let mut messages = Vec::new();
    while let Some(message) = incoming.next().await? {
        messages.push(message);
    }
    Ok(messages)
}

#[tokio::test]
async fn what_comes_in_is_the_same_however_frames_are_cut() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for round in 0..500 {
        let parts: Vec<_> = (0..random.random_range(0..6))
            .map(|_| {
                let bytes = random.random_range(0..400);
                let part = match random.random_range(0..3) {
                    0 => push_part::Part::Chunk(chunk(&mut random, bytes)),
                    1 => push_part::Part::Rows(rows(&mut random, bytes)),
                    _ => push_part::Part::Failed(proto::Failed::default()),
                };
                PushPart { part: Some(part) }
            })
            .collect();
        let framed = parts.iter().map(framing::message).collect::<Vec<_>>();
        let mut rest = Bytes::from(framed.concat());
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let most = if round % 2 == 0 { 7 } else { 300 };
            frames.push(rest.split_to(random.random_range(0..most).min(rest.len())));
        }
        assert!(read::<PushPart>(frames, 1 << 20).await.unwrap() == parts);
    }
}

#[tokio::test]
async fn whatever_comes_is_messages_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut refused = 0;
    for _ in 0..5000 {
        let sent = framing::chunk(chunk(&mut random, 40)).concat().repeat(3);
        let mut bytes = BytesMut::from(&sent[..]);
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        bytes.truncate(random.random_range(0..2 * bytes.len()));
        let came = read::<PullPart>(vec![bytes.freeze()], 1000).await;
        refused += i32::from(came.is_err());
    }
    assert!((1000..5000).contains(&refused), "{refused}");
}

#[tokio::test]
async fn values_that_came_in_one_frame_are_a_view_of_it() {
    let sent = chunk(&mut ChaCha8Rng::seed_from_u64(3), 1000);
    let [head, values] = framing::chunk(sent);
    let place = values.as_ptr();
    let parts: Vec<PullPart> = read(vec![head, values], 2000).await.unwrap();
    let Some(pull_part::Part::Chunk(chunk)) = &parts[0].part else {
        panic!("no chunk");
    };
    assert_eq!(chunk.values.as_ptr(), place);
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let refusal = async |bytes: &[u8]| {
        let frames = vec![Bytes::copy_from_slice(bytes)];
        let refused = read::<PushPart>(frames, 1000).await.unwrap_err();
        (refused.code(), refused.message().to_owned())
    };
    let framed = |len: u32, message: &[u8]| {
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(len);
        bytes.put_slice(message);
        bytes
    };
    let (code, words) = refusal(&[1, 0, 0, 0, 0]).await;
    assert_eq!(code, Code::Unimplemented, "{words}");
    // Nothing is waited for, and no memory taken, for what is too large.
    let (code, words) = refusal(&framed(1001, &[])).await;
    assert_eq!(code, Code::OutOfRange, "{words}");
    assert!(words.contains("1001 bytes, the limit is 1000"), "{words}");
    for short in [&framed(10, &[0; 9])[..], &[0, 0, 0]] {
        let (code, words) = refusal(short).await;
        assert_eq!(code, Code::Internal, "{words}");
        assert!(words.contains("ended within a message"), "{words}");
    }
    let (code, words) = refusal(&framed(3, &[0xff; 3])).await;
    assert_eq!(code, Code::Internal, "{words}");
    assert!(words.contains("no message of ours"), "{words}");
}
