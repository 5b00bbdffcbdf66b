//! Which examples make a batch: a permutation of each epoch's examples that needs no memory, so that hosts with
//! different libraries cannot disagree.

use std::collections::BTreeMap;
use std::ops::Range;

use dsgd_engine::worker::{GOLDEN, mix};

/// How the examples of a data set are dealt out to batches.
///
/// Where they have lengths, those of a batch have the same: nothing has to be padded. Which of them make a batch is
/// another choice in each epoch.
#[derive(Clone, Debug)]
pub(crate) struct Dealing {
    groups: Vec<Group>,
    /// The first batch of each group.
    firsts: Vec<usize>,
    batches: usize,
    batch_size: u64,
}

/// Examples of one length.
#[derive(Clone, Debug)]
enum Group {
    /// All that there are.
    All(u64),
    /// These.
    Some(Vec<u32>),
}

impl Dealing {
    /// Of so many examples, in batches of at most `batch_size`, which is at least 1.
    pub(crate) fn new(examples: u64, lengths: Option<&[u32]>, batch_size: u64) -> Self {
        let groups: Vec<Group> = match lengths {
            None => vec![Group::All(examples)],
            Some(lengths) => {
                let mut by_length = BTreeMap::<u32, Vec<u32>>::new();
                for (example, &length) in (0..).zip(lengths) {
                    by_length.entry(length).or_default().push(example);
                }
                by_length.into_values().map(Group::Some).collect()
            }
        };
        let mut batches = 0;
        let first = |group: &Group| {
            let first = batches;
            batches += group.len().div_ceil(batch_size) as usize;
            first
        };
        Self {
            firsts: groups.iter().map(first).collect(),
            groups,
            batches,
            batch_size,
        }
    }

    /// Number of batches.
    pub(crate) fn batches(&self) -> usize {
        self.batches
    }

    /// Examples of a batch.
    pub(crate) fn len(&self, batch: usize) -> usize {
        let (_, positions) = self.place(batch);
        (positions.end - positions.start) as usize
    }

    /// The numbers of a training batch's examples, those of `rows` alone.
    pub(crate) fn shuffled(
        &self,
        batch: usize,
        rows: Range<usize>,
        (seed, epoch): (u64, u32),
    ) -> Vec<u64> {
        let (number, positions) = self.place(batch);
        let key = mix(seed.wrapping_add(GOLDEN.wrapping_mul(u64::from(epoch))));
        let key = key.wrapping_add(GOLDEN.wrapping_mul(number as u64));
        let group = &self.groups[number];
        let positions = rows.map(|row| positions.start + row as u64);
        let examples = positions.map(|i| group.example(permuted(group.len(), key, i)));
        examples.collect()
    }

    /// The numbers of a validation batch's examples.
    pub(crate) fn in_order(&self, batch: usize) -> Vec<u64> {
        let (number, positions) = self.place(batch);
        positions.map(|i| self.groups[number].example(i)).collect()
    }

    /// Where a batch lies: in which group, and which of its positions.
    fn place(&self, batch: usize) -> (usize, Range<u64>) {
        assert!(batch < self.batches, "batch {batch} of {}", self.batches);
        let group = self.firsts.partition_point(|&first| first <= batch) - 1;
        let start = (batch - self.firsts[group]) as u64 * self.batch_size;
        let end = start.saturating_add(self.batch_size);
        (group, start..end.min(self.groups[group].len()))
    }
}

impl Group {
    fn len(&self) -> u64 {
        match self {
            Self::All(examples) => *examples,
            Self::Some(examples) => examples.len() as u64,
        }
    }

    fn example(&self, position: u64) -> u64 {
        match self {
            Self::All(_) => position,
            Self::Some(examples) => u64::from(examples[position as usize]),
        }
    }
}

