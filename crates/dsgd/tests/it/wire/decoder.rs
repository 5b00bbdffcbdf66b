//! Every way in which parameters or a gradient can be wrong, and the word for each.

use std::sync::Arc;

use bytes::Bytes;
use dsgd::{Gradient, Layout, Params, Snapshot, TensorId};
use dsgd_core::codec::Codec;
use dsgd_core::params::{Fresh, Rule, Since};
use dsgd_engine::wire::incoming::{IncomingGradient, IncomingParams, WireError};
use dsgd_engine::wire::integrity::Integrity;
use dsgd_engine::wire::outgoing::{self, Piece};
use dsgd_engine::wire::proto::{Chunk, Rows};
use dsgd_engine::wire::{CHUNK, PIECE};

const TABLE: TensorId = TensorId(0);
const WEIGHT: TensorId = TensorId(1);
const BIAS: TensorId = TensorId(2);

/// Elements of `weight`: one whole message and some more.
const LEN: usize = PIECE / 4 + 100;

/// Rows of the table: one more than go into a message.
const ROWS: usize = CHUNK / 16 + 1;

fn layout() -> Arc<Layout> {
    let mut layout = Layout::new();
    layout.rows("table", ROWS, 3);
    layout.dense("weight", &[LEN]);
    layout.dense("bias", &[2]);
    Arc::new(layout)
}

fn valid_gradient() -> Vec<Piece> {
    let mut gradient = Gradient::new(layout());
    for row in [7, 3, 5] {
        gradient.row(TABLE, row).fill(row as f32);
    }
    for (k, value) in gradient.dense(WEIGHT).iter_mut().enumerate() {
        *value = k as f32;
    }
    gradient.dense(BIAS).copy_from_slice(&[1.0, 2.0]);
    outgoing::gradient(&Arc::new(gradient), Integrity::Checksums).collect()
}

/// A gradient's way in, into a new buffer.
fn arriving(layout: Arc<Layout>, integrity: Integrity) -> IncomingGradient {
    IncomingGradient::new(Box::new(Gradient::new(layout)), Codec::None, integrity)
}

/// What is found wrong with a gradient that was changed so.
fn gradient(change: impl FnOnce(&mut Vec<Piece>)) -> Result<(), WireError> {
    gradient_with(Integrity::Checksums, change)
}

fn gradient_with(
    integrity: Integrity,
    change: impl FnOnce(&mut Vec<Piece>),
) -> Result<(), WireError> {
    let mut pieces = valid_gradient();
    assert_eq!(pieces.len(), 4, "rows, two chunks, one chunk");
    change(&mut pieces);
    let mut incoming = arriving(layout(), integrity);
    for piece in pieces {
        match piece {
            Piece::Chunk(chunk) => incoming.chunk(&chunk)?,
            Piece::Rows(rows) => incoming.rows(&rows)?,
        }
    }
    incoming.finish().map(|_| ()).map_err(|(error, _)| error)
}

/// What is found wrong with parameters that were changed so.
fn params(change: impl FnOnce(&mut Vec<Chunk>)) -> Result<(), WireError> {
    let mut layout = Layout::new();
    layout.rows("table", 2, 3);
    layout.dense("weight", &[LEN]);
    let layout = Arc::new(layout);
    let sent = Arc::new(Params::zeros(Arc::clone(&layout)));
    let mut chunks = crate::transfer::chunks(&sent, Integrity::Checksums);
    assert_eq!(chunks.len(), 3, "one chunk and two");
    change(&mut chunks);
    let mut params = Params::zeros(layout);
    let mut incoming = IncomingParams::new(&mut params, Codec::None, Integrity::Checksums);
    for chunk in &chunks {
        incoming.chunk(chunk)?;
    }
    incoming.finish()
}

fn chunk(piece: &mut Piece) -> &mut Chunk {
    match piece {
        Piece::Chunk(chunk) => chunk,
        Piece::Rows(_) => panic!("rows"),
    }
}

fn rows(piece: &mut Piece) -> &mut Rows {
    match piece {
        Piece::Rows(rows) => rows,
        Piece::Chunk(_) => panic!("a chunk"),
    }
}

