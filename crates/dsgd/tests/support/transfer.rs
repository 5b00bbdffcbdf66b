//! Transfers that somebody has meddled with, and what they say if they say anything.
//!
//! The decoder must do one of two things with any sequence of messages: refuse it, or decode
//! exactly what the messages say. What they say is read here a second time, without a buffer, a
//! place or an order of checks in common with the decoder.

use std::collections::BTreeMap;
use std::sync::Arc;

use dsgd::{Gradient, Layout, Params, Snapshot, TensorGradient, TensorId};
use dsgd_core::codec::Codec;
use dsgd_engine::wire::incoming::{IncomingGradient, IncomingParams};
use dsgd_engine::wire::integrity::Integrity;
use dsgd_engine::wire::outgoing;
use dsgd_engine::wire::proto::{Chunk, PullPart, PushPart, Rows, pull_part, push_part};

/// All parameters as they travel to whoever has none.
pub(crate) fn chunks(params: &Arc<Params>, integrity: Integrity) -> Vec<Chunk> {
    let pieces = outgoing::params(Snapshot::new(1, Arc::clone(params)), Codec::None, integrity);
    let chunk = |piece| match piece {
        outgoing::Piece::Chunk(chunk) => chunk,
        outgoing::Piece::Rows(_) => panic!("whole tensors travel as chunks"),
    };
    pieces.map(chunk).collect()
}

/// A tensor as bytes: which rows (for a table) and values.
type Said = Vec<(Vec<u8>, Vec<u8>)>;

/// Feeds a push to the decoder.
///
/// # Panics
/// When it accepts what was not said.
pub(crate) fn push(layout: &Arc<Layout>, parts: &[PushPart]) -> Option<Said> {
    let buffer = Box::new(Gradient::new(Arc::clone(layout)));
    let mut incoming = IncomingGradient::new(buffer, Codec::None, Integrity::Checksums);
    for part in parts {
        match &part.part {
            Some(push_part::Part::Chunk(chunk)) => incoming.chunk(chunk).ok()?,
            Some(push_part::Part::Rows(rows)) => incoming.rows(rows).ok()?,
            _ => return None,
        }
    }
    let (gradient, norm) = incoming.finish().ok()?;
    let bytes = |values: &[f32]| le_bytes(values);
    let part = |part: &TensorGradient| match part {
        TensorGradient::Dense(values) => (Vec::new(), bytes(values)),
        TensorGradient::Rows(rows) => {
            let indices = rows.indices().iter().flat_map(|i| i.to_le_bytes());
            (indices.collect(), bytes(rows.values()))
        }
    };
    let decoded: Said = gradient.tensors().iter().map(part).collect();
    let said = decode(layout, parts.iter().map(of_push));
    assert_eq!(Some(&decoded), said.as_ref(), "decoded what was not said");
    let wanted = gradient.sum_of_squares().sqrt();
    let close = (norm - wanted).abs() <= 1e-6 * wanted;
    assert!(
        close || !wanted.is_finite() && !norm.is_finite(),
        "{norm} {wanted}"
    );
    Some(decoded)
}

/// Feeds a pull to the decoder.
///
/// # Panics
/// When it accepts what was not said.
pub(crate) fn pull(layout: &Arc<Layout>, parts: &[PullPart]) -> Option<Said> {
    let mut params = Params::zeros(Arc::clone(layout));
    let mut incoming = IncomingParams::new(&mut params, Codec::None, Integrity::Checksums);
    for part in parts {
        match &part.part {
            Some(pull_part::Part::Chunk(chunk)) => incoming.chunk(chunk).ok()?,
            _ => return None,
        }
    }
    incoming.finish().ok()?;
    let tensor = |t| (Vec::new(), le_bytes(params.get(TensorId(t))));
    let decoded: Said = (0..layout.tensors().len()).map(tensor).collect();
    let said = decode(layout, parts.iter().map(of_pull));
    assert_eq!(Some(&decoded), said.as_ref(), "decoded what was not said");
    Some(decoded)
}

/// The model of these tests: something of everything, and little of it.
pub(crate) fn layout() -> Arc<Layout> {
    let mut layout = Layout::new();
    layout.rows("table", 9, 3);
    layout.dense("weight", &[4, 5]);
    layout.dense("nothing", &[0]);
    layout.rows("no columns", 3, 0);
    layout.dense("bias", &[2]);
    Arc::new(layout)
}

/// Makes the checksums right again where it can: whoever means harm would.
pub(crate) fn mend(parts: &mut [PushPart]) {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        let crc = match &mut part.part {
            Some(push_part::Part::Chunk(chunk)) => {
                hasher.update(&chunk.values);
                &mut chunk.crc32
            }
            Some(push_part::Part::Rows(rows)) => {
                hasher.update(&rows.indices);
                hasher.update(&rows.values);
                &mut rows.crc32
            }
            _ => continue,
        };
        if crc.is_some() {
            *crc = Some(std::mem::take(&mut hasher).finalize());
        }
    }
}

/// What a part contributes to which tensor.
type Piece<'a> = (usize, &'a [u8], &'a [u8]);

fn of_push(part: &PushPart) -> Option<Piece<'_>> {
    match &part.part {
        Some(push_part::Part::Chunk(chunk)) => Some(of_chunk(chunk)),
        Some(push_part::Part::Rows(rows)) => Some(of_rows(rows)),
        _ => None,
    }
}

fn of_pull(part: &PullPart) -> Option<Piece<'_>> {
    match &part.part {
        Some(pull_part::Part::Chunk(chunk)) => Some(of_chunk(chunk)),
        _ => None,
    }
}

fn of_chunk(chunk: &Chunk) -> Piece<'_> {
    (chunk.tensor as usize, &[], &chunk.values)
}

fn of_rows(rows: &Rows) -> Piece<'_> {
    (rows.tensor as usize, &rows.indices, &rows.values)
}

/// What messages say, all tensors of the layout and no other, each with as much as it must have.
fn decode<'a>(layout: &Layout, pieces: impl Iterator<Item = Option<Piece<'a>>>) -> Option<Said> {
    let mut tensors: BTreeMap<usize, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
    for piece in pieces {
        let (tensor, indices, values) = piece?;
        let (all_indices, all_values) = tensors.entry(tensor).or_default();
        all_indices.extend_from_slice(indices);
        all_values.extend_from_slice(values);
    }
    let keys: Vec<_> = tensors.keys().copied().collect();
    let all: Vec<_> = (0..layout.tensors().len()).collect();
    (keys == all).then(|| tensors.into_values().collect())
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
