//! Runs, read from wherever they were written down.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::lua_lua;
use super::source::{Curve, Source};
use crate::past::{self, Past};
use dsgd_engine::Error;

/// A log of the ancestor that is longer is something else.
const LONGEST_LOG: u64 = 256 << 20;

impl Source {
    /// Reads a run's folder or a log of lua-lua.
    ///
    /// # Errors
    /// When it is neither, or tells of no step.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let label = past::name(path);
        if path.is_dir() {
            let past = Past::read(path)?;
            let source = Self::of_board(label, &past.board);
            if source.curves.iter().all(Curve::is_empty) {
                return Err(Error::Options(format!(
                    "{} has nothing to draw: no step of it has a finite metric ({})",
                    path.display(),
                    past.state
                )));
            }
            return Ok(source);
        }
        let text = read_text(path)?;
        let label = label.rsplit_once('.').map_or(&*label, |(stem, _)| stem);
        lua_lua::parse(label.to_owned(), &text).ok_or_else(|| {
            Error::Options(format!(
                "{} is no log of lua-lua: no line of it says Epoch: …, Batch: …/…, PPL: …; give such a \
                 log, or the folder of a run",
                path.display()
            ))
        })
    }
}

fn read_text(path: &Path) -> Result<String, Error> {
    let file = |source| Error::File {
        what: "cannot read",
        path: path.to_owned(),
        cause: source,
        hint: "give the folder of a run, or a log of lua-lua",
    };
    let size = fs::metadata(path).map_err(file)?.len();
    if size > LONGEST_LOG {
        return Err(Error::Options(format!(
            "{} is {size} bytes long, too long for a log of lua-lua",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(file)?;
    opened
        .take(LONGEST_LOG)
        .read_to_end(&mut bytes)
        .map_err(file)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
