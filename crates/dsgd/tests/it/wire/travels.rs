//! What is sent arrives, bit for bit, and its norm is the one that was taken where it was computed.

use std::sync::Arc;
use std::thread;

use dsgd::{Batch, Gradient, Layout, Params, Part, Snapshot, Stats, TensorGradient};
use dsgd_core::codec::{Codec, Codecs};
use dsgd_core::event::Cost;
use dsgd_core::optim::{Hyper, OptimizerKind, StepSize};
use dsgd_core::params::Rows as Table;
use dsgd_engine::coded::{Coded, CodedTensor, Residual};
use dsgd_engine::server::Message;
use dsgd_engine::store::{InMemory, Store, Updater, Versions};
use dsgd_engine::wire::CHUNK;
use dsgd_engine::wire::incoming::{IncomingGradient, IncomingParams};
use dsgd_engine::wire::integrity::Integrity;
use dsgd_engine::wire::link::Client;
use dsgd_engine::wire::outgoing::{self, Piece};
use dsgd_engine::wire::proto::{Chunk, Rows};
use dsgd_engine::worker::{Assignment, Buffers, Job, Link, Outcome, TransferTimes};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::wire::Served;

/// Tensors that end everywhere a chunk can end: nothing in them, one element, just below a chunk,
/// a chunk, just above it, and several.
fn layout() -> Layout {
    let chunk = CHUNK / 4;
    let mut layout = Layout::new();
    layout.dense("nothing", &[0, 5]);
    layout.dense("one", &[1]);
    layout.rows("few", 1000, 7);
    layout.dense("below", &[chunk - 1]);
    layout.dense("chunk", &[chunk]);
    layout.rows("untouched", 10, 3);
    layout.dense("above", &[chunk + 1]);
    layout.rows("many", chunk / 4, 5);
    layout.dense("several", &[5, chunk / 2]);
    layout.rows("no columns", 10, 0);
    layout.rows("wide", 3, chunk + 20_000);
    layout.dense("last", &[3]);
    layout
}

/// Any bits at all: infinities and all kinds of NaN travel, too.
fn bits(random: &mut ChaCha8Rng) -> f32 {
    f32::from_bits(random.next_u32())
}

fn params(layout: &Arc<Layout>, seed: u64) -> Params {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut params = Params::zeros(Arc::clone(layout));
    params.flat_mut().fill_with(|| bits(&mut random));
    params
}

fn gradient(layout: &Arc<Layout>, seed: u64, value: fn(&mut ChaCha8Rng) -> f32) -> Gradient {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut gradient = Gradient::new(Arc::clone(layout));
    let names: Vec<_> = layout.tensors().iter().map(|t| t.name.clone()).collect();
    for (part, name) in gradient.tensors_mut().iter_mut().zip(names) {
        match part {
            TensorGradient::Dense(values) => values.fill_with(|| value(&mut random)),
            TensorGradient::Rows(_) if name == "untouched" => {}
            TensorGradient::Rows(rows) => {
                for _ in 0..rows.table_len() / 2 {
                    let row = random.random_range(0..rows.table_len());
                    rows.row(row).fill_with(|| value(&mut random));
                }
            }
        }
    }
    gradient
}

fn bits_of(params: &Params) -> Vec<u32> {
    params.flat().iter().map(|value| value.to_bits()).collect()
}

/// Everything that a gradient holds, touched rows in their order.
fn contents(gradient: &Gradient) -> Vec<(Vec<u32>, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect();
    let part = |part: &TensorGradient| match part {
        TensorGradient::Dense(values) => (Vec::new(), bits(values)),
        TensorGradient::Rows(rows) => (rows.indices().to_vec(), bits(rows.values())),
    };
    gradient.tensors().iter().map(part).collect()
}

/// Where a gradient's last tensor lies.
fn place_of(gradient: &Gradient) -> *const f32 {
    match gradient.tensors().last() {
        Some(TensorGradient::Dense(values)) => values.as_ptr(),
        _ => panic!("the last tensor is dense"),
    }
}

