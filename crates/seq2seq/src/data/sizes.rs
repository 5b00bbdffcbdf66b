//! How much there is of a vocabulary, and of a text.

use std::fmt;

/// Vocabulary sizes, the four special tokens included: indices are 1 ..= size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the source language.
    pub source: u32,
    /// Of the target language.
    pub target: u32,
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} source and {} target words", self.source, self.target)
    }
}

/// How many pairs of a text were kept, and why the others were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Pairs read.
    pub read: u64,
    /// Pairs kept.
    pub kept: u64,
    /// Pairs with a side without words.
    pub empty: u64,
    /// Pairs with a side of more than `max_words` words.
    pub too_long: u64,
    /// Pairs with too many unknown words.
    pub too_unknown: u64,
    /// Lines without words after the end of the other file.
    pub unpaired: u64,
    /// The limit on words.
    pub max_words: usize,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pairs kept", self.kept, self.read)?;
        let max = self.max_words;
        for (dropped, why) in [
            (self.too_long, format!("with more than {max} words")),
            (self.empty, "with an empty side".to_owned()),
            (self.too_unknown, "with too many unknown words".to_owned()),
        ] {
            if dropped > 0 {
                write!(f, ", {dropped} dropped {why}")?;
            }
        }
        match self.unpaired {
            0 => Ok(()),
            1 => write!(f, ", 1 empty line dropped without a pair"),
            lines => write!(f, ", {lines} empty lines dropped without a pair"),
        }
    }
}
