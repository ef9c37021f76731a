//! What every data set has: three splits, an order of its examples for each epoch, and an identity.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    checkpoint::{hex, sha256},
    cli::counted,
    random,
};

/// One of the three parts of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the weights are fitted to.
    Train,
    /// What chooses between checkpoints.
    Valid,
    /// What is reported.
    Test,
}

impl Split {
    /// The three, in the order of `train`, `valid`, `test`.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// Its name in files and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }

    /// The rule of [`Split::of_index`] in words; `what` is one example: `image`, `clip`.
    pub fn index_rule(what: &str) -> String {
        format!(
            "{what} i trains where floor(i / 10) mod 10 is 0..=6, validates where it is 7, tests where it is 8 or 9"
        )
    }

    /// The split of the i-th example of a set in a fixed order: runs of ten, seven tenths of which train.
    ///
    /// Runs and not single examples, since sets are often written class by class: digits 0 to 9, again and again.
    pub const fn of_index(index: usize) -> Self {
        Self::of_tenth(index / 10 % 10, 7, 8)
    }

    /// The rule of [`Split::of_name`] in words.
    pub const NAME_RULE: &'static str = "by the first 8 bytes of the sha256 of the name, big endian, mod 10: 0..=7 trains, 8 validates, 9 tests";

    /// The split of a name: 80, 10 and 10 per cent; it stays what it is when other names come and go.
    pub fn of_name(name: &str) -> Self {
        let digest = sha256(name.as_bytes());
        let number = digest[..8].iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        Self::of_tenth((number % 10) as usize, 8, 9)
    }

    /// The place of a name in an order that mixes classes and sources, so that the first examples are a sample of all.
    pub fn mixed(name: &str) -> [u8; 32] {
        sha256(name.as_bytes())
    }

    const fn of_tenth(tenth: usize, valid_from: usize, test_from: usize) -> Self {
        if tenth < valid_from {
            Self::Train
        } else if tenth < test_from {
            Self::Valid
        } else {
            Self::Test
        }
    }

    /// Refuses a set whose part of this split is empty; `counts` are those of [`Split::ALL`], `noun` is one example, and
    /// `advice` says what to do.
    ///
    /// # Errors
    /// One line with the set's name and all three counts.
    pub fn ensure_some(
        self,
        name: &str,
        counts: [usize; 3],
        noun: &str,
        advice: &str,
    ) -> anyhow::Result<()> {
        let [train, valid, test] = counts;
        let place = Self::ALL.iter().position(|&it| it == self);
        let all = counted(counts.iter().sum(), noun);
        anyhow::ensure!(
            place.is_some_and(|place| counts[place] > 0),
            "{name}: its {} split is empty ({all}: {train} train, {valid} valid, {test} test); {advice}",
            self.name()
        );
        Ok(())
    }

    /// The indices below `count` that fall into this split, ascending.
    pub fn indices(self, count: usize, split_of: impl Fn(usize) -> Self) -> Vec<usize> {
        (0..count).filter(|&index| split_of(index) == self).collect()
    }
}

/// The order of `n` training examples in an epoch: a permutation of `0..n`, a function of (seed, epoch, n) only.
pub fn order(seed: u64, epoch: u64, n: usize) -> Vec<usize> {
    random::permutation(seed, "data.order", epoch, n)
}

/// Which examples each step of a run sees: a function of (seed, step). An epoch has whole batches only; a set smaller
/// than a batch is gone through again.
#[derive(Debug, Clone)]
pub struct Batches {
    seed: u64,
    batch_size: usize,
    epoch: u64,
    order: Vec<usize>, // of that epoch
}

impl Batches {
    /// Batches of `batch_size` of the training examples `0..n`.
    pub fn new(seed: u64, n: usize, batch_size: usize) -> Self {
        Self { seed, batch_size, epoch: 0, order: order(seed, 0, n) }
    }

    /// The epoch, from 0, that `step`, from 1, belongs to.
    pub fn epoch(&self, step: u64) -> u64 {
        (step - 1) / self.steps()
    }

    /// Steps of an epoch.
    fn steps(&self) -> u64 {
        (self.order.len() / self.batch_size).max(1) as u64
    }

