//! Text made fit to be shown. That of strangers: what a worker or a host says of itself reaches terminals,
//! logs and JSON by way of [`line()`] or [`name`], and can command none of them.
//!
//! It leaves out what letters alone can pretend: a name may still look like another.

use std::path::Path;

/// What a worker is called whose own name has nothing to show.
const NAMELESS: &str = "unnamed";

/// One line without what terminals obey: escape sequences go whole (ECMA-48), a break or a tab becomes a
/// space, all other control characters and those that turn the direction of writing go.
pub fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_sequence(&mut chars),
            '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' => shown.push(' '),
            c if c.is_control() || turns_direction(c) => {}
            c => shown.push(c),
        }
    }
    shown.truncate(shown.trim_end().len());
    shown
}

/// A name: a [`line()`] that is never empty.
pub fn name(text: &str) -> String {
    match line(text).trim() {
        "" => NAMELESS.to_owned(),
        name => name.to_owned(),
    }
}

/// A path as one word of a shell's command line.
pub fn shell_word(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if path.chars().all(plain) && !path.is_empty() {
        return path.into_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// An error with what caused it, each said once: many an error has its cause in its own words already.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        next = cause.source();
    }
    words
}

/// What follows an escape character: to the final byte, or to the end of a string such as a title.
fn skip_sequence(chars: &mut std::str::Chars<'_>) {
    match chars.next() {
        Some('[') => {
            chars.find(|c| ('@'..='~').contains(c));
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let mut before = ' ';
            for c in chars.by_ref() {
                if c == '\x07' || c == '\u{9c}' || (before == '\x1b' && c == '\\') {
                    return;
                }
                before = c;
            }
        }
        Some(' '..='/') => {
            chars.find(|c| ('0'..='~').contains(c));
        }
        _ => {}
    }
}

/// Marks that let a text be read otherwise than it is written (Unicode UAX 9).
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        for (said, shown) in [
            ("plain ü 漢", "plain ü 漢"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]52;c;ZXZpbA==\x1b\\after", "after"),
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("\x1bPdevice\x1b\\x", "x"),
            ("\x1b(Bx", "x"),
            ("\x1bcx", "x"),
            ("\u{9b}31mx", "31mx"),
            ("a\nb\r\n\tc", "a b   c"),
            ("a\u{2028}b", "a b"),
            ("x\x08\x08\x00\x7fy", "xy"),
            ("safe\u{202e}txt", "safetxt"),
            ("  in \x1b]0;no end", "  in"),
            ("\x1b", ""),
        ] {
            assert_eq!(line(said), shown, "{said:?}");
            assert!(!line(said).contains(char::is_control), "{said:?}");
        }
    }

    #[test]
    fn each_cause_is_reported_once() {
        use std::io::Error;
        #[derive(Debug, thiserror::Error)]
        enum Outer {
            #[error("cannot open a: {0}")]
            Says(#[source] Error),
            #[error("cannot open a")]
            Leaves(#[source] Error),
        }
        let inner = || Error::other("no such file");
        for outer in [Outer::Says(inner()), Outer::Leaves(inner())] {
            assert_eq!(causes(&outer), "cannot open a: no such file");
            let twice = anyhow::Error::new(outer).context("task x");
            assert_eq!(causes(&*twice), "task x: cannot open a: no such file");
        }
    }

    #[test]
    fn a_name_is_never_empty() {
        assert_eq!(name("\x1b]0;title\x07"), NAMELESS);
        assert_eq!(name(" h1/0\n"), "h1/0");
    }
}