/// Rows of the table, as they should be but for what the test makes of them.
fn some_rows(numbers: &[u32], last: bool) -> Rows {
    let indices: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let values = vec![1; numbers.len() * 12];
    let crc = crc32(&[&indices, &values]);
    Rows {
        tensor: 0,
        indices: indices.into(),
        values: values.into(),
        crc32: last.then_some(crc),
    }
}

fn zeros(tensor: u32, offset: usize, bytes: usize) -> Chunk {
    Chunk {
        tensor,
        offset: offset as u64,
        values: vec![0; bytes].into(),
        crc32: None,
    }
}

fn crc32(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

fn name(name: &str) -> String {
    name.to_owned()
}

#[test]
fn what_is_right_is_taken() {
    assert_eq!(gradient(|_| {}), Ok(()));
    assert_eq!(params(|_| {}), Ok(()));
    // A peer may cut as it likes.
    let smaller = |chunks: &mut Vec<Chunk>| {
        let rest = chunks[0].values.split_off(8);
        let mut second = zeros(0, 8, 0);
        second.values = rest;
        second.crc32 = chunks[0].crc32.take();
        chunks.insert(1, second);
    };
    assert_eq!(params(smaller), Ok(()));
}

#[test]
fn tensors_and_chunks_come_in_order() {
    let wrong = |tensor, at, got, offset| {
        let offset = offset as u64;
        Err(WireError::OutOfOrder {
            tensor,
            at,
            got,
            offset,
        })
    };
    let at = PIECE;
    assert_eq!(params(|c| c.swap(1, 2)), wrong(1, 0, 1, at));
    assert_eq!(params(|c| c.swap(0, 1)), wrong(0, 0, 1, 0));
    assert_eq!(params(|c| c[2].offset += 1), wrong(1, at, 1, at + 1));
    assert_eq!(params(|c| c[2].offset -= 1), wrong(1, at, 1, at - 1));
    assert_eq!(params(|c| c[1].tensor = 9), wrong(1, 0, 9, 0));
    assert_eq!(
        params(|c| c[1].offset = u64::MAX),
        Err(WireError::OutOfOrder {
            tensor: 1,
            at: 0,
            got: 1,
            offset: u64::MAX
        })
    );
    assert_eq!(gradient(|p| p.swap(2, 3)), wrong(1, at, 2, 0));
    assert_eq!(gradient(|p| rows(&mut p[0]).tensor = 1), wrong(0, 0, 1, 0));
    // A chunk that comes twice.
    let again = |p: &mut Vec<Chunk>| p.insert(2, p[1].clone());
    assert_eq!(params(again), wrong(1, at, 1, 0));
}

#[test]
fn a_message_has_one_chunk_at_most() {
    let most = CHUNK;
    let bytes = CHUNK + 4;
    let too_large = Err(WireError::TooLarge { bytes, most });
    let layout: Layout = [("large", [CHUNK / 4 + 1])].into_iter().collect();
    let mut params = Params::zeros(Arc::new(layout));
    let mut large = zeros(0, 0, bytes);
    large.crc32 = Some(crc32(&[&large.values]));
    assert_eq!(
        IncomingParams::new(&mut params, Codec::None, Integrity::Checksums).chunk(&large),
        too_large
    );
    let mut incoming = IncomingParams::new(&mut params, Codec::None, Integrity::Checksums);
    incoming.chunk(&zeros(0, 0, CHUNK)).unwrap();
    let numbers: Vec<_> = (0..ROWS as u32).collect();
    assert_eq!(
        gradient(|p| p[0] = Piece::Rows(some_rows(&numbers, true))),
        Err(WireError::TooLarge {
            bytes: CHUNK + 16,
            most
        })
    );
    let fits = &numbers[1..];
    assert_eq!(
        gradient(|p| p[0] = Piece::Rows(some_rows(fits, true))),
        Ok(())
    );
}

#[test]
fn a_row_that_is_wider_than_a_chunk_comes_alone() {
    let width = CHUNK / 4 + 10;
    let mut layout = Layout::new();
    layout.rows("wide", 3, width);
    let layout = Arc::new(layout);
    let mut gradient = Gradient::new(Arc::clone(&layout));
    gradient.row(TensorId(0), 2).fill(2.0);
    gradient.row(TensorId(0), 0).fill(1.0);
    let sum = gradient.sum_of_squares();
    let pieces: Vec<_> = outgoing::gradient(&Arc::new(gradient), Integrity::Checksums).collect();
    assert_eq!(pieces.len(), 2);
    let mut incoming = arriving(Arc::clone(&layout), Integrity::Checksums);
    let mut all = (Vec::new(), Vec::new());
    for mut piece in pieces {
        incoming.rows(rows(&mut piece)).unwrap();
        all.0.extend_from_slice(&rows(&mut piece).indices);
        all.1.extend_from_slice(&rows(&mut piece).values);
    }
    let norm = incoming.finish().unwrap().1;
    assert_eq!(norm.to_bits(), sum.sqrt().to_bits());
    let mut incoming = arriving(layout, Integrity::Checksums);
    let (indices, values) = (Bytes::from(all.0), Bytes::from(all.1));
    let both = Rows {
        tensor: 0,
        crc32: Some(crc32(&[&indices, &values])),
        indices,
        values,
    };
    assert_eq!(
        incoming.rows(&both),
        Err(WireError::TooLarge {
            bytes: 2 * (4 + 4 * width),
            most: 4 + 4 * width
        })
    );
}

#[test]
fn what_is_added_as_it_is_has_no_part_in_the_norm() {
    let mut layout: Layout = [("seen", [3]), ("weight", [2])].into_iter().collect();
    layout.set_rule(TensorId(0), Rule::Added);
    let layout = Arc::new(layout);
    let mut gradient = Gradient::new(Arc::clone(&layout));
    gradient.dense(TensorId(0)).fill(1e6);
    gradient.dense(TensorId(1)).copy_from_slice(&[3.0, 4.0]);
    let mut incoming = arriving(layout, Integrity::Checksums);
    for piece in outgoing::gradient(&Arc::new(gradient), Integrity::Checksums) {
        let Piece::Chunk(chunk) = piece else {
            panic!("both are dense");
        };
        incoming.chunk(&chunk).unwrap();
    }
    let (gradient, norm) = incoming.finish().unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(norm, 5.0) && close(gradient.sum_of_squares(), 25.0));
}

