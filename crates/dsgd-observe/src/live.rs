//! A picture that stays below the lines of a run, on the terminal that the run was started at.
//!
//! Lines scroll as ever and stay where they can be scrolled back to; the picture is taken away
//! before them and drawn again after them. Nothing is ever read from the terminal and its modes
//! are left as they are: the server of a supervised run is a background process there, and would
//! be stopped for either.

use std::fmt::Write as _;
use std::io::{self, Stderr, Write};
use std::time::{Duration, Instant};

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use rustix::termios::tcgetwinsize;

use crate::board::Board;
use crate::screen;

/// The picture is drawn at most this often.
const EVERY: Duration = Duration::from_millis(100);

/// Lines of the run that stay in sight above the picture.
const ABOVE: u16 = 5;

/// A terminal that is narrower gets no more than the progress.
const NARROW: u16 = 60;

/// A picture below lines.
pub(super) struct Live {
    out: Stderr,
    /// Columns of each line of the picture that is there now.
    shown: Vec<u16>,
    /// Lines that have become too long for the terminal go on in its next row.
    reflows: bool,
    drawn: Option<Instant>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            out: io::stderr(),
            shown: Vec::new(),
            reflows: reflows(|name| std::env::var(name).ok()),
            drawn: None,
        }
    }

    /// Lets something be written above the picture.
    pub(super) fn above(&mut self, write: impl FnOnce()) {
        self.take_away();
        write();
    }

    /// Draws the picture, unless it was drawn just now and nothing `urgent` has happened.
    pub(super) fn show(&mut self, board: &Board, urgent: bool) {
        let just_now = self.drawn.is_some_and(|at| at.elapsed() < EVERY);
        if just_now && !urgent && !self.shown.is_empty() {
            return;
        }
        self.drawn = Some(Instant::now());
        let Ok(size) = tcgetwinsize(&self.out) else {
            return;
        };
        // The last column is left empty: some terminals wrap after it.
        let width = size.ws_col.saturating_sub(1).max(20);
        let most = match width {
            narrow if narrow < NARROW => 2,
            _ => size.ws_row.saturating_sub(ABOVE).max(2),
        };
        let area = Rect::new(0, 0, width, screen::rows(board, most));
        let mut cells = Buffer::empty(area);
        screen::draw(board, 0, area, &mut cells);
        let mut text = self.upwards(size.ws_col);
        self.shown.clear();
        for row in 0..area.height {
            if row > 0 {
                text.push_str("\r\n");
            }
            self.shown.push(line(&cells, row, &mut text));
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        self.write(&text);
    }

    /// The picture goes.
    pub(super) fn take_away(&mut self) {
        if !self.shown.is_empty() {
            let columns = tcgetwinsize(&self.out).map_or(0, |size| size.ws_col);
            let text = self.upwards(columns) + "\x1b[J";
            self.shown.clear();
            self.write(&text);
        }
    }

    /// To where the picture begins, on a terminal that has so many columns now.
    fn upwards(&self, columns: u16) -> String {
        let rows = |&length: &u16| match columns {
            0 => 1,
            _ if !self.reflows => 1,
            columns => length.div_ceil(columns).max(1),
        };
        match self.shown.iter().map(rows).sum::<u16>() {
            0 | 1 => "\r".to_owned(),
            rows => format!("\r\x1b[{}A", rows - 1),
        }
    }

    fn write(&mut self, text: &str) {
        // Whoever closed the terminal does not look.
        let _ = self.out.write_all(text.as_bytes());
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.take_away();
    }
}

/// Whether the terminal breaks lines anew when it becomes narrower: all do but these.
fn reflows(variable: impl Fn(&str) -> Option<String>) -> bool {
    let term = variable("TERM").unwrap_or_default();
    let cuts = ["linux", "rxvt", "screen", "vt"];
    let cuts =
        cuts.iter().any(|name| term.starts_with(name)) || variable("XTERM_VERSION").is_some();
    variable("TMUX").is_some() || !cuts
}

/// A row of cells as a terminal takes it (ECMA-48), and how many columns that fills.
fn line(cells: &Buffer, row: u16, text: &mut String) -> u16 {
    let width = cells.area.width;
    let visible = (0..width).rev().find(|&x| cells[(x, row)].symbol() != " ");
    let mut before = String::new();
    let length = visible.map_or(0, |x| x + 1);
    for x in 0..length {
        let cell = &cells[(x, row)];
        let style = style(cell);
        if style != before {
            text.push_str(&style);
            before = style;
        }
        text.push_str(cell.symbol());
    }
    text.push_str("\x1b[0m");
    length
}

fn style(cell: &Cell) -> String {
    let mut style = "\x1b[0".to_owned();
    if cell.modifier.contains(Modifier::BOLD) {
        style.push_str(";1");
    }
    if cell.modifier.contains(Modifier::DIM) {
        style.push_str(";2");
    }
    if let Color::Indexed(number) = cell.fg {
        // Writing to a string cannot fail.
        let _ = write!(style, ";38;5;{number}");
    }
    style + "m"
}
