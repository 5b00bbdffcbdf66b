//! What is seen of a run afterwards: pictures, reports, tables, other programs' files.

mod long;
mod plots;
mod report;
mod tensorboard;

use std::fs;
use std::path::Path;

/// A file's text.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