/// The same chunks, cut again into pieces of so many elements.
fn cut(chunks: Vec<Chunk>, elements: usize) -> Vec<Chunk> {
    let mut pieces = Vec::new();
    for chunk in chunks {
        let mut rest = chunk.values.clone();
        let mut offset = chunk.offset;
        loop {
            let piece = rest.split_to(rest.len().min(4 * elements));
            let last = rest.is_empty();
            pieces.push(Chunk {
                tensor: chunk.tensor,
                offset,
                values: piece,
                crc32: chunk.crc32.filter(|_| last),
            });
            offset += 4 * elements as u64;
            if last {
                break;
            }
        }
    }
    pieces
}

#[test]
fn parameters_arrive_bit_for_bit_however_they_are_cut() {
    let layout = Arc::new(layout());
    let sent = Arc::new(params(&layout, 1));
    for elements in [CHUNK / 4, 4096, 1000, 77_777] {
        for integrity in [Integrity::Checksums, Integrity::Tls] {
            let mut arrived = params(&layout, 2);
            let mut incoming = IncomingParams::new(&mut arrived, Codec::None, integrity);
            for chunk in cut(crate::transfer::chunks(&sent, integrity), elements) {
                incoming.chunk(&chunk).unwrap();
            }
            incoming.finish().unwrap();
            assert!(bits_of(&arrived) == bits_of(&sent), "{elements}");
        }
    }
}

#[test]
fn gradients_arrive_bit_for_bit_with_their_norm() {
    let layout = Arc::new(layout());
    let small: fn(&mut ChaCha8Rng) -> f32 = |random| random.random_range(-1.0..1.0);
    let checked = Integrity::Checksums;
    for (seed, value, integrity) in [
        (1, small, checked),
        (2, bits, checked),
        (3, small, Integrity::Tls),
    ] {
        let sent = Arc::new(gradient(&layout, seed, value));
        // Into a buffer that has been used.
        let used = Box::new(gradient(&layout, seed + 9, small));
        let mut incoming = IncomingGradient::new(used, Codec::None, integrity);
        for piece in outgoing::gradient(&sent, integrity) {
            match piece {
                Piece::Chunk(chunk) => incoming.chunk(&chunk).unwrap(),
                Piece::Rows(rows) => incoming.rows(&rows).unwrap(),
            }
        }
        let (arrived, norm) = incoming.finish().unwrap();
        assert!(contents(&arrived) == contents(&sent));
        let wanted = sent.sum_of_squares().sqrt();
        assert_eq!(norm.is_finite(), wanted.is_finite());
        assert!(
            norm.to_bits() == wanted.to_bits() || !wanted.is_finite(),
            "{norm} {wanted}"
        );
    }
}

/// There and back through a service: what the worker reads is what the server has, what the
/// server gets is what the worker computed.
#[test]
fn a_round_through_a_service_changes_nothing() {
    a_round_through(&Served::new(layout()));
}

#[test]
fn a_round_through_tls_changes_nothing() {
    a_round_through(&Served::behind_tls(layout()));
}

