//! The workers' table: who is at what, and what the time goes to.

use std::fmt::Display;

use indicatif::{DecimalBytes, HumanCount};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table, Widget};

use super::{BAD, DIM};
use crate::observe::board::{Board, State, WorkerRow};
use crate::observe::words::duration;

/// Cells of the bar that shows what a worker spends its time with.
const BAR: usize = 20;

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
    workers.sort_by_key(|(_, row)| row.state != State::Lost);
    let room = usize::from(area.height - 1);
    let first = first.min(workers.len().saturating_sub(room));
    let mut shown = &workers[first..];
    if shown.len() > room {
        let hidden = shown.len() - (room - 1);
        shown = &shown[..room - 1];
        let words = format!("… and {hidden} more");
        Line::styled(words, DIM).render(area.rows().next_back().unwrap_or(area), cells);
    }
    let shown = shown.iter().map(|(name, row)| cells_of(name, row));
    let unit = if board.totals.tokens > 0 {
        "tokens/s"
    } else {
        "examples/s"
    };
    let head = [
        "worker".into(),
        right(unit),
        time_legend(),
        right("stale"),
        right("batches"),
        right("lost"),
        right("refused"),
        right("moved"),
        "".into(),
    ];
    let names = board.workers.keys().map(|name| name.chars().count());
    let widths = [
        Constraint::Length(names.max().unwrap_or(0).clamp(6, 24) as u16),
        Constraint::Length(10),
        Constraint::Length(BAR as u16 + 5),
        Constraint::Length(5),
        Constraint::Length(8),
        Constraint::Length(4),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Fill(1),
    ];
    let table = Table::new(shown, widths).column_spacing(2);
    table.header(Row::new(head).style(DIM)).render(area, cells);
}

fn cells_of<'a>(name: &'a str, row: &'a WorkerRow) -> Row<'a> {
    let (words, style) = match (row.state, &row.reason) {
        (State::Lost, Some(reason)) => {
            let since = duration(row.since_secs);
            (format!("lost at {since}: {reason}"), BAD)
        }
        (State::Lost, None) => ("lost".to_owned(), BAD),
        (State::Working, Some(_)) => ("is back".to_owned(), DIM),
        _ => (String::new(), DIM),
    };
    let totals = &row.totals;
    let name_style = if row.state == State::Lost {
        BAD
    } else {
        Style::new()
    };
    Row::new([
        Cell::from(name).style(name_style),
        right(HumanCount(row.rate as u64)).into(),
        bar(totals.shares(), totals.batches > 0).into(),
        right(format!("{:.1}", totals.mean_staleness())).into(),
        right(HumanCount(totals.batches)).into(),
        right(row.losses).into(),
        right(row.refused).into(),
        right(DecimalBytes(totals.bytes)).into(),
        Cell::from(words).style(style),
    ])
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
