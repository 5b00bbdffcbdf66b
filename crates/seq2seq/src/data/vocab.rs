//! Vocabularies: words and their 1-based indices, and the dictionaries they are kept in.
//!
//! A dictionary is text, `word index` a line, plain or gzip. The first four indices are always
//! `<blank>`, `<unk>`, `<s>` and `</s>`. A vocabulary that is made here gives the other indices
//! to the most frequent words first and, among equally frequent ones, to the one seen first; one
//! that is read may have them in any order.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::DataError;
use super::lines::Lines;
use crate::batch::{BOS, EOS, PAD, UNK};

/// The special tokens, in the order of their indices.
pub const SPECIAL: [&str; 4] = ["<blank>", "<unk>", "<s>", "</s>"];

/// Words with indices 1 ..= [`len`](Vocabulary::len).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    words: Vec<Arc<str>>,
    indices: HashMap<Arc<str>, u32>,
}

impl Vocabulary {
    /// The special tokens, then these words in this order. A word that comes again is left out.
    pub fn from_words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut all = Self {
            words: Vec::new(),
            indices: HashMap::new(),
        };
        for word in SPECIAL {
            all.add(word);
        }
        for word in words {
            all.add(word.as_ref());
        }
        all
    }

    fn add(&mut self, word: &str) {
        if !self.indices.contains_key(word) {
            let word: Arc<str> = word.into();
            self.words.push(Arc::clone(&word));
            self.indices.insert(word, self.words.len() as u32);
        }
    }

    /// Number of words, special tokens included.
    #[expect(
        clippy::len_without_is_empty,
        reason = "it always holds the special tokens"
    )]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// The index of a word, if it has one.
    pub fn index(&self, word: &str) -> Option<u32> {
        self.indices.get(word).copied()
    }

    /// The word of an index, if there is one.
    pub fn word(&self, index: u32) -> Option<&str> {
        let at = usize::try_from(index).ok()?.checked_sub(1)?;
        self.words.get(at).map(|word| &**word)
    }

    /// All words, from index 1 on.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|word| &**word)
    }

    /// The index of a word of a text; a word that is unknown, or looks like a special token, is `<unk>`.
    pub fn index_of_text(&self, word: &str) -> u32 {
        self.index(word).filter(|&index| index > EOS).unwrap_or(UNK)
    }

    /// A sentence as a row of a dataset: `<s> w1 … wn </s>`.
    pub fn encode<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Vec<u32> {
        let words = words.into_iter().map(|word| self.index_of_text(word));
        std::iter::once(BOS)
            .chain(words)
            .chain(std::iter::once(EOS))
            .collect()
    }

    /// The words of a row, without padding and sentence marks; an index without a word is `<unk>`.
    pub fn decode(&self, row: &[u32]) -> Vec<&str> {
        row.iter()
            .filter(|index| ![PAD, BOS, EOS].contains(index))
            .map(|&index| self.word(index).unwrap_or(SPECIAL[1]))
            .collect()
    }

    /// Reads a dictionary, plain or gzip.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        Self::from_lines(Lines::open(path)?)
    }

    /// Reads a dictionary from text, such as a checkpoint carries; `name` stands for the file in errors.
    pub fn parse(text: &str, name: &Path) -> Result<Self, DataError> {
        Self::from_lines(Lines::from_reader(
            io::Cursor::new(text.to_owned().into_bytes()),
            name,
        )?)
    }

    /// Writes the dictionary, one `word index` a line, in the order of the indices.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.words
            .iter()
            .zip(1..)
            .try_for_each(|(word, index)| writeln!(out, "{word} {index}"))
    }

    /// The dictionary as text.
    pub fn to_text(&self) -> String {
        let line = |(word, index): (&Arc<str>, u32)| [word, " ", &index.to_string(), "\n"].concat();
        self.words.iter().zip(1..).map(line).collect()
    }

    fn from_lines(mut lines: Lines) -> Result<Self, DataError> {
        let mut entries: Vec<(Arc<str>, u32)> = Vec::new();
        let mut indices = HashMap::new();
        while let Some(line) = lines.next_line()? {
            let (word, index) = parse_line(line).map_err(|problem| lines.dictionary(problem))?;
            if indices.insert(Arc::clone(&word), index).is_some() {
                return Err(lines.dictionary(format!("the word `{word}` is there a second time")));
            }
            entries.push((word, index));
        }
        let mut words: Vec<Option<Arc<str>>> = vec![None; entries.len()];
        for (number, (word, index)) in entries.into_iter().enumerate() {
            let found = words.get_mut(index as usize - 1);
            let problem = match (found, SPECIAL.get(index as usize - 1)) {
                (_, Some(&special)) if *word != *special => {
                    format!("index {index} must be `{special}`, not `{word}`")
                }
                (None, _) => format!(
                    "index {index} of `{word}` is above the number of words, {}",
                    indices.len()
                ),
                (Some(Some(other)), _) => {
                    format!("`{word}` and `{other}` have the same index {index}")
                }
                (Some(free), _) => {
                    *free = Some(word);
                    continue;
                }
            };
            return Err(lines.dictionary_at(number as u64 + 1, problem));
        }
        // As many words as places, none above and no place taken twice: all are taken.
        let words: Vec<Arc<str>> = words.into_iter().flatten().collect();
        if words.len() < SPECIAL.len() {
            return Err(lines.dictionary(format!(
                "ends after {} words; the first four must be {}",
                words.len(),
                SPECIAL.join(" ")
            )));
        }
        Ok(Self { words, indices })
    }
}

