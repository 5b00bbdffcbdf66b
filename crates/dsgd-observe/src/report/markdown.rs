//! A report as Markdown. Pictures stand in the HTML only.

use super::document::{Block, Table};

pub(super) fn markdown(title: &str, blocks: &[Block]) -> String {
    let blocks = blocks.iter().map(|block| match block {
        Block::Heading(text) => format!("## {}\n", escaped(text)),
        Block::Text(text) => format!("{}\n", escaped(text)),
        Block::List(lines) => listed(lines.iter().map(|line| escaped(line)), "- "),
        Block::Table(table) => rows(table),
        Block::Commands(lines) => listed(lines.iter().cloned(), "    "),
        Block::Picture(_, caption) => format!("({}: see report.html.)\n", escaped(caption)),
    });
    let parts: Vec<String> = std::iter::once(format!("# {}\n", escaped(title)))
        .chain(blocks)
        .collect();
    parts.join("\n")
}

/// Lines that begin alike.
fn listed(lines: impl Iterator<Item = String>, start: &str) -> String {
    lines
        .flat_map(|line| [start.to_owned(), line, "\n".to_owned()])
        .collect()
}

fn rows(table: &Table) -> String {
    let columns = table.rows.first().map_or(table.head.len(), Vec::len);
    let side = |at| {
        if at == 0 || table.words {
            "---"
        } else {
            "---:"
        }
    };
    let head = if table.head.is_empty() {
        vec![String::new(); columns]
    } else {
        table.head.clone()
    };
    let rule: Vec<String> = (0..columns).map(|at| side(at).to_owned()).collect();
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rows = table.rows.iter().map(|row| line(row));
    line(&head) + &line(&rule) + &rows.collect::<String>()
}

/// Names come from strangers: nothing in them is to be markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => out.extend(['\\', c]),
            '<' => out += "&lt;",
            '\n' | '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}
