//! What a report is made of, before it is text: headings, lines, tables, commands, pictures.

/// A part of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// The title of what follows.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// Short lines, each for itself.
    List(Vec<String>),
    /// Rows of figures.
    Table(Table),
    /// Lines to copy.
    Commands(Vec<String>),
    /// A picture, as SVG, and what it shows.
    Picture(String, String),
}

/// A table; all but the first column are figures, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names of the columns; none for a table of names and values.
    pub head: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<String>>,
    /// Whether the other columns are words.
    pub words: bool,
}

impl Table {
    /// One with these headings and no row yet.
    pub fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// Names and values.
    pub fn pairs(rows: Vec<(String, String)>) -> Self {
        Self {
            head: Vec::new(),
            rows: rows.into_iter().map(|(a, b)| vec![a, b]).collect(),
            words: true,
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// As lines of plain text, columns below each other.
    pub fn plain(&self) -> Vec<String> {
        let head = std::iter::once(&self.head).filter(|head| !head.is_empty());
        let rows: Vec<_> = head.chain(&self.rows).collect();
        let columns = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let length = |cell: &String| cell.chars().count();
        let width = |column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(length).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let line = |row: &&Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &w))| {
                if at == 0 || self.words {
                    format!("{cell:<w$}")
                } else {
                    format!("{cell:>w$}")
                }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            line.trim_end().to_owned()
        };
        rows.iter().map(line).collect()
    }
}