/// `word index`, with any white space around the two.
fn parse_line(line: &str) -> Result<(Arc<str>, u32), String> {
    let mut fields = line.split_ascii_whitespace();
    let (Some(word), Some(index), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err("a line must be `word index`".to_owned());
    };
    match index.parse() {
        Ok(index) if index > 0 => Ok((word.into(), index)),
        _ => Err(format!("`{index}` is not an index (1 or more)")),
    }
}

/// Counts words, and gives them provisional numbers (from 0, in order of first appearance).
#[derive(Clone, Debug, Default)]
pub struct Counter {
    numbers: HashMap<Arc<str>, u32>,
    words: Vec<(Arc<str>, u64)>,
}

impl Counter {
    /// Counts a word and returns its provisional number.
    pub fn add(&mut self, word: &str) -> u32 {
        if let Some(&number) = self.numbers.get(word) {
            self.words[number as usize].1 += 1;
            return number;
        }
        let (word, number): (Arc<str>, _) = (word.into(), self.words.len() as u32);
        self.words.push((Arc::clone(&word), 1));
        self.numbers.insert(word, number);
        number
    }

    /// The vocabulary of the `limit` most frequent words, special tokens not counted.
    pub fn vocabulary(&self, limit: usize) -> Vocabulary {
        let mut order: Vec<&(Arc<str>, u64)> = self
            .words
            .iter()
            .filter(|(word, _)| !SPECIAL.contains(&&**word))
            .collect();
        order.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Vocabulary::from_words(order.into_iter().take(limit).map(|(word, _)| word))
    }

    /// The index of each provisional number in a vocabulary.
    pub fn indices(&self, vocabulary: &Vocabulary) -> Vec<u32> {
        self.words
            .iter()
            .map(|(word, _)| vocabulary.index_of_text(word))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vocabulary, DataError> {
        Vocabulary::parse(text, Path::new("x.dict"))
    }

    #[test]
    fn frequent_words_first_then_the_one_seen_first() {
        let mut counter = Counter::default();
        let numbers: Vec<u32> = "b a c a <unk> d"
            .split(' ')
            .map(|word| counter.add(word))
            .collect();
        assert_eq!(numbers, [0, 1, 2, 1, 3, 4]);
        let vocabulary = counter.vocabulary(3);
        assert_eq!(
            vocabulary.words().skip(4).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert_eq!(counter.indices(&vocabulary), [6, 5, 7, UNK, UNK]);
    }

    #[test]
    fn a_dictionary_is_read_as_written() {
        let vocabulary = Vocabulary::from_words(["one", "zéro", "one"]);
        assert_eq!(
            vocabulary.to_text(),
            "<blank> 1\n<unk> 2\n<s> 3\n</s> 4\none 5\nzéro 6\n"
        );
        assert_eq!(parse(&vocabulary.to_text()).unwrap(), vocabulary);
        let row = vocabulary.encode(["zéro", "two", "<s>"]);
        assert_eq!(row, [3, 6, 2, 2, 4]);
        assert_eq!(vocabulary.decode(&row), ["zéro", "<unk>", "<unk>"]);
    }

    #[test]
    fn any_order_will_do() {
        let read = parse("a 6\n</s> 4\nb 5\n<s> 3\n<blank> 1\n<unk> 2\n").unwrap();
        assert_eq!(read, Vocabulary::from_words(["b", "a"]));
    }

    #[test]
    fn malformed_dictionaries_are_named_with_their_line() {
        let head = "<blank> 1\n<unk> 2\n<s> 3\n</s> 4\n";
        for (line, text, says) in [
            (5, "a", "word index"),
            (5, "a b 5", "word index"),
            (5, "a five", "not an index"),
            (5, "a 0", "not an index"),
            (5, "a 99999999999", "not an index"),
            (5, "a 6", "above the number of words"),
            (6, "a 5\na 6", "second time"),
            (6, "a 5\nb 5", "same index"),
            (6, "a 5\nb 2", "must be `<unk>`"),
            (5, "", "word index"),
        ] {
            let error = parse(&format!("{head}{text}\n")).unwrap_err().to_string();
            assert!(
                error.contains(&format!("x.dict, line {line}")),
                "{text}: {error}"
            );
            assert!(error.contains(says), "{text}: {error}");
        }
        for short in ["", "<blank> 1\n"] {
            assert!(parse(short).unwrap_err().to_string().contains("first four"));
        }
    }
}
