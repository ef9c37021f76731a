//! Random numbers of the data: a function of a seed, what they are for, and an epoch; the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The seed of all that is drawn once: no run's seed reaches it.
pub(super) const FIXED_SEED: u64 = 0x0da7_a5e7;

/// What random numbers are for; each purpose has a stream of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Order = 1,
    Binarize = 2,
    BinarizeValid = 3,
    BinarizeTest = 4,
    Texture = 5,
    TextureValid = 6,
    TextureTest = 7,
}

/// The generator keyed by (seed, purpose, epoch): `ChaCha` with 8 rounds.
pub(super) fn generator(seed: u64, purpose: Purpose, epoch: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16] = purpose as u8;
    ChaCha8Rng::from_seed(key)
}

/// A whole number below `bound`, each with probability `1 / bound` to within 2^-32.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    ((u64::from(rng.next_u32()) * u64::from(bound)) >> 32) as u32
}

/// A number in [0, 1), a multiple of 2^-53.
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * 2f64.powi(-53)
}

/// The order of `n` training images in an epoch: a permutation of `0..n`, a function of (seed, epoch, n) only.
///
/// Fisher and Yates' shuffle, each permutation as likely as any other.
pub fn order(seed: u64, epoch: u64, n: usize) -> Vec<usize> {
    let mut rng = generator(seed, Purpose::Order, epoch);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        let index = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, index as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_permutation_and_changes_with_epoch_and_seed() {
        let first = order(1, 0, 1000);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(first, order(1, 0, 1000));
        assert_ne!(first, order(1, 1, 1000));
        assert_ne!(first, order(2, 0, 1000));
        assert_eq!(order(1, 0, 0), [0usize; 0]);
    }

    #[test]
    fn every_order_of_three_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..6000 {
            *counts.entry(order(3, epoch, 3)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        // 1000 each, with a standard deviation of 29
        assert!(counts.values().all(|&count| count.abs_diff(1000) < 130), "{counts:?}");
    }

    #[test]
    fn the_order_is_the_same_on_every_machine() {
        // what release 0.1 gave: a resumed run depends on it
        assert_eq!(order(0, 0, 8), [1, 2, 7, 0, 3, 4, 6, 5]);
    }
}
