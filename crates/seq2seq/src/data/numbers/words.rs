//! The words of numbers in English and French, for 0 ..= 999,999.

use crate::data::Vocabulary;

/// Numbers there are: 0 ..= 999,999.
pub const NUMBERS: u32 = 1_000_000;

const ENGLISH_UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const ENGLISH_TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
const FRENCH_UNITS: [&str; 17] = [
    "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze",
    "douze", "treize", "quatorze", "quinze", "seize",
];
const FRENCH_TENS: [&str; 5] = ["vingt", "trente", "quarante", "cinquante", "soixante"];

/// English words of a number below [`NUMBERS`]; of a larger one, those of its last six digits.
pub fn english(number: u32) -> Vec<&'static str> {
    let (thousands, rest) = (number % NUMBERS / 1000, number % 1000);
    let mut words = Vec::new();
    if thousands > 0 {
        english_hundreds(thousands, &mut words);
        words.push("thousand");
    }
    if thousands > 0 && (1..100).contains(&rest) {
        words.push("and");
    }
    if rest > 0 || thousands == 0 {
        english_hundreds(rest, &mut words);
    }
    words
}

fn english_hundreds(number: u32, words: &mut Vec<&'static str>) {
    let (hundreds, rest) = (number / 100, number % 100);
    if hundreds > 0 {
        words.extend([ENGLISH_UNITS[hundreds as usize], "hundred"]);
        if rest == 0 {
            return;
        }
        words.push("and");
    }
    match (rest / 10, rest % 10) {
        (0 | 1, _) => words.push(ENGLISH_UNITS[rest as usize]),
        (tens, 0) => words.push(ENGLISH_TENS[tens as usize - 2]),
        (tens, unit) => words.extend([
            ENGLISH_TENS[tens as usize - 2],
            ENGLISH_UNITS[unit as usize],
        ]),
    }
}

/// French words of a number below [`NUMBERS`], without hyphens; of a larger one, those of its
/// last six digits.
pub fn french(number: u32) -> Vec<&'static str> {
    let (thousands, rest) = (number % NUMBERS / 1000, number % 1000);
    let mut words = Vec::new();
    if thousands > 0 {
        // "mille" alone, never "un mille"; and before it cent and vingt have no plural.
        if thousands > 1 {
            french_hundreds(thousands, false, &mut words);
        }
        words.push("mille");
    }
    if rest > 0 || thousands == 0 {
        french_hundreds(rest, true, &mut words);
    }
    words
}

/// `last`: nothing follows, so that a final cent or vingt takes its plural.
fn french_hundreds(number: u32, last: bool, words: &mut Vec<&'static str>) {
    let (hundreds, rest) = (number / 100, number % 100);
    if hundreds > 1 {
        words.push(FRENCH_UNITS[hundreds as usize]);
    }
    if hundreds > 0 {
        words.push(if hundreds > 1 && rest == 0 && last {
            "cents"
        } else {
            "cent"
        });
        if rest == 0 {
            return;
        }
    }
    match (rest / 10, rest % 10) {
        (0, _) | (1, 0..=6) => words.push(FRENCH_UNITS[rest as usize]),
        (1, unit) => words.extend(["dix", FRENCH_UNITS[unit as usize]]),
        (8, 0) => words.extend(["quatre", if last { "vingts" } else { "vingt" }]),
        (8, unit) => words.extend(["quatre", "vingt", FRENCH_UNITS[unit as usize]]),
        (9, _) => {
            words.extend(["quatre", "vingt"]);
            french_hundreds(rest - 80, last, words);
        }
        (7, unit) => {
            words.push("soixante");
            words.extend((unit == 1).then_some("et"));
            french_hundreds(rest - 60, last, words);
        }
        (tens, unit) => {
            words.push(FRENCH_TENS[tens as usize - 2]);
            words.extend((unit == 1).then_some("et"));
            words.extend((unit > 0).then(|| FRENCH_UNITS[unit as usize]));
        }
    }
}

/// French number words as they are written: with hyphens inside what is below a hundred, except
/// around "et". Words that are no number, such as a half-trained model says, are joined as well
/// as they can be.
pub fn join_french(words: &[&str]) -> String {
    let mut text = String::new();
    for (at, &word) in words.iter().enumerate() {
        if let Some(before) = at.checked_sub(1).and_then(|before| words.get(before)) {
            text.push(if hyphenated(before, word) { '-' } else { ' ' });
        }
        text.push_str(word);
    }
    text
}

fn hyphenated(before: &str, word: &str) -> bool {
    let below_seventeen = FRENCH_UNITS[1..].contains(&word);
    match before {
        "quatre" => word == "vingt" || word == "vingts",
        "dix" => ["sept", "huit", "neuf"].contains(&word),
        _ => FRENCH_TENS.contains(&before) && below_seventeen,
    }
}

