//! A report as one HTML file: nothing of it lies elsewhere, and it follows the reader's light or dark.

use super::document::{Block, Table};

/// The pictures' own colours are taken over by their values, so that they follow, too.
const STYLE: &str = r##"
:root { color-scheme: light dark; --ink: #22262a; --soft: #5a6168; --line: #e2e5e8; --paper: #fff; --code: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #a3abb3; --line: #3a4046; --paper: #16191c; --code: #22272c; }
  svg [fill="#000000"] { fill: #fff; } svg [stroke="#000000"] { stroke: #fff; }
  svg [fill="#0072B2"] { fill: #4aa3df; } svg [stroke="#0072B2"] { stroke: #4aa3df; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p, li { max-width: 48rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child, .words td { text-align: left; }
.words td:first-child { color: var(--soft); } .words td { white-space: normal; overflow-wrap: anywhere; }
pre { background: var(--code); padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; }
svg { width: 100%; height: auto; } figure { margin: 1rem 0; } figcaption { color: var(--soft); }
svg [fill="#FFFFFF"] { fill: var(--paper); } svg [fill="#22262A"] { fill: var(--ink); }
svg [fill="#5A6168"] { fill: var(--soft); } svg [stroke="#5A6168"] { stroke: var(--soft); }
svg [stroke="#22262A"] { stroke: var(--ink); } svg [stroke="#E2E5E8"] { stroke: var(--line); }
"##;

pub(super) fn html(title: &str, blocks: &[Block]) -> String {
    let title = escaped(title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    for block in blocks {
        let text = match block {
            Block::Heading(text) => format!("<h2>{}</h2>\n", escaped(text)),
            Block::Text(text) => format!("<p>{}</p>\n", escaped(text)),
            Block::List(lines) => {
                let lines = lines
                    .iter()
                    .map(|line| format!("<li>{}</li>\n", escaped(line)));
                format!("<ul>\n{}</ul>\n", lines.collect::<String>())
            }
            Block::Table(table) => rows(table),
            Block::Commands(lines) => format!("<pre>{}</pre>\n", escaped(&lines.join("\n"))),
            Block::Picture(svg, caption) => {
                let caption = escaped(caption);
                format!("<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>\n")
            }
        };
        out.push_str(&text);
    }
    out + "</body>\n</html>\n"
}

fn rows(table: &Table) -> String {
    let line = |cells: &[String], cell: &str| {
        let cells = cells
            .iter()
            .map(|text| format!("<{cell}>{}</{cell}>", escaped(text)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let class = if table.words { " class=\"words\"" } else { "" };
    let head = if table.head.is_empty() {
        String::new()
    } else {
        line(&table.head, "th")
    };
    let rows = table.rows.iter().map(|row| line(row, "td"));
    let rows = rows.collect::<String>();
    format!("<div class=\"wide\"><table{class}>\n{head}{rows}</table></div>\n")
}

/// Names come from strangers: nothing in them is to be markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            _ => out.push(c),
        }
    }
    out
}