fn a_round_through(served: &Served) {
    let client = served.run(Client::open(&served.endpoint)).unwrap();
    let layout = Arc::clone(&served.layout);
    let worker = thread::spawn(move || {
        let mut link = client.join_blocking("h1/0", &layout).unwrap();
        let mut assignment = link.exchange(None).unwrap().unwrap();
        let (mut lives, mut place) = (Vec::new(), None);
        for round in 0..3 {
            assert_eq!(assignment.lease, 5 + round);
            lives.push((assignment.job, bits_of(&assignment.params)));
            let mut buffer = link.buffer();
            if let Some(place) = place {
                assert_eq!(place_of(&buffer), place, "the buffer is used again");
            }
            buffer.clone_from(&Box::new(gradient(&layout, round, bits)));
            place = Some(place_of(&buffer));
            let report = dsgd_core::core::Report {
                stats: Stats::of_examples(3.5, 10),
                grad_norm: 0.0,
                cost: Cost::default(),
            };
            let outcome = Outcome::Gradient {
                lease: assignment.lease,
                report,
                gradient: buffer,
                state: None,
            };
            drop(assignment.params);
            match link.exchange(Some(outcome)).unwrap() {
                Some(next) => assignment = next,
                None => break,
            }
        }
        lives
    });
    let Message::Join { inbox, name, .. } = served.news() else {
        panic!("nobody came");
    };
    assert_eq!(name, "h1/0");
    let mut inbox = Some(inbox);
    let mut sent = Vec::new();
    for round in 0..3 {
        let batch = |index| Batch {
            index,
            epoch: 4,
            seed: u64::MAX - round,
            part: Part::WHOLE,
        };
        let job = Job::Train((70..=70 + round as usize).map(batch).collect());
        let params = Arc::new(params(&served.layout, round));
        sent.push((job.clone(), bits_of(&params)));
        let given = inbox.as_ref().unwrap().send(Assignment {
            lease: 5 + round,
            job,
            params: Snapshot::new(1, params),
            codecs: Codecs::default(),
            differences: None,
            others_state: None,
            transfer: TransferTimes::default(),
        });
        assert!(given.is_ok());
        let Message::Done { outcome, .. } = served.news() else {
            panic!("nothing was pushed");
        };
        let Outcome::Gradient {
            lease,
            report,
            gradient: arrived,
            ..
        } = outcome
        else {
            panic!("no gradient");
        };
        assert_eq!(lease, 5 + round);
        assert_eq!(report.stats, Stats::of_examples(3.5, 10));
        let wanted = gradient(&served.layout, round, bits);
        assert!(contents(&arrived) == contents(&wanted));
        served.buffers.give(arrived);
        if round == 2 {
            served
                .over
                .store(true, std::sync::atomic::Ordering::Relaxed);
            inbox = None;
        }
    }
    assert!(worker.join().unwrap() == sent);
}

/// What a codec makes of values, blocks of which begin here.
fn rounded(codec: Codec, values: &[f32]) -> Vec<u32> {
    let mut back = values.to_vec();
    codec.round(&mut back);
    back.iter().map(|v| v.to_bits()).collect()
}

/// Whatever a codec makes of a value arrives, however it is cut: in whole tensors, in rows.
#[test]
fn rounded_parameters_arrive_as_they_were_rounded() {
    let layout = Arc::new(layout());
    let codec = Codec::Bf16;
    for integrity in [Integrity::Checksums, Integrity::Tls] {
        let sent = Arc::new(params(&layout, 1));
        let mut arrived = params(&layout, 2);
        let mut incoming = IncomingParams::new(&mut arrived, codec, integrity);
        let snapshot = Snapshot::new(1, Arc::clone(&sent));
        for piece in outgoing::params(snapshot, codec, integrity) {
            let Piece::Chunk(chunk) = piece else {
                panic!("whole tensors travel as chunks");
            };
            incoming.chunk(&chunk).unwrap();
        }
        incoming.finish().unwrap();
        assert!(bits_of(&arrived) == rounded(codec, sent.flat()));
    }
}

#[test]
fn rounded_gradients_arrive_as_they_were_rounded() {
    let layout = Arc::new(layout());
    for (codec, integrity) in [
        (Codec::Bf16, Integrity::Checksums),
        (Codec::Int8, Integrity::Checksums),
        (Codec::Int4, Integrity::Tls),
    ] {
        let sent = gradient(&layout, 3, |random| random.random_range(-1.0..1.0));
        let coded = Residual::new(&layout).encode(codec, &sent);
        let buffer = Box::new(Gradient::new(Arc::clone(&layout)));
        let mut incoming = IncomingGradient::new(buffer, codec, integrity);
        for piece in outgoing::coded(&coded, integrity) {
            match piece {
                Piece::Chunk(chunk) => incoming.chunk(&chunk).unwrap(),
                Piece::Rows(rows) => incoming.rows(&rows).unwrap(),
            }
        }
        let (arrived, norm) = incoming.finish().unwrap();
        for (arrived, sent) in arrived.tensors().iter().zip(sent.tensors()) {
            let (arrived, sent) = match (arrived, sent) {
                (TensorGradient::Dense(arrived), TensorGradient::Dense(sent)) => {
                    (&arrived[..], rounded(codec, sent))
                }
                (TensorGradient::Rows(arrived), TensorGradient::Rows(sent)) => {
                    assert_eq!(arrived.indices(), sent.indices());
                    let rows = sent.iter().flat_map(|(_, row)| rounded(codec, row));
                    (arrived.values(), rows.collect())
                }
                _ => panic!("of one layout"),
            };
            let arrived: Vec<_> = arrived.iter().map(|v| v.to_bits()).collect();
            assert!(arrived == sent, "{codec:?}");
        }
        // The norm is of what arrived.
        assert_eq!(norm.to_bits(), arrived.sum_of_squares().sqrt().to_bits());
    }
}