/// A question as somebody types it, in the words of the corpus: lower case, hyphens and commas gone.
pub fn english_words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| c.is_whitespace() || c == '-' || c == ',')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The complete English and French vocabularies.
pub fn vocabularies() -> (Vocabulary, Vocabulary) {
    let english = ENGLISH_UNITS
        .into_iter()
        .chain(ENGLISH_TENS)
        .chain(["hundred", "thousand", "and"]);
    let french = FRENCH_UNITS.into_iter().chain(FRENCH_TENS);
    let french = french.chain(["et", "cent", "cents", "mille", "vingts"]);
    (
        Vocabulary::from_words(english),
        Vocabulary::from_words(french),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// From grammars of both languages, not from the code above.
    #[test]
    fn known_values() {
        for (number, en, fr) in [
            (0, "zero", "zéro"),
            (1, "one", "un"),
            (10, "ten", "dix"),
            (16, "sixteen", "seize"),
            (17, "seventeen", "dix-sept"),
            (19, "nineteen", "dix-neuf"),
            (20, "twenty", "vingt"),
            (21, "twenty one", "vingt et un"),
            (22, "twenty two", "vingt-deux"),
            (31, "thirty one", "trente et un"),
            (61, "sixty one", "soixante et un"),
            (69, "sixty nine", "soixante-neuf"),
            (70, "seventy", "soixante-dix"),
            (71, "seventy one", "soixante et onze"),
            (72, "seventy two", "soixante-douze"),
            (77, "seventy seven", "soixante-dix-sept"),
            (80, "eighty", "quatre-vingts"),
            (81, "eighty one", "quatre-vingt-un"),
            (90, "ninety", "quatre-vingt-dix"),
            (91, "ninety one", "quatre-vingt-onze"),
            (97, "ninety seven", "quatre-vingt-dix-sept"),
            (99, "ninety nine", "quatre-vingt-dix-neuf"),
            (100, "one hundred", "cent"),
            (101, "one hundred and one", "cent un"),
            (120, "one hundred and twenty", "cent vingt"),
            (180, "one hundred and eighty", "cent quatre-vingts"),
            (200, "two hundred", "deux cents"),
            (201, "two hundred and one", "deux cent un"),
            (280, "two hundred and eighty", "deux cent quatre-vingts"),
            (312, "three hundred and twelve", "trois cent douze"),
            (400, "four hundred", "quatre cents"),
            (420, "four hundred and twenty", "quatre cent vingt"),
            (1000, "one thousand", "mille"),
            (1001, "one thousand and one", "mille un"),
            (1080, "one thousand and eighty", "mille quatre-vingts"),
            (1100, "one thousand one hundred", "mille cent"),
            (1200, "one thousand two hundred", "mille deux cents"),
            (2000, "two thousand", "deux mille"),
            (4020, "four thousand and twenty", "quatre mille vingt"),
            (21_000, "twenty one thousand", "vingt et un mille"),
            (
                24_004,
                "twenty four thousand and four",
                "vingt-quatre mille quatre",
            ),
            (
                71_071,
                "seventy one thousand and seventy one",
                "soixante et onze mille soixante et onze",
            ),
            (80_000, "eighty thousand", "quatre-vingt mille"),
            (100_000, "one hundred thousand", "cent mille"),
            (200_000, "two hundred thousand", "deux cent mille"),
            (
                280_080,
                "two hundred and eighty thousand and eighty",
                "deux cent quatre-vingt mille quatre-vingts",
            ),
            (
                407_012,
                "four hundred and seven thousand and twelve",
                "quatre cent sept mille douze",
            ),
            (
                999_999,
                "nine hundred and ninety nine thousand nine hundred and ninety nine",
                "neuf cent quatre-vingt-dix-neuf mille neuf cent quatre-vingt-dix-neuf",
            ),
        ] {
            assert_eq!(english(number).join(" "), en);
            assert_eq!(join_french(&french(number)), fr, "{number}");
        }
    }

    #[test]
    fn the_vocabularies_are_exactly_the_words_of_all_numbers() {
        let (source, target) = vocabularies();
        assert_eq!((source.len(), target.len()), (35, 31));
        let (mut en, mut fr, mut all) = (HashSet::new(), HashSet::new(), HashSet::new());
        for number in 0..NUMBERS {
            en.extend(english(number));
            fr.extend(french(number));
            assert!(
                all.insert(join_french(&french(number))),
                "{number} is ambiguous"
            );
        }
        assert_eq!(en, source.words().skip(4).collect());
        assert_eq!(fr, target.words().skip(4).collect());
    }

    #[test]
    fn nonsense_is_joined_too() {
        assert_eq!(
            join_french(&["mille", "et", "<unk>", "vingt", "vingts"]),
            "mille et <unk> vingt vingts"
        );
        assert_eq!(join_french(&[]), "");
        assert_eq!(
            english_words(" Twenty-One,  thousand"),
            ["twenty", "one", "thousand"]
        );
    }
}
