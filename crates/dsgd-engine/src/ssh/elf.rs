//! What a program needs of the machine that it runs on, read from its ELF file.
//!
//! Only what decides that: the machine, and the newest version of glibc among the versions that it
//! names (section `.gnu.version_r`; see the Linux Standard Base, "Symbol Versioning"). Every offset
//! comes from the file and is checked; a file without that section needs no version.

use std::fs;
use std::path::Path;

use super::SshError;

/// Programs are read whole; larger ones are no programs.
const MOST_BYTES: u64 = 1 << 30;
/// Entries of one table; the linker makes a few dozen.
const MOST_ENTRIES: usize = 4096;

const SECTION_VERSION_NEEDS: u32 = 0x6fff_fffe;
const SEGMENT_INTERPRETER: u32 = 3;

/// What a program needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Machine, as `uname -m` says it.
    pub machine: String,
    /// The newest glibc it asks for, as in `(2, 34)`.
    pub glibc: Option<(u32, u32)>,
    /// Whether it is loaded by musl's loader.
    pub musl: bool,
}

impl Needs {
    /// Reads them from a file.
    pub fn of(path: &Path) -> Result<Self, SshError> {
        let cannot = |source| SshError::local("cannot read", path, source);
        let length = fs::metadata(path).map_err(cannot)?.len();
        let no_program = |reason| SshError::NotElf {
            file: path.display().to_string(),
            reason,
        };
        if length > MOST_BYTES {
            return Err(no_program("it is too long"));
        }
        let bytes = fs::read(path).map_err(cannot)?;
        parse(&bytes).map_err(no_program)
    }
}

/// Offsets within the headers differ between 32 and 64 bits; so do the sizes of addresses.
struct File<'a> {
    bytes: &'a [u8],
    wide: bool,
}

impl<'a> File<'a> {
    fn slice(&self, at: u64, length: u64) -> Result<&'a [u8], &'static str> {
        let end = at.checked_add(length).ok_or("an offset is too large")?;
        let range = usize::try_from(at).ok().zip(usize::try_from(end).ok());
        range
            .and_then(|(at, end)| self.bytes.get(at..end))
            .ok_or("it is cut off")
    }

    fn u16(&self, at: u64) -> Result<u16, &'static str> {
        let bytes = self.slice(at, 2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&self, at: u64) -> Result<u32, &'static str> {
        let bytes = self.slice(at, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// An address or offset of the file's width.
    fn word(&self, at: u64) -> Result<u64, &'static str> {
        if self.wide {
            let (low, high) = (self.u32(at)?, self.u32(at + 4)?);
            Ok(u64::from(high) << 32 | u64::from(low))
        } else {
            self.u32(at).map(u64::from)
        }
    }

    /// The text at an offset within a table of strings.
    fn text(&self, table: Section, at: u32) -> Result<&'a str, &'static str> {
        let table = self.slice(table.offset, table.length)?;
        let text = table.get(at as usize..).ok_or("a name is outside")?;
        let end = text.iter().position(|b| *b == 0).ok_or("a name is open")?;
        std::str::from_utf8(&text[..end]).map_err(|_| "a name is no text")
    }
}

#[derive(Clone, Copy)]
struct Section {
    kind: u32,
    offset: u64,
    length: u64,
    link: u32,
}

fn parse(bytes: &[u8]) -> Result<Needs, &'static str> {
    if bytes.get(..4) != Some(b"\x7fELF") {
        return Err("it is not an ELF file");
    }
    let wide = match bytes.get(4) {
        Some(1) => false,
        Some(2) => true,
        _ => return Err("its class is unknown"),
    };
    if bytes.get(5) != Some(&1) {
        return Err("it is not little-endian");
    }
    let file = File { bytes, wide };
    if !matches!(file.u16(16)?, 2 | 3) {
        return Err("it cannot be run");
    }
    Ok(Needs {
        machine: machine(file.u16(18)?, wide),
        glibc: glibc(&file)?,
        musl: interpreter(&file)?.contains("ld-musl"),
    })
}

