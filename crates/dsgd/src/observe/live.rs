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

use super::board::Board;
use super::screen;

/// The picture is drawn at most this often.
const EVERY: Duration = Duration::from_millis(100);

/// Lines of the run that stay in sight above the picture.
const ABOVE: u16 = 5;

/// A terminal that is narrower gets no more than the progress.
const NARROW: u16 = 60;

/// A picture below lines.
pub(super) struct Live {
    out: Stderr,
    /// Rows of the picture that is there now.
    shown: u16,
    drawn: Option<Instant>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            out: io::stderr(),
            shown: 0,
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
        if just_now && !urgent && self.shown > 0 {
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
        let mut text = self.upwards();
        for row in 0..area.height {
            if row > 0 {
                text.push_str("\r\n");
            }
            line(&cells, row, &mut text);
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        self.shown = area.height;
        self.write(&text);
    }

    /// The picture goes.
    pub(super) fn take_away(&mut self) {
        if self.shown > 0 {
            let text = self.upwards() + "\x1b[J";
            self.shown = 0;
            self.write(&text);
        }
    }

    /// To where the picture begins.
    fn upwards(&self) -> String {
        match self.shown {
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

/// A row of cells as a terminal takes it (ECMA-48).
fn line(cells: &Buffer, row: u16, text: &mut String) {
    let width = cells.area.width;
    let visible = (0..width).rev().find(|&x| cells[(x, row)].symbol() != " ");
    let mut before = String::new();
    for x in 0..visible.map_or(0, |x| x + 1) {
        let cell = &cells[(x, row)];
        let style = style(cell);
        if style != before {
            text.push_str(&style);
            before = style;
        }
        text.push_str(cell.symbol());
    }
    text.push_str("\x1b[0m");
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
