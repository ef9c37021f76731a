//! Random numbers that depend on what they are for, and on nothing else.
//!
//! Every draw is a function of (seed, purpose, index, position): which image, which step, which epoch. So batch size,
//! number of threads and an interruption in between change nothing. The generator is `ChaCha` with 8 rounds, used as a
//! counter: the key holds seed and purpose, the stream is the index, the word position the position.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// The generator of one (seed, purpose, index), at position 0.
///
/// `purpose` keeps draws of different kinds apart; only its first 24 bytes count.
pub fn generator(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    for (to, from) in key[8..].iter_mut().zip(purpose.bytes()) {
        *to = from;
    }
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(index);
    generator
}

/// A uniform number in `[0, 1)` of 53 bits.
pub fn uniform(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The uniform number at `position` of the stream (seed, purpose, index).
pub fn uniform_at(seed: u64, purpose: &str, index: u64, position: u64) -> f64 {
    let mut generator = generator(seed, purpose, index);
    generator.set_word_pos(2 * u128::from(position));
    uniform(&mut generator)
}

/// A permutation of `0..n`, the same for the same (seed, purpose, index) (Fisher and Yates).
pub fn permutation(seed: u64, purpose: &str, index: u64, n: usize) -> Vec<usize> {
    let mut generator = generator(seed, purpose, index);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, (uniform(&mut generator) * (last + 1) as f64) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_depends_on_its_key_and_not_on_earlier_draws() {
        let mut stream = generator(7, "draw", 3);
        let in_turn: Vec<f64> = (0..5).map(|_| uniform(&mut stream)).collect();
        for (position, &u) in in_turn.iter().enumerate() {
            assert_eq!(uniform_at(7, "draw", 3, position as u64), u);
        }
        assert_ne!(uniform_at(8, "draw", 3, 0), in_turn[0]);
        assert_ne!(uniform_at(7, "data", 3, 0), in_turn[0]);
        assert_ne!(uniform_at(7, "draw", 4, 0), in_turn[0]);
    }

    #[test]
    fn uniforms_have_the_mean_and_variance_of_a_uniform() {
        let mut stream = generator(1, "test", 0);
        let draws: Vec<f64> = (0..10_000).map(|_| uniform(&mut stream)).collect();
        let mean = draws.iter().sum::<f64>() / 1e4;
        let variance = draws.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.015, "{mean}");
        assert!((variance - 1. / 12.).abs() < 0.005, "{variance}");
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut order = permutation(1, "order", 2, 100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