#[test]
fn values_are_whole_elements() {
    let broken = |tensor, bytes| {
        let name = name(tensor);
        Err(WireError::Broken { name, bytes })
    };
    assert_eq!(params(|c| c[0].values.truncate(23)), broken("table", 23));
    assert_eq!(
        gradient(|p| chunk(&mut p[3]).values.truncate(5)),
        broken("bias", 5)
    );
    assert_eq!(
        gradient(|p| rows(&mut p[0]).indices.truncate(11)),
        broken("table", 11)
    );
}

#[test]
fn a_tensor_ends_where_it_ends() {
    let longer = |chunk: &mut Chunk| {
        let bytes = [&chunk.values[..], &[0; 4]].concat();
        chunk.crc32 = Some(crc32(&[&bytes]));
        chunk.values = bytes.into();
    };
    assert_eq!(
        gradient(|p| longer(chunk(&mut p[3]))),
        Err(WireError::TooLong {
            name: name("bias"),
            len: 2
        })
    );
    assert_eq!(
        params(|c| longer(&mut c[2])),
        Err(WireError::TooLong {
            name: name("weight"),
            len: LEN
        })
    );
}

#[test]
fn a_message_says_something() {
    let empty = |tensor| Err(WireError::Empty { name: name(tensor) });
    assert_eq!(
        gradient(|p| p.insert(1, Piece::Chunk(zeros(1, 0, 0)))),
        empty("weight")
    );
    assert_eq!(params(|c| c.insert(1, zeros(1, 0, 0))), empty("weight"));
    assert_eq!(
        gradient(|p| p[0] = Piece::Rows(some_rows(&[], false))),
        empty("table")
    );
    let ending = |p: &mut Vec<Piece>| {
        let crc = rows(&mut p[0]).crc32.take();
        let mut end = some_rows(&[], true);
        end.crc32 = crc;
        p.insert(1, Piece::Rows(end));
    };
    assert_eq!(gradient(ending), empty("table"));
    assert_eq!(
        gradient(|p| p[0] = Piece::Rows(some_rows(&[], true))),
        Ok(()),
        "a table without any row is one empty message"
    );
}

