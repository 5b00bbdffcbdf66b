//! The workers' table: who is at what, and what the time goes to.

use std::fmt::Display;

use indicatif::{DecimalBytes, HumanCount};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table, Widget};

use super::style::{BAD, DIM};
use crate::board::{Board, Presence, WorkerRow};
use crate::words::duration;

/// Cells of the bar that shows what a worker spends its time with.
const BAR: usize = 20;

/// Width and rank of each column of figures: where there is no room, the highest rank goes first.
const FIGURES: [(u16, usize); 7] = [
    (10, 0),
    (BAR as u16 + 5, 2),
    (5, 3),
    (8, 1),
    (4, 4),
    (7, 5),
    (9, 6),
];

/// A name, figures, and words.
const COLUMNS: usize = FIGURES.len() + 2;

const SPACING: u16 = 2;

const LONGEST_NAME: usize = 24;

/// Rows that the whole table needs.
pub(super) fn rows(board: &Board) -> u16 {
    1 + board.workers.len().min(500) as u16
}

pub(super) fn draw(board: &Board, first: usize, area: Rect, cells: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    // Who is lost is looked for; the others stay in the order of their names.
    let mut workers: Vec<_> = board.workers.iter().collect();
    workers.sort_by_key(|(_, row)| row.state != Presence::Lost);
    let room = usize::from(area.height - 1);
    let first = first.min(workers.len().saturating_sub(room));
    let mut shown = &workers[first..];
    if shown.len() > room {
        let hidden = shown.len() - (room - 1);
        shown = &shown[..room - 1];
        let words = format!("… and {hidden} more");
        Line::styled(words, DIM).render(area.rows().next_back().unwrap_or(area), cells);
    }
    let names = workers.iter().map(|(name, _)| name.chars().count());
    let name_width = names.max().unwrap_or(0).clamp(6, LONGEST_NAME) as u16;
    let kept = fitting(name_width, area.width);
    let row = |cells: [Cell<'static>; COLUMNS]| {
        let cells = cells.into_iter().zip(kept);
        Row::new(cells.filter_map(|(cell, kept)| kept.then_some(cell)))
    };
    let unit = format!("{}/s", board.unit());
    let head = row([
        "worker".into(),
        right(unit).into(),
        time_legend().into(),
        right("stale").into(),
        right("batches").into(),
        right("lost").into(),
        right("refused").into(),
        right("moved").into(),
        "".into(),
    ]);
    let figures = FIGURES.map(|(width, _)| Constraint::Length(width));
    let widths = std::iter::once(Constraint::Length(name_width)).chain(figures);
    let widths = widths.chain([Constraint::Fill(1)]).zip(kept);
    let widths = widths.filter_map(|(width, kept)| kept.then_some(width));
    let shown = shown.iter().map(|(name, of)| row(cells_of(name, of)));
    let table = Table::new(shown, widths).column_spacing(SPACING);
    table.header(head.style(DIM)).render(area, cells);
}

/// Which columns there is room for: a figure is there whole or not at all.
fn fitting(name_width: u16, width: u16) -> [bool; COLUMNS] {
    let mut kept = [true; COLUMNS];
    let needed = |kept: &[bool; COLUMNS]| {
        let figures = FIGURES.iter().zip(&kept[1..]).filter(|(_, kept)| **kept);
        let figures = figures.map(|((width, _), _)| width + SPACING);
        // The last gap is that before the words.
        name_width + figures.sum::<u16>() + SPACING
    };
    for rank in (0..FIGURES.len()).rev() {
        if needed(&kept) <= width {
            break;
        }
        let least = FIGURES.iter().position(|(_, of)| *of == rank);
        kept[1 + least.expect("each rank is there once")] = false;
    }
    kept
}

/// A name in its column: the end tells workers apart.
fn short(name: &str) -> String {
    let length = name.chars().count();
    if length <= LONGEST_NAME {
        return name.to_owned();
    }
    let end = name.chars().skip(length - (LONGEST_NAME - 1));
    std::iter::once('…').chain(end).collect()
}

fn cells_of(name: &str, row: &WorkerRow) -> [Cell<'static>; COLUMNS] {
    let (words, style) = match (row.state, &row.reason) {
        (Presence::Lost, Some(reason)) => {
            let since = duration(row.since_secs);
            (format!("lost at {since}: {reason}"), BAD)
        }
        (Presence::Lost, None) => ("lost".to_owned(), BAD),
        (Presence::Working, Some(_)) => ("is back".to_owned(), DIM),
        _ => (String::new(), DIM),
    };
    let totals = &row.totals;
    let name_style = if row.state == Presence::Lost {
        BAD
    } else {
        Style::new()
    };
    [
        Cell::from(short(name)).style(name_style),
        right(HumanCount(row.rate as u64)).into(),
        bar(totals.shares(), totals.batches > 0).into(),
        right(format!("{:.1}", totals.mean_staleness())).into(),
        right(HumanCount(totals.batches)).into(),
        right(row.losses).into(),
        right(row.refused).into(),
        right(DecimalBytes(totals.bytes)).into(),
        Cell::from(words).style(style),
    ]
}

fn right(text: impl Display) -> Line<'static> {
    Line::from(text.to_string()).right_aligned()
}

/// Computing, pulling, pushing, waiting: a letter and a colour each, so that neither is needed.
const PARTS: [(&str, Color, &str); 4] = [
    ("█", Color::Indexed(12), "compute"),
    ("▓", Color::Indexed(14), "pull"),
    ("▒", Color::Indexed(13), "push"),
    ("░", Color::Indexed(8), "wait"),
];

fn time_legend() -> Line<'static> {
    let legend = PARTS.iter().flat_map(|(mark, color, what)| {
        let what = &what[..what.len().min(4)];
        [
            Span::styled(*mark, Style::new().fg(*color)),
            Span::raw(format!("{what} ")),
        ]
    });
    legend.collect::<Vec<_>>().into()
}

fn bar(shares: [f64; 4], known: bool) -> Line<'static> {
    if !known {
        return Line::default();
    }
    let (mut done, mut sum) = (0, 0.0);
    let mut spans = Vec::new();
    for (share, (mark, color, _)) in shares.into_iter().zip(PARTS) {
        sum += share;
        let end = ((sum * BAR as f64).round() as usize).min(BAR);
        spans.push(Span::styled(
            mark.repeat(end.saturating_sub(done)),
            Style::new().fg(color),
        ));
        done = done.max(end);
    }
    spans.push(Span::raw(format!(" {:3.0}%", 100.0 * shares[0])));
    Line::from(spans)
}