fn in_rising_order(rows: &mut Table) {
    let before = rows.clone();
    let mut order = before.indices().to_vec();
    order.sort_unstable();
    rows.clear();
    for row in order {
        let values = before.get(row as usize).unwrap_or_default();
        rows.row(row as usize).copy_from_slice(values);
    }
}

/// A byte for each tensor, as the schema has it.
fn fresh(coded: &Coded) -> Vec<u8> {
    let byte = |tensor: &CodedTensor| match tensor {
        CodedTensor::Nothing => 0,
        CodedTensor::Rows { .. } => 1,
        CodedTensor::Whole(_) => 2,
    };
    coded.tensors.iter().map(byte).collect()
}

/// Differences are added, one after the other, and nothing else changes.
#[test]
fn differences_arrive_one_after_the_other() {
    let layout = Arc::new(layout());
    let difference = |seed| {
        let mut gradient = gradient(&layout, seed, |random| random.random_range(-1.0..1.0));
        for tensor in gradient.tensors_mut() {
            if let TensorGradient::Rows(rows) = tensor {
                in_rising_order(rows);
            }
        }
        let mut coded = Residual::new(&layout).encode(Codec::Int8, &gradient);
        for (tensor, coded) in gradient.tensors().iter().zip(&mut coded.tensors) {
            if matches!(tensor, TensorGradient::Rows(rows) if rows.is_empty()) {
                *coded = CodedTensor::Nothing;
            }
        }
        (gradient, coded)
    };
    let both = [difference(4), difference(5)];
    let start = params(&layout, 1);
    let mut wanted = start.clone();
    for (gradient, _) in &both {
        for (tensor, part) in layout.tensors().iter().zip(gradient.tensors()) {
            let into = &mut wanted.flat_mut()[tensor.range.clone()];
            let mut add = |at: usize, values: &[f32]| {
                let mut values = values.to_vec();
                Codec::Int8.round(&mut values);
                for (into, value) in into[at..].iter_mut().zip(values) {
                    *into += value;
                }
            };
            match part {
                TensorGradient::Dense(values) => add(0, values),
                TensorGradient::Rows(rows) => {
                    rows.iter()
                        .for_each(|(row, values)| add(row * values.len(), values));
                }
            }
        }
    }
    let checked = Integrity::Checksums;
    let mut arrived = start;
    let [(_, first), (_, second)] = &both;
    let mut incoming =
        IncomingParams::over(&mut arrived, &fresh(first), Codec::Int8, checked).unwrap();
    incoming = incoming.adding();
    for (number, coded) in [first, second].into_iter().enumerate() {
        if number > 0 {
            assert!(incoming.is_complete());
            incoming = incoming.then(&fresh(coded), Codec::Int8).unwrap();
        }
        for piece in outgoing::coded(coded, checked) {
            match piece {
                Piece::Chunk(chunk) => incoming.chunk(&chunk).unwrap(),
                Piece::Rows(rows) => incoming.rows(&rows).unwrap(),
            }
        }
    }
    incoming.finish().unwrap();
    assert!(bits_of(&arrived) == bits_of(&wanted));
}