/// As `uname -m` calls it.
fn machine(number: u16, wide: bool) -> String {
    let name = match (number, wide) {
        (3, _) => "i686",
        (40, _) => "armv7l",
        (62, _) => "x86_64",
        (183, _) => "aarch64",
        (243, true) => "riscv64",
        (258, _) => "loongarch64",
        (21, _) => "ppc64le",
        _ => return format!("machine {number}"),
    };
    name.to_owned()
}

/// The path of the program's loader; empty for one that is linked statically.
fn interpreter(file: &File<'_>) -> Result<String, &'static str> {
    let (table, size, count) = if file.wide {
        (file.word(32)?, file.u16(54)?, file.u16(56)?)
    } else {
        (file.word(28)?, file.u16(42)?, file.u16(44)?)
    };
    for number in 0..u64::from(count) {
        let at = table
            .checked_add(number * u64::from(size))
            .ok_or("an offset is too large")?;
        if file.u32(at)? != SEGMENT_INTERPRETER {
            continue;
        }
        let (offset, length) = if file.wide { (8, 32) } else { (4, 16) };
        let path = file.slice(file.word(at + offset)?, file.word(at + length)?)?;
        return Ok(String::from_utf8_lossy(path).into_owned());
    }
    Ok(String::new())
}

fn section(file: &File<'_>, number: u64) -> Result<Section, &'static str> {
    let (table, size) = if file.wide {
        (file.word(40)?, file.u16(58)?)
    } else {
        (file.word(32)?, file.u16(46)?)
    };
    let at = table
        .checked_add(number * u64::from(size))
        .ok_or("an offset is too large")?;
    let (offset, length, link) = if file.wide {
        (24, 32, 40)
    } else {
        (16, 20, 24)
    };
    Ok(Section {
        kind: file.u32(at + 4)?,
        offset: file.word(at + offset)?,
        length: file.word(at + length)?,
        link: file.u32(at + link)?,
    })
}

/// The newest `GLIBC_a.b` that the program names.
fn glibc(file: &File<'_>) -> Result<Option<(u32, u32)>, &'static str> {
    let count = file.u16(if file.wide { 60 } else { 48 })?;
    let mut newest = None;
    for number in 0..u64::from(count) {
        let needs = section(file, number)?;
        if needs.kind != SECTION_VERSION_NEEDS {
            continue;
        }
        let names = section(file, u64::from(needs.link))?;
        let mut library = needs.offset;
        for _ in 0..MOST_ENTRIES {
            let entries = file.u16(library + 2)?;
            let mut entry = library + u64::from(file.u32(library + 8)?);
            for _ in 0..entries {
                let name = file.text(names, file.u32(entry + 8)?)?;
                newest = newest.max(version(name));
                let next = u64::from(file.u32(entry + 12)?);
                entry = entry.checked_add(next).ok_or("an offset is too large")?;
            }
            match file.u32(library + 12)? {
                0 => break,
                next => library += u64::from(next),
            }
        }
    }
    Ok(newest)
}

fn version(name: &str) -> Option<(u32, u32)> {
    let (major, rest) = name.strip_prefix("GLIBC_")?.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_this_machine() {
        let needs = Needs::of(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(needs.machine, std::env::consts::ARCH);
        if cfg!(target_env = "gnu") {
            assert!(needs.glibc.is_some_and(|v| ((2, 2)..(3, 0)).contains(&v)));
        }
    }

    #[test]
    fn wherever_it_is_cut_or_wrong_it_is_an_error_and_no_panic() {
        let bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        for end in (0..64).chain([100, 1000]) {
            assert!(parse(&bytes[..end]).is_err(), "{end}");
        }
        let mut head = bytes;
        for at in 4..64 {
            let right = head[at];
            for wrong in [0, 1, 0x7f, 0xff] {
                head[at] = wrong;
                let _ = parse(&head);
            }
            head[at] = right;
        }
        assert_eq!(parse(b"#!/bin/sh"), Err("it is not an ELF file"));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("GLIBC_2.4") < version("GLIBC_2.17"));
        assert_eq!(version("GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(version("GLIBC_PRIVATE"), None);
        assert_eq!(version("GCC_3.0"), None);
    }
}
