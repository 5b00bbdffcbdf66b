//! The page itself: one document with everything in it, and nothing from anywhere else.

/// The document, with places for what is below.
const DOCUMENT: &str = include_str!("../../assets/page/page.html");

const STYLE: &str = concat!(
    include_str!("../../assets/uplot/uPlot.min.css"),
    include_str!("../../assets/page/page.css"),
    include_str!("../../assets/page/parts.css"),
);

/// Our scripts are pieces of one, in this order.
const SCRIPT: &str = concat!(
    include_str!("../../assets/page/words.js"),
    include_str!("../../assets/page/state.js"),
    include_str!("../../assets/page/metrics.js"),
    include_str!("../../assets/page/header.js"),
    include_str!("../../assets/page/curves.js"),
    include_str!("../../assets/page/workers.js"),
    include_str!("../../assets/page/timeline.js"),
    include_str!("../../assets/page/runs.js"),
    include_str!("../../assets/page/main.js"),
);

const UPLOT: &str = include_str!("../../assets/uplot/uPlot.iife.min.js");

/// The document, its scripts and styles marked with a number that is good once: the browser runs no others.
pub(super) fn document(nonce: &str) -> String {
    DOCUMENT
        .replace("{{nonce}}", nonce)
        .replace("/*{{style}}*/", STYLE)
        .replace("/*{{uplot}}*/", UPLOT)
        .replace("/*{{script}}*/", SCRIPT)
}

/// What a document with that nonce may do.
pub(super) fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
