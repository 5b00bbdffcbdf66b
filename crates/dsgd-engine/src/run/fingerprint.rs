//! What a run's steps were made from, kept in its checkpoints: whoever goes on goes on with the same.

use std::collections::BTreeMap;

/// By name: the seed, the numbers of batches, and each of the task's options, in which the digest of
/// a file of data stands for its path. Empty in checkpoints of earlier versions.
pub type Fingerprint = BTreeMap<String, String>;

/// How the value of an option begins that is a file of data.
pub const DIGEST: &str = "sha256:";

/// What differs, one difference a line. What only one side knows was not there yet, or is not any more.
pub fn differences(then: &Fingerprint, now: &Fingerprint) -> Vec<String> {
    let both = then
        .iter()
        .filter_map(|(name, then)| Some((name, then, now.get(name)?)));
    let differing = both.filter(|(_, then, now)| then != now);
    differing
        .map(|(name, then, now)| {
            if then.contains(DIGEST) && now.contains(DIGEST) {
                format!("{name}: the file has other contents")
            } else {
                format!("{name}: {then} then, {now} now")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_know_is_compared_and_named() {
        let fingerprint = |pairs: &[(&str, &str)]| -> Fingerprint {
            let pairs = pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            pairs.collect()
        };
        let then = fingerprint(&[("seed", "1"), ("--data", "sha256:a"), ("--old", "x")]);
        let now = fingerprint(&[("seed", "2"), ("--data", "sha256:b"), ("--new", "y")]);
        let words = ["--data: the file has other contents", "seed: 1 then, 2 now"];
        assert_eq!(differences(&then, &now), words);
        assert!(differences(&then, &then).is_empty());
        assert!(differences(&Fingerprint::new(), &now).is_empty());
    }
}