/// Where `i` of `0..n` lies in the permutation of that key: a Feistel network of four rounds over the next power of
/// four, whose values beyond `n` go round again (cycle walking; Black and Rogaway 2002).
fn permuted(n: u64, key: u64, i: u64) -> u64 {
    debug_assert!(i < n);
    // Bits of a half.
    let half = (u64::BITS - (n - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut at = i;
    loop {
        let (mut left, mut right) = (at >> half, at & mask);
        for round in 0..4u64 {
            let mixed = mix(key ^ mix(right.wrapping_add(round.wrapping_mul(GOLDEN))));
            (left, right) = (right, left ^ (mixed & mask));
        }
        at = left << half | right;
        if at < n {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All examples of an epoch, batch by batch.
    fn epoch(dealing: &Dealing, seed: u64, epoch: u32) -> Vec<u64> {
        let batches = 0..dealing.batches();
        let batches = batches.map(|at| dealing.shuffled(at, 0..dealing.len(at), (seed, epoch)));
        batches.flatten().collect()
    }

    #[test]
    fn each_example_has_one_place_in_an_epoch() {
        for n in [1, 2, 3, 4, 5, 15, 16, 17, 64, 100, 1_000, 4_097] {
            let dealing = Dealing::new(n, None, 7);
            assert_eq!(dealing.batches() as u64, n.div_ceil(7));
            for at in 1..4 {
                let mut all = epoch(&dealing, 3435, at);
                all.sort_unstable();
                assert_eq!(all, (0..n).collect::<Vec<_>>(), "{n}");
            }
        }
        assert_eq!(Dealing::new(0, None, 7).batches(), 0);
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let dealing = Dealing::new(10_000, None, 64);
        let order = |seed, at| epoch(&dealing, seed, at);
        let agreeing = |a: &[u64], b: &[u64]| a.iter().zip(b).filter(|(a, b)| a == b).count();
        let (first, second, other) = (order(1, 1), order(1, 2), order(2, 1));
        // Of two random permutations one place agrees, on average.
        for (a, b) in [(&first, &second), (&first, &other), (&second, &other)] {
            assert!(agreeing(a, b) < 12);
        }
        assert_eq!(order(1, 1), first);
        let unmoved = (0..10_000).collect::<Vec<_>>();
        assert!(agreeing(&first, &unmoved) < 12);
    }

    #[test]
    fn neighbours_are_scattered() {
        let n = 10_000u64;
        let order = epoch(&Dealing::new(n, None, n), 7, 1);
        let mean = order.windows(2).map(|w| w[0].abs_diff(w[1])).sum::<u64>() / (n - 1);
        // Of random neighbours it is a third of n.
        assert!((3_000..3_700).contains(&mean), "{mean}");
    }

    #[test]
    fn the_order_is_the_same_for_good() {
        // Computed by the same definition in Python: a run that goes on has to meet the examples that are left.
        let order = epoch(&Dealing::new(10, None, 10), 3435, 1);
        assert_eq!(order, [7, 2, 1, 5, 4, 0, 6, 8, 9, 3]);
    }

    #[test]
    fn examples_of_a_batch_have_the_same_length() {
        let lengths: Vec<u32> = (0..100).map(|i| i * i % 7).collect();
        let dealing = Dealing::new(100, Some(&lengths), 16);
        let mut all = Vec::new();
        for batch in 0..dealing.batches() {
            let examples = dealing.shuffled(batch, 0..dealing.len(batch), (1, 1));
            assert!((1..=16).contains(&examples.len()));
            let first = lengths[examples[0] as usize];
            assert!(examples.iter().all(|&i| lengths[i as usize] == first));
            let mut ordered = dealing.in_order(batch);
            assert!(ordered.is_sorted());
            ordered.retain(|i| examples.contains(i));
            assert!(ordered.len() < examples.len() || examples.len() < 16);
            all.extend(examples);
        }
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        let (one, two) = (epoch(&dealing, 1, 1), epoch(&dealing, 1, 2));
        assert_ne!(one[..16], two[..16], "another choice in each epoch");
    }

    #[test]
    fn parts_of_a_batch_are_its_examples() {
        let dealing = Dealing::new(40, None, 16);
        let whole = dealing.shuffled(1, 0..16, (5, 2));
        let parts = [0..5, 5..16].map(|rows| dealing.shuffled(1, rows, (5, 2)));
        assert_eq!(parts.concat(), whole);
        assert_eq!(dealing.len(2), 8);
    }
}