#[test]
fn a_table_comes_as_rows_and_the_rest_as_chunks() {
    let (table, dense) = ("a table", "a dense tensor");
    let kind = |tensor, wanted, got| {
        let name = name(tensor);
        Err(WireError::Kind { name, wanted, got })
    };
    assert_eq!(
        gradient(|p| p[0] = Piece::Chunk(zeros(0, 0, 12))),
        kind("table", table, dense)
    );
    let mut some = some_rows(&[1], true);
    some.tensor = 1;
    assert_eq!(
        gradient(|p| p[1] = Piece::Rows(some)),
        kind("weight", dense, table)
    );
}

#[test]
fn rows_have_the_tables_width_and_stand_in_it_once() {
    let mismatch = |values| {
        let name = name("table");
        let (rows, width) = (3, 3);
        Err(WireError::RowsMismatch {
            name,
            rows,
            width,
            values,
        })
    };
    assert_eq!(
        gradient(|p| rows(&mut p[0]).values.truncate(32)),
        mismatch(32)
    );
    assert_eq!(
        gradient(|p| rows(&mut p[0]).values = vec![0; 40].into()),
        mismatch(40)
    );
    assert_eq!(
        gradient(|p| rows(&mut p[0]).values = Bytes::new()),
        mismatch(0)
    );
    let no_such_row = |row| {
        let name = name("table");
        let rows = ROWS;
        Err(WireError::NoSuchRow { name, row, rows })
    };
    let only = |numbers: &'static [u32]| {
        move |p: &mut Vec<Piece>| p[0] = Piece::Rows(some_rows(numbers, true))
    };
    assert_eq!(gradient(only(&[ROWS as u32])), no_such_row(ROWS as u32));
    assert_eq!(gradient(only(&[0, u32::MAX])), no_such_row(u32::MAX));
    let twice = |row| {
        let name = name("table");
        Err(WireError::RowTwice { name, row })
    };
    assert_eq!(gradient(only(&[1, 2, 1])), twice(1));
    let in_two = |p: &mut Vec<Piece>| {
        p[0] = Piece::Rows(some_rows(&[1, 2], false));
        p.insert(1, Piece::Rows(some_rows(&[4, 2], true)));
    };
    assert_eq!(gradient(in_two), twice(2));
}

#[test]
fn a_checksum_comes_with_the_end_and_is_right() {
    let early = |tensor| Err(WireError::EarlyChecksum { name: name(tensor) });
    let missing = |tensor| Err(WireError::NoChecksum { name: name(tensor) });
    assert_eq!(params(|c| c[1].crc32 = Some(0)), early("weight"));
    assert_eq!(params(|c| c[2].crc32 = None), missing("weight"));
    assert_eq!(
        gradient(|p| chunk(&mut p[1]).crc32 = Some(0)),
        early("weight")
    );
    assert_eq!(gradient(|p| chunk(&mut p[3]).crc32 = None), missing("bias"));
    // Rows without a checksum are not the last ones: something else of the table is due.
    assert!(matches!(
        gradient(|p| rows(&mut p[0]).crc32 = None),
        Err(WireError::Kind { .. })
    ));
    let damaged = |result: Result<(), WireError>, tensor: &str| match result {
        Err(WireError::Checksum { name, got, wanted }) => {
            assert_eq!(name, tensor);
            assert_ne!(got, wanted);
        }
        other => panic!("{other:?}"),
    };
    let flip = |bytes: &mut Bytes, at: usize| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1;
        *bytes = flipped.into();
    };
    damaged(params(|c| flip(&mut c[1].values, 77)), "weight");
    damaged(params(|c| c[0].crc32 = Some(0)), "table");
    damaged(gradient(|p| flip(&mut chunk(&mut p[3]).values, 0)), "bias");
    damaged(gradient(|p| flip(&mut rows(&mut p[0]).values, 35)), "table");
    damaged(gradient(|p| flip(&mut rows(&mut p[0]).indices, 4)), "table");
}

