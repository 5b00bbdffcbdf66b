//! Thousands of valid transfers that something has happened to: a few bits, a message that is gone
//! or comes twice, a word in the wrong place. None ends in a panic; each is refused, or decodes
//! to what was sent in its place. The fuzzing target in `fuzz/` holds the decoder to the same.

use bytes::Bytes;
use dsgd::Kind;
use dsgd_engine::wire::proto::{Chunk, PullPart, PushPart, Rows, pull_part, push_part};
use prost::Message;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::transfer;

/// Transfers of each kind.
const TRANSFERS: u64 = 20_000;

fn some_bytes(random: &mut ChaCha8Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    random.fill_bytes(&mut bytes);
    bytes
}

/// A tensor's chunks, cut anywhere.
fn chunks(random: &mut ChaCha8Rng, tensor: usize, len: usize) -> Vec<Chunk> {
    let bytes = Bytes::from(some_bytes(random, 4 * len));
    let mut chunks = Vec::new();
    let mut at = 0;
    loop {
        let end = match len - at {
            0 => at,
            rest => at + random.random_range(1..=rest),
        };
        let last = end == len;
        chunks.push(Chunk {
            tensor: tensor as u32,
            offset: 4 * at as u64,
            values: bytes.slice(4 * at..4 * end),
            crc32: last.then(|| crc32fast::hash(&bytes)),
        });
        at = end;
        if last {
            return chunks;
        }
    }
}

/// A table's rows, in one message or two.
fn rows(random: &mut ChaCha8Rng, tensor: usize, table: usize, width: usize) -> Vec<Rows> {
    let mut numbers: Vec<u32> = (0..table as u32).collect();
    for at in (1..table).rev() {
        numbers.swap(at, random.random_range(0..=at));
    }
    numbers.truncate(random.random_range(0..=table));
    let half = random.random_range(0..=numbers.len());
    let mut hasher = crc32fast::Hasher::new();
    let mut messages = Vec::new();
    for (numbers, last) in [(&numbers[..half], false), (&numbers[half..], true)] {
        if numbers.is_empty() && !(last && messages.is_empty()) {
            continue;
        }
        let indices: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let values = some_bytes(random, numbers.len() * width * 4);
        hasher.update(&indices);
        hasher.update(&values);
        messages.push(Rows {
            tensor: tensor as u32,
            indices: indices.into(),
            values: values.into(),
            crc32: None,
        });
    }
    if let Some(last) = messages.last_mut() {
        last.crc32 = Some(hasher.finalize());
    }
    messages
}

fn valid_push(random: &mut ChaCha8Rng) -> Vec<PushPart> {
    let layout = transfer::layout();
    let mut parts = Vec::new();
    for (at, tensor) in layout.tensors().iter().enumerate() {
        if tensor.kind == Kind::Rows {
            let rows = rows(random, at, tensor.shape[0], tensor.width());
            parts.extend(rows.into_iter().map(push_part::Part::Rows));
        } else {
            let chunks = chunks(random, at, tensor.range.len());
            parts.extend(chunks.into_iter().map(push_part::Part::Chunk));
        }
    }
    let part = |part| PushPart { part: Some(part) };
    parts.into_iter().map(part).collect()
}

fn valid_pull(random: &mut ChaCha8Rng) -> Vec<PullPart> {
    let layout = transfer::layout();
    let tensors = layout.tensors().iter().enumerate();
    let chunks = tensors.flat_map(|(at, tensor)| chunks(random, at, tensor.range.len()));
    let part = |chunk| PullPart {
        part: Some(pull_part::Part::Chunk(chunk)),
    };
    chunks.map(part).collect()
}

