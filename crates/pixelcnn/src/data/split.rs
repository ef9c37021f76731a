//! Which images train, which choose, which judge.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Images;

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

    /// The rule of [`Split::of_index`] in words.
    pub(super) const INDEX_RULE: &'static str = "image i trains where floor(i / 10) mod 10 is 0..=6, validates where it is 7, tests where it is 8 or 9";

    /// The split of the i-th image of a set in a fixed order: runs of ten, seven tenths of which train.
    ///
    /// Runs and not single images, since sets are often written class by class: digits 0 to 9, again and again.
    pub(super) const fn of_index(index: usize) -> Self {
        Self::of_tenth(index / 10 % 10, 7, 8)
    }

    /// The rule of [`Split::of_name`] in words.
    pub(super) const NAME_RULE: &'static str = "by the first 8 bytes of the sha256 of the name, big endian, mod 10: 0..=7 trains, 8 validates, 9 tests";

    /// The split of a name: 80, 10 and 10 per cent; it stays what it is when other names come and go.
    pub(super) fn of_name(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let number = digest[..8].iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        Self::of_tenth((number % 10) as usize, 8, 9)
    }

    /// The place of a name in an order that mixes classes and sources, so that the first images are a sample of all.
    pub(super) fn mixed(name: &str) -> [u8; 32] {
        Sha256::digest(name.as_bytes()).into()
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

    /// Parts images by the rule for the split of an index, in the order of [`Split::ALL`].
    pub(super) fn part(images: &Images, split_of: impl Fn(usize) -> Self) -> [Images; 3] {
        Self::ALL.map(|split| {
            let indices: Vec<usize> = (0..images.len()).filter(|&i| split_of(i) == split).collect();
            images.select(&indices)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_split_and_fill_all_three() {
        let counts = Split::ALL.map(|split| {
            (0..5000).filter(|i| Split::of_name(&format!("{i}.png")) == split).count()
        });
        assert_eq!(counts.iter().sum::<usize>(), 5000);
        assert!(counts[0].abs_diff(4000) < 120 && counts[1].abs_diff(500) < 90, "{counts:?}");
        assert_eq!(Split::of_name("a/b.png"), Split::of_name("a/b.png"));
    }

    #[test]
    fn indices_fall_into_runs_of_ten() {
        let first = |split| (0..200).filter(move |&i| Split::of_index(i) == split);
        assert_eq!(first(Split::Train).count(), 140);
        assert!(first(Split::Valid).eq((70..80).chain(170..180)));
        assert!(first(Split::Test).eq((80..100).chain(180..200)));
    }
}