/// What TLS brings is whole. What a checksum ends is ended by it all the same.
#[test]
fn over_tls_a_checksum_is_an_end_and_no_more() {
    let tls = |change: fn(&mut Vec<Piece>)| gradient_with(Integrity::Tls, change);
    let early = |tensor| Err(WireError::EarlyChecksum { name: name(tensor) });
    let missing = |tensor| Err(WireError::NoChecksum { name: name(tensor) });
    assert_eq!(tls(|_| {}), Ok(()));
    assert_eq!(tls(|p| chunk(&mut p[3]).crc32 = Some(0)), Ok(()));
    assert_eq!(tls(|p| rows(&mut p[0]).crc32 = Some(7)), Ok(()));
    assert_eq!(tls(|p| chunk(&mut p[1]).crc32 = Some(0)), early("weight"));
    assert_eq!(tls(|p| chunk(&mut p[3]).crc32 = None), missing("bias"));
    let unended = tls(|p| rows(&mut p[0]).crc32 = None);
    assert!(matches!(unended, Err(WireError::Kind { .. })));
    // Who takes no checksums sends none.
    let sent = Arc::new(Params::zeros(layout()));
    let told = |integrity| -> Vec<_> {
        let chunks = crate::transfer::chunks(&sent, integrity).into_iter();
        chunks.filter_map(|chunk| chunk.crc32).collect()
    };
    assert_eq!(told(Integrity::Tls), [0; 3]);
    assert!(told(Integrity::Checksums).iter().all(|&crc| crc != 0));
}

#[test]
fn nothing_is_missing_and_nothing_is_left_over() {
    let missing = |tensor, at| {
        let name = name(tensor);
        Err(WireError::Incomplete { name, at })
    };
    assert_eq!(params(|c| c.truncate(0)), missing("table", 0));
    assert_eq!(params(|c| c.truncate(2)), missing("weight", PIECE / 4));
    assert_eq!(gradient(|p| p.truncate(3)), missing("bias", 0));
    assert_eq!(gradient(|p| p.truncate(0)), missing("table", 0));
    assert_eq!(params(|c| c.push(zeros(2, 0, 4))), Err(WireError::LeftOver));
    assert_eq!(
        gradient(|p| p.push(Piece::Chunk(zeros(3, 0, 4)))),
        Err(WireError::LeftOver)
    );
    assert_eq!(
        gradient(|p| p.push(Piece::Rows(some_rows(&[1], true)))),
        Err(WireError::LeftOver)
    );
}

/// A buffer that was in use when its transfer broke serves the next one as if nothing had been.
#[test]
fn a_broken_transfer_leaves_a_buffer_that_is_as_good_as_new() {
    let mut incoming = arriving(layout(), Integrity::Checksums);
    incoming.rows(&some_rows(&[9, 3], false)).unwrap();
    let error = incoming.rows(&some_rows(&[9], true));
    assert!(error.is_err());
    let mut incoming =
        IncomingGradient::new(incoming.into_buffer(), Codec::None, Integrity::Checksums);
    for mut piece in valid_gradient() {
        match &mut piece {
            Piece::Chunk(chunk) => incoming.chunk(chunk).unwrap(),
            Piece::Rows(rows) => incoming.rows(rows).unwrap(),
        }
    }
    let (mut gradient, _) = incoming.finish().unwrap();
    assert_eq!(gradient.tensors_mut()[0].as_rows().indices(), [7, 3, 5]);
}

/// What comes of the tensors of [`layout`] that are new: nothing of the table's base, rows, or all.
fn partial(fresh: &[u8], change: impl FnOnce(&mut Vec<Piece>)) -> Result<Vec<f32>, WireError> {
    let mut sent = Params::zeros(layout());
    sent.flat_mut().fill(1.0);
    let of = |byte: &u8| match byte {
        0 => Fresh::Same,
        1 => Fresh::Rows(vec![3, 5, 7]),
        _ => Fresh::Whole,
    };
    let since = Since {
        base: 1,
        tensors: fresh.iter().take(3).map(of).collect(),
    };
    let snapshot = Snapshot {
        since: Some(since),
        ..Snapshot::new(2, Arc::new(sent))
    };
    let mut pieces: Vec<_> =
        outgoing::params(snapshot, Codec::None, Integrity::Checksums).collect();
    change(&mut pieces);
    let mut params = Params::zeros(layout());
    let mut incoming = IncomingParams::over(&mut params, fresh, Codec::None, Integrity::Checksums)?;
    for piece in pieces {
        match piece {
            Piece::Chunk(chunk) => incoming.chunk(&chunk)?,
            Piece::Rows(rows) => incoming.rows(&rows)?,
        }
    }
    incoming.finish()?;
    Ok(params.flat().to_vec())
}

