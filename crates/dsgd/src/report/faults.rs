//! What went wrong in a run, and what it cost.

use super::figures::{count, secs, whole};
use super::{Block, Table};
use crate::observe::board::{Board, Kind};
use crate::observe::past::Past;

/// Happenings that are told in words.
const MOST_HAPPENINGS: usize = 12;

/// Things that went wrong.
pub(crate) fn faults(board: &Board) -> u64 {
    let counts = board.counts;
    let diverged = u64::from(has_diverged(board));
    counts.lost + counts.refused + counts.left_out + u64::from(counts.undone > 0) + diverged
}

pub(super) fn has_diverged(board: &Board) -> bool {
    let outcome = board.outcome.as_ref();
    outcome.is_some_and(|outcome| outcome.starts_with("diverged"))
}

/// What went wrong, counted.
pub(super) fn fault_words(board: &Board) -> Vec<String> {
    let counts = board.counts;
    let words = [
        (counts.lost, "worker lost", "workers lost"),
        (counts.refused, "gradient refused", "gradients refused"),
        (counts.left_out, "batch left out", "batches left out"),
        (counts.undone, "step undone", "steps undone"),
    ];
    let diverged = has_diverged(board).then(|| "training diverged".to_owned());
    let happened = words.into_iter().filter(|(number, ..)| *number > 0);
    let said = happened.map(|(number, one, many)| match number {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", whole(number)),
    });
    diverged.into_iter().chain(said).collect()
}

pub(super) fn fault_blocks(past: &Past) -> Vec<Block> {
    let board = &past.board;
    let counts = board.counts;
    let mut lines = Vec::new();
    if past.unread > 0 {
        let lines_of = count(past.unread, "line");
        lines.push(format!(
            "{lines_of} of events.jsonl could not be read and are left out here"
        ));
    }
    if faults(board) == 0 && counts.freed == 0 && counts.warnings == 0 && lines.is_empty() {
        return vec![Block::Text("None.".to_owned())];
    }
    let rows = [
        ("Workers lost", counts.lost),
        ("Batches that went to another worker", counts.freed),
        ("Gradients refused", counts.refused),
        ("Batches left out of an epoch", counts.left_out),
        ("Steps undone when the server went", counts.undone),
        ("Warnings", counts.warnings),
    ];
    let rows = rows.map(|(name, number)| (name.to_owned(), whole(number)));
    let mut blocks = vec![Block::Table(Table::pairs(rows.to_vec()))];
    lines.extend(cost(board));
    let told = [
        Kind::Lost,
        Kind::Refused,
        Kind::LeftOut,
        Kind::Warning,
        Kind::Resumed,
    ];
    let told = board.happenings.iter().filter(|h| told.contains(&h.kind));
    let mut told: Vec<_> = told.rev().take(MOST_HAPPENINGS).collect();
    told.reverse();
    lines.extend(told.into_iter().map(|happening| {
        let who = happening.worker.as_ref();
        let who = who.map_or(String::new(), |name| format!("{name}: "));
        format!("at {}: {who}{}", secs(happening.secs), happening.words)
    }));
    blocks.push(Block::List(lines));
    blocks
}

/// What faults cost, as far as it is known.
fn cost(board: &Board) -> Vec<String> {
    let (counts, totals) = (board.counts, &board.totals);
    let batch = totals.compute_secs / totals.batches.max(1) as f64;
    let mut lines = Vec::new();
    if counts.refused > 0 {
        lines.push(format!(
            "{} computed for nothing: about {} of one worker's time, at {} each on average",
            count(counts.refused, "gradient"),
            secs(counts.refused as f64 * batch),
            secs(batch)
        ));
    }
    if counts.freed > 0 {
        lines.push(format!(
            "{} begun by one worker and computed by another: at most about {} of work was lost, if each was \
             nearly done",
            match counts.freed {
                1 => "1 batch was".to_owned(),
                many => format!("{} batches were", whole(many)),
            },
            secs(counts.freed as f64 * batch)
        ));
    }
    if counts.undone > 0 {
        // Undone ones are among those that were made.
        let made = (board.steps + counts.undone).max(1) as f64;
        lines.push(format!(
            "{} had to be made again: about {} of the run's time",
            count(counts.undone, "step"),
            secs(board.stepping_secs * counts.undone as f64 / made)
        ));
    }
    lines
}
