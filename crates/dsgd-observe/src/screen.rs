//! A board on a screen of letters: as much of it as there is room for.
//!
//! What matters most comes first and goes last: progress, figures, workers, the curve, what
//! happened. It is drawn into a buffer of cells, so the same picture stands below a run's lines
//! (`live`), on a screen of its own (`dsgd watch`), and in tests.

mod curve;
mod style;
mod workers;

use std::collections::VecDeque;

use indicatif::{DecimalBytes, HumanCount};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use style::{BAD, BOLD, DIM, value};

use crate::board::{Board, HappeningKind};
use crate::words::duration;

/// Rows of the curve, at least and at most, with its axes.
const CURVE_ROWS: (u16, u16) = (8, 14);

/// Happenings that are shown below the table at least, where there are any.
const HAPPENINGS: u16 = 3;

/// Rows of gauge and figures.
const HEAD_ROWS: u16 = 2;

/// Rows that a board fills without leaving any empty, when there are that many.
pub fn rows(board: &Board, most: u16) -> u16 {
    let table = workers::rows(board);
    let all = HEAD_ROWS + table + happenings(board) + CURVE_ROWS.0;
    all.min(most).max(HEAD_ROWS)
}

/// Draws the board; workers are shown from that one on.
pub fn draw(board: &Board, first_worker: usize, area: Rect, cells: &mut Buffer) {
    let table = workers::rows(board);
    let rest = area.height.saturating_sub(HEAD_ROWS);
    let last = happenings(board).min(rest.saturating_sub(table));
    let room = rest.saturating_sub(last);
    // Half a curve says nothing: it is there or it is not.
    let curve = match room.saturating_sub(table.min(room / 2)) {
        rows if rows >= CURVE_ROWS.0 => rows.min(CURVE_ROWS.1.max(room.saturating_sub(table))),
        _ => 0,
    };
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(curve),
        Constraint::Length(room - curve),
        Constraint::Fill(1),
    ]);
    let [gauge, figures, curve, table, happened] = parts.areas(area);
    self::gauge(board, gauge.width).render(gauge, cells);
    self::figures(board, figures.width).render(figures, cells);
    if curve.height > 0 {
        curve::draw(board, curve, cells);
    }
    workers::draw(board, first_worker, table, cells);
    draw_happenings(board, happened, cells);
}

/// The board as lines of plain text.
pub fn lines(board: &Board, width: u16, height: u16) -> Vec<String> {
    let area = Rect::new(0, 0, width, height);
    let mut cells = Buffer::empty(area);
    draw(board, 0, area, &mut cells);
    let line = |y| {
        let line: String = (0..width).map(|x| cells[(x, y)].symbol()).collect();
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// How far the run is.
fn gauge(board: &Board, width: u16) -> Line<'static> {
    const BLOCKS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let share = board.counted as f64 / board.batches.max(1) as f64;
    let length = usize::from(width / 5).clamp(8, 30);
    let eighths = (share * length as f64 * 8.0).floor() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if eighths / 8 < length {
        bar.push(BLOCKS[eighths % 8]);
    }
    let bar = format!("{bar:░<length$}").replace(' ', "░");
    let end = match (&board.outcome, board.remaining_secs()) {
        (Some(outcome), _) => outcome.clone(),
        (None, Some(secs)) => format!("{} left of the run", duration(secs)),
        (None, None) => "starting".to_owned(),
    };
    let live = board.live_count();
    let wanted = board.workers_wanted;
    let style = if live < wanted && board.outcome.is_none() && board.steps > 0 {
        BAD
    } else {
        Style::new()
    };
    let bar = Span::styled(bar, Style::new().fg(Color::Indexed(12)));
    let (counted, batches) = (board.counted, board.batches);
    let step = format!("step {}", HumanCount(board.steps));
    let items = vec![
        item(4, "", [Span::styled(board.task.clone(), BOLD)]),
        item(
            0,
            " ",
            [Span::raw(format!("epoch {}/{}", board.epoch, board.epochs))],
        ),
        item(3, " ", [bar]),
        item(0, " ", [Span::raw(format!("{counted}/{batches}"))]),
        item(1, DOT, [Span::raw(end)]),
        item(
            2,
            DOT,
            [Span::styled(format!("{live} of {wanted} workers"), style)],
        ),
        item(6, DOT, [Span::styled(step, DIM)]),
        item(5, DOT, [Span::styled(duration(board.secs), DIM)]),
    ];
    fit(items, width)
}

/// What stands in a line whole or not at all: half a figure would be another figure.
struct Item {
    /// The lowest is left out last.
    rank: u8,
    /// What stands before it, unless it comes first.
    before: &'static str,
    spans: Vec<Span<'static>>,
}

const DOT: &str = " · ";

fn item(rank: u8, before: &'static str, spans: impl Into<Vec<Span<'static>>>) -> Item {
    let spans = spans.into();
    Item {
        rank,
        before,
        spans,
    }
}

/// The items that there is room for, those of the lowest ranks.
fn fit(mut items: Vec<Item>, width: u16) -> Line<'static> {
    loop {
        let mut line = Line::default();
        for item in &items {
            if !line.spans.is_empty() {
                line.push_span(item.before);
            }
            line.extend(item.spans.iter().cloned());
        }
        if line.width() <= usize::from(width) {
            return line;
        }
        // A line that is too long has at least one.
        let least = (0..items.len()).max_by_key(|&at| items[at].rank);
        items.remove(least.unwrap_or(0));
    }
}