#[test]
fn what_is_new_is_laid_over_what_is_there() {
    let ones = |values: &[f32]| values.iter().filter(|v| **v > 0.5).count();
    for (fresh, wanted) in [
        ([0, 0, 0], 0),
        ([1, 0, 0], 9),
        ([0, 2, 0], LEN),
        ([1, 2, 2], 9 + LEN + 2),
        ([2, 0, 2], 3 * ROWS + 2),
    ] {
        let values = partial(&fresh, |_| {}).unwrap();
        assert_eq!(ones(&values), wanted, "{fresh:?}");
        if fresh[0] == 1 {
            assert_eq!(values[3 * 5..3 * 6], [1.0; 3]);
            assert_eq!(values[3 * 4..3 * 5], [0.0; 3]);
        }
    }
}

#[test]
fn what_is_new_is_what_was_said_to_be() {
    let wrong = |fresh: &[u8], change: fn(&mut Vec<Piece>)| partial(fresh, change).unwrap_err();
    let (got, tensors) = (2, 3);
    assert_eq!(wrong(&[0, 0], |_| {}), WireError::Fresh { got, tensors });
    let (name_, byte) = (name("bias"), 9);
    assert_eq!(
        wrong(&[0, 0, 9], |_| {}),
        WireError::NoFresh { name: name_, byte }
    );
    assert!(matches!(wrong(&[0, 1, 0], |_| {}), WireError::Kind { .. }));
    // Rows where all was said to come, and the other way round.
    let as_chunk = |p: &mut Vec<Piece>| p[0] = Piece::Chunk(zeros(0, 0, 12));
    assert!(matches!(
        wrong(&[1, 0, 0], as_chunk),
        WireError::Kind { .. }
    ));
    let as_rows = |p: &mut Vec<Piece>| p[0] = Piece::Rows(some_rows(&[1], true));
    assert!(matches!(wrong(&[2, 0, 0], as_rows), WireError::Kind { .. }));
    // Something of a tensor of which nothing was said to come, and nothing where something was.
    let before = |p: &mut Vec<Piece>| p.insert(0, Piece::Rows(some_rows(&[1], true)));
    assert!(matches!(
        wrong(&[0, 2, 0], before),
        WireError::OutOfOrder { .. }
    ));
    let after = |p: &mut Vec<Piece>| p.push(Piece::Chunk(zeros(2, 0, 8)));
    assert_eq!(wrong(&[1, 0, 0], after), WireError::LeftOver);
    assert!(matches!(
        wrong(&[1, 2, 0], |p| p.truncate(1)),
        WireError::Incomplete { .. }
    ));
    // Rows in no order, twice, beyond the table, none.
    let sent_rows = |numbers: &'static [u32]| {
        partial(&[1, 0, 0], |p| p[0] = Piece::Rows(some_rows(numbers, true))).unwrap_err()
    };
    let late = |row| WireError::RowOrder {
        name: name("table"),
        row,
    };
    assert_eq!(sent_rows(&[5, 3]), late(3));
    assert_eq!(sent_rows(&[5, 5]), late(5));
    assert!(matches!(
        sent_rows(&[ROWS as u32]),
        WireError::NoSuchRow { .. }
    ));
    assert!(matches!(
        sent_rows(&[u32::MAX]),
        WireError::NoSuchRow { .. }
    ));
    assert_eq!(
        sent_rows(&[]),
        WireError::Empty {
            name: name("table")
        }
    );
    let damaged = wrong(&[1, 0, 0], |p| rows(&mut p[0]).crc32 = Some(7));
    assert!(matches!(damaged, WireError::Checksum { .. }));
}