    /// The examples of `step`, from 1.
    pub fn rows(&mut self, step: u64) -> Vec<usize> {
        let epoch = self.epoch(step);
        if epoch != self.epoch {
            self.order = order(self.seed, epoch, self.order.len());
            self.epoch = epoch;
        }
        let first = ((step - 1) % self.steps()) as usize * self.batch_size;
        (first..first + self.batch_size).map(|i| self.order[i % self.order.len()]).collect()
    }
}

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigest {
    path: String,
    len: usize,
    sha256: String,
}

impl FileDigest {
    /// The digest of a file's content under its path within the set.
    pub fn new(path: impl Into<String>, content: &[u8]) -> Self {
        Self { path: path.into(), len: content.len(), sha256: hex(&sha256(content)) }
    }
}

/// The identity of a data set, which a run may be resumed on and no other.
///
/// sha256 over the sorted (path, length, sha256) of the files, the decoder's version and the split rule, in hex.
pub fn data_hash(mut files: Vec<FileDigest>, decoder: &str, rule: &str) -> String {
    files.sort();
    let mut hasher = Sha256::new();
    for FileDigest { path, len, sha256 } in files {
        hasher.update(format!("{path}\0{len}\0{sha256}\n"));
    }
    hasher.update(format!("{decoder}\0{rule}"));
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_split_and_fill_all_three() {
        let counts = Split::ALL.map(|split| {
            split.indices(5000, |index| Split::of_name(&format!("{index}.png"))).len()
        });
        assert_eq!(counts.iter().sum::<usize>(), 5000);
        assert!(counts[0].abs_diff(4000) < 120 && counts[1].abs_diff(500) < 90, "{counts:?}");
        assert_eq!(Split::of_name("a/b.png"), Split::of_name("a/b.png"));
    }

    #[test]
    fn indices_fall_into_runs_of_ten() {
        let [train, valid, test] = Split::ALL.map(|split| split.indices(200, Split::of_index));
        assert_eq!(train.len(), 140);
        assert!(valid.into_iter().eq((70..80).chain(170..180)));
        assert!(test.into_iter().eq((80..100).chain(180..200)));
    }

    #[test]
    fn the_order_of_an_epoch_is_the_same_on_every_machine() {
        // a resumed run depends on it
        assert_eq!(order(0, 0, 8), [2, 1, 0, 5, 4, 6, 3, 7]);
        assert_ne!(order(0, 1, 8), order(0, 0, 8));
        assert_ne!(order(1, 0, 8), order(0, 0, 8));
    }

    #[test]
    fn an_epoch_shows_each_example_once_at_most_and_small_sets_again() {
        let mut batches = Batches::new(3, 10, 4);
        let mut seen: Vec<usize> = (1..=2).flat_map(|step| batches.rows(step)).collect();
        assert_eq!((batches.epoch(2), batches.epoch(3)), (0, 1));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 8);
        let later = batches.rows(31);
        assert_eq!(Batches::new(3, 10, 4).rows(31), later, "whatever came before");
        assert_ne!(batches.rows(1), later);
        let mut few = Batches::new(3, 2, 5).rows(1);
        few.sort_unstable();
        assert!(few == [0, 0, 0, 1, 1] || few == [0, 0, 1, 1, 1], "{few:?}");
    }

    #[test]
    fn the_hash_depends_on_content_and_rule_but_not_on_the_order_of_files() {
        let (a, b) = (FileDigest::new("a", b"1"), FileDigest::new("b", b"2"));
        let hash = data_hash(vec![a.clone(), b.clone()], "png/1", "rule");
        assert_eq!(hash, data_hash(vec![b.clone(), a.clone()], "png/1", "rule"));
        assert_ne!(hash, data_hash(vec![a.clone(), b.clone()], "png/1", "another"));
        assert_ne!(hash, data_hash(vec![a.clone(), b.clone()], "png/2", "rule"));
        assert_ne!(hash, data_hash(vec![a, FileDigest::new("b", b"3")], "png/1", "rule"));
        assert_eq!(hash.len(), 64);
    }
}