/// Something happens to a transfer's messages, as bytes.
fn meddle(random: &mut ChaCha8Rng, messages: &mut Vec<Vec<u8>>) {
    for _ in 0..random.random_range(1..=3) {
        let Some(at) = messages.len().checked_sub(1) else {
            return;
        };
        let at = random.random_range(0..=at);
        let other = random.random_range(0..messages.len());
        let message = &mut messages[at];
        let spot = random.random_range(0..=message.len());
        match random.random_range(0..9) {
            0 if spot < message.len() => message[spot] ^= 1 << random.random_range(0..8),
            1 if spot < message.len() => message[spot] = random.random(),
            2 => message.truncate(spot),
            3 => message.insert(spot, random.random()),
            4 if spot < message.len() => drop(message.remove(spot)),
            5 => drop(messages.remove(at)),
            6 => messages.swap(at, other),
            7 => {
                let again = messages[at].clone();
                messages.insert(other, again);
            }
            // Of the same kind by others' rules: what comes later counts.
            _ => {
                let more = messages[other].clone();
                messages[at].extend(more);
            }
        }
    }
}

fn read<M: Message + Default>(messages: &[Vec<u8>]) -> Option<Vec<M>> {
    let read = |bytes: &Vec<u8>| M::decode(Bytes::from(bytes.clone())).ok();
    messages.iter().map(read).collect()
}

fn written<M: Message>(parts: &[M]) -> Vec<Vec<u8>> {
    parts.iter().map(Message::encode_to_vec).collect()
}

/// How many were refused, decoded as they were sent, and decoded as something else.
#[derive(Debug, Default)]
struct Ends {
    refused: u64,
    same: u64,
    other: u64,
}

impl Ends {
    fn count<T: PartialEq>(&mut self, sent: Option<&T>, decoded: Option<&T>) {
        match decoded {
            None => self.refused += 1,
            Some(_) if decoded == sent => self.same += 1,
            Some(_) => self.other += 1,
        }
    }
}

#[test]
fn a_push_that_was_meddled_with_is_refused_or_means_what_it_says() {
    let layout = transfer::layout();
    let (mut as_it_is, mut mended) = (Ends::default(), Ends::default());
    for seed in 0..TRANSFERS {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let valid = valid_push(&mut random);
        let sent = transfer::push(&layout, &valid);
        assert!(sent.is_some(), "seed {seed}");
        let mut messages = written(&valid);
        meddle(&mut random, &mut messages);
        let parts = read::<PushPart>(&messages);
        let decoded = parts
            .as_ref()
            .and_then(|parts| transfer::push(&layout, parts));
        as_it_is.count(sent.as_ref(), decoded.as_ref());
        if let Some(mut parts) = parts {
            transfer::mend(&mut parts);
            let decoded = transfer::push(&layout, &parts);
            mended.count(sent.as_ref(), decoded.as_ref());
        }
    }
    // No checksum that was right before is right for something else; who makes it anew is believed.
    assert_eq!(as_it_is.other, 0);
    let enough = as_it_is.refused > TRANSFERS / 2 && as_it_is.same > TRANSFERS / 200;
    assert!(enough, "{as_it_is:?}");
    let enough = mended.other > TRANSFERS / 50 && mended.refused > TRANSFERS / 4;
    assert!(enough, "{mended:?}");
}

#[test]
fn a_pull_that_was_meddled_with_is_refused_or_means_what_it_says() {
    let layout = transfer::layout();
    let mut ends = Ends::default();
    for seed in 0..TRANSFERS {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let valid = valid_pull(&mut random);
        let sent = transfer::pull(&layout, &valid);
        assert!(sent.is_some(), "seed {seed}");
        let mut messages = written(&valid);
        meddle(&mut random, &mut messages);
        let parts = read::<PullPart>(&messages);
        let decoded = parts.and_then(|parts| transfer::pull(&layout, &parts));
        ends.count(sent.as_ref(), decoded.as_ref());
    }
    assert_eq!(ends.other, 0);
    let enough = ends.refused > TRANSFERS / 2 && ends.same > TRANSFERS / 200;
    assert!(enough, "{ends:?}");
}