/// Where the model is.
fn figures(board: &Board, width: u16) -> Line<'static> {
    let Some(last) = &board.last else {
        return Line::styled("waiting for the first step", DIM);
    };
    let (metric, name) = (board.metric(), board.metric().short());
    let train = value(metric, metric.value(&last.epoch_stats));
    let train = [format!("train {name} ").into(), Span::styled(train, BOLD)];
    let mut items = vec![item(0, "", train)];
    let valid = |row: &crate::board::EpochRow| row.validation.map(|valid| (row.epoch, valid));
    if let Some((epoch, valid)) = board.done.iter().rev().find_map(valid) {
        let (valid, of) = (
            value(metric, metric.value(&valid)),
            format!(" (epoch {epoch})"),
        );
        let (valid, of) = (Span::styled(valid, BOLD), Span::styled(of, DIM));
        items.push(item(1, DOT, [format!("valid {name} ").into(), valid, of]));
    }
    let rate: f64 = board.workers.values().map(|row| row.rate).sum();
    let unit = board.unit();
    let mut plain = |rank, words| items.push(item(rank, DOT, [Span::raw(words)]));
    plain(2, format!("{} {unit}/s", HumanCount(rate as u64)));
    plain(3, format!("staleness {:.1}", board.totals.mean_staleness()));
    plain(5, format!("|grad| {:.2}", last.grad_norm));
    plain(4, format!("lr {:.2e}", last.learning_rate));
    if board.totals.bytes > 0 {
        plain(6, format!("{} moved", DecimalBytes(board.totals.bytes)));
    }
    fit(items, width)
}

fn is_shown(kind: HappeningKind) -> bool {
    !matches!(kind, HappeningKind::Joined | HappeningKind::Freed)
}

/// Rows for what happened: a verdict, and the last happenings.
fn happenings(board: &Board) -> u16 {
    let shown = board.happenings.iter().filter(|h| is_shown(h.kind));
    let happened = shown.take(usize::from(HAPPENINGS)).count() as u16;
    happened + u16::from(board.slowest().is_some())
}

fn draw_happenings(board: &Board, area: Rect, cells: &mut Buffer) {
    let mut rows: VecDeque<Rect> = area.rows().collect();
    if let Some(slowest) = board.slowest()
        && let Some(row) = rows.pop_front()
    {
        Line::styled(slowest.to_string(), Style::new().fg(Color::Indexed(11))).render(row, cells);
    }
    let shown = board.happenings.iter().rev();
    let shown = shown.filter(|happening| is_shown(happening.kind));
    let mut shown: Vec<_> = shown.take(rows.len()).collect();
    shown.reverse();
    for (happening, row) in shown.into_iter().zip(rows) {
        let bad = matches!(
            happening.kind,
            HappeningKind::Lost | HappeningKind::LeftOut | HappeningKind::Warning
        );
        let style = if bad { BAD } else { Style::new() };
        let words = happening.words.lines().next().unwrap_or_default();
        let kind = match happening.kind {
            HappeningKind::Lost => "lost: ",
            HappeningKind::Refused => "refused: ",
            HappeningKind::Saved => "saved ",
            _ => "",
        };
        let who = match &happening.worker {
            Some(worker) => format!("{worker} "),
            None => String::new(),
        };
        Line::from(vec![
            Span::styled(format!("{:>8} ", duration(happening.secs)), DIM),
            Span::styled(format!("{who}{kind}{words}"), style),
        ])
        .render(row, cells);
    }
}

#[cfg(test)]
mod tests;