/// Workers have what the server calls the public copy, to the bit, also one that has missed a version; and what a codec
/// leaves out of one difference is in the next.
#[test]
fn differences_make_the_copy_that_the_server_has() {
    let layout = Arc::new(layout());
    let small: fn(&mut ChaCha8Rng) -> f32 = |random| random.random_range(-1.0..1.0);
    let updater = Updater::new(OptimizerKind::Sgd, Hyper::default(), Arc::clone(&layout));
    let mut start = Params::zeros(Arc::clone(&layout));
    start.flat_mut().fill(0.5);
    let buffers = Buffers::new(&layout, 1);
    let versions = Versions::new(updater, start.clone());
    let mut store = InMemory::new(versions, buffers, 1).with_public_copy(Codec::Int4);
    let (mut mine, mut have) = (start, 0);
    let size = StepSize {
        learning_rate: 0.01,
        scale: 1.0,
    };
    let mut pulled = 0;
    for step in 1..=8 {
        store.hold(step, Box::new(gradient(&layout, step, small)), 1);
        store.apply(step, size);
        // Somebody else pulls each version, and this one every second.
        let (copy, differences) = store.snapshot_for_copy(None);
        let differences = differences.unwrap();
        let last = step == 8;
        if !step.is_multiple_of(2) && !last {
            continue;
        }
        // Four bits an element: two differences are less than half of everything.
        let all = differences.since(have).expect("two versions behind");
        pulled += all.len();
        for one in all {
            let fresh: Vec<u8> = fresh(&one.coded);
            let checked = Integrity::Checksums;
            let mut incoming =
                IncomingParams::over(&mut mine, &fresh, Codec::Int4, checked).unwrap();
            incoming = incoming.adding();
            for piece in outgoing::coded(&one.coded, checked) {
                match piece {
                    Piece::Chunk(chunk) => incoming.chunk(&chunk).unwrap(),
                    Piece::Rows(rows) => incoming.rows(&rows).unwrap(),
                }
            }
            incoming.finish().unwrap();
        }
        have = copy.version;
        assert!(bits_of(&mine) == bits_of(&copy.params), "version {have}");
        // A step of 0.01 each: what is left out is a seventh of the last at most.
        let far = mine.flat().iter().zip(store.current().flat());
        let far = far.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 0.002, "{far}");
    }
    assert_eq!(pulled, 8, "each difference once");
    let known = |store: &mut InMemory, base| {
        let (_, differences) = store.snapshot_for_copy(None);
        differences.unwrap().since(base).map(<[_]>::len)
    };
    assert_eq!(known(&mut store, 0), None, "far behind: everything");
    assert_eq!(known(&mut store, 7), Some(1));
    store.travel_in(Codec::Int8);
    assert_eq!(known(&mut store, 7), Some(1), "each in its own codec");
    store.hold(9, Box::new(gradient(&layout, 9, small)), 1);
    store.apply(9, size);
    assert_eq!(known(&mut store, 7), Some(2));
}

/// Whatever bytes come in blocks, and however many, they are refused or are some elements.
#[test]
fn any_bytes_in_blocks_are_refused_or_some_elements() {
    let mut layout = Layout::new();
    layout.dense("weight", &[300]);
    layout.rows("table", 5, 70);
    let layout = Arc::new(layout);
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut taken = 0;
    for round in 0..20_000 {
        let codec = [Codec::Int8, Codec::Int4][round % 2];
        let buffer = Box::new(Gradient::new(Arc::clone(&layout)));
        let mut incoming = IncomingGradient::new(buffer, codec, Integrity::Tls);
        let mut bytes = |right: usize| {
            let wrong = random.random_range(0..2 * right);
            let size = [right, right, right, wrong][random.random_range(0..4)];
            let bytes: Vec<u8> = (0..size).map(|_| random.random()).collect();
            bytes
        };
        let chunk = Chunk {
            tensor: 0,
            offset: 0,
            values: bytes(codec.bytes(300)).into(),
            crc32: Some(0),
        };
        let rows = Rows {
            tensor: 1,
            indices: vec![3, 0, 0, 0].into(),
            values: bytes(codec.bytes(70)).into(),
            crc32: Some(0),
        };
        if incoming.chunk(&chunk).is_ok() && incoming.rows(&rows).is_ok() {
            incoming.finish().unwrap();
            taken += 1;
        }
    }
    assert!((5_000..15_000).contains(&taken), "{taken} of 20,000");
}
