//! What went wrong in a run, and what it cost.

use super::{Block, Table};
use crate::board::{Board, HappeningKind};
use crate::figures::{count, secs, whole};
use crate::past::Past;

/// Happenings that are told in words.
const MOST_HAPPENINGS: usize = 12;

/// Things that went wrong.
pub fn faults(board: &Board) -> u64 {
    let counts = board.counts;
    let ended = u64::from(bad_end(board).is_some());
    counts.lost + counts.refused + counts.left_out + u64::from(counts.undone > 0) + ended
}

pub(super) fn has_diverged(board: &Board) -> bool {
    bad_end(board) == Some("training diverged")
}

/// How the run ended, where that is a fault of its own.
fn bad_end(board: &Board) -> Option<&'static str> {
    let outcome = board.outcome.as_deref().unwrap_or_default();
    let ends = [
        ("diverged", "training diverged"),
        ("failed", "the run failed"),
    ];
    let end = ends.iter().find(|(start, _)| outcome.starts_with(start));
    end.map(|(_, words)| *words)
}

/// What went wrong, counted. A worker that is lost has its warning, so warnings count where nothing else does.
pub(super) fn fault_words(board: &Board) -> Vec<String> {
    let counts = board.counts;
    let words = [
        (counts.lost, "worker lost", "workers lost"),
        (counts.refused, "gradient refused", "gradients refused"),
        (counts.left_out, "batch left out", "batches left out"),
        (counts.undone, "step undone", "steps undone"),
    ];
    let said = |(number, one, many): (u64, &str, &str)| match number {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", whole(number)),
    };
    let happened = words.into_iter().filter(|(number, ..)| *number > 0);
    let mut happened: Vec<_> = happened.map(said).collect();
    if happened.is_empty() && counts.warnings > 0 {
        happened.push(said((counts.warnings, "warning", "warnings")));
    }
    let ended = bad_end(board).map(str::to_owned);
    ended.into_iter().chain(happened).collect()
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
        HappeningKind::Lost,
        HappeningKind::Refused,
        HappeningKind::LeftOut,
        HappeningKind::Warning,
        HappeningKind::Resumed,
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
