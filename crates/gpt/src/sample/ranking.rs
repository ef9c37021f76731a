//! The likeliest of very many tokens, without sorting the others.
//!
//! The maximum of every 64 logits is taken in one pass; whatever is asked then looks only into blocks whose maximum says
//! that something is to be found there.

use std::array::from_fn;

use anyhow::{Result, ensure};

const BLOCK: usize = 64;
const LANES: usize = 8;

/// A token and its logit. Ranks run from the greatest logit down, and among equals from the first token on.
pub(super) type Ranked = (f32, u32);

/// Which of two tokens is ranked first.
pub(super) fn by_rank(a: Ranked, b: Ranked) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The greater of two; the second where the first is NaN.
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Adds what is NaN for NaN, and for infinities, one of which is allowed.
fn doubt(x: f32, doubts: f32) -> f32 {
    doubts + 0. * x
}

/// Lane by lane.
#[inline]
fn take(lanes: &mut [f32; LANES], xs: &[f32], with: &impl Fn(f32, f32) -> f32) {
    for (lane, &x) in lanes.iter_mut().zip(xs) {
        *lane = with(x, *lane);
    }
}

/// The greatest logit of every block.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    maxima: Vec<f32>,
    room: Vec<f32>,
}

impl Ranking {
    /// Takes the maxima of logits that are about to be asked about, and returns the greatest.
    ///
    /// # Errors
    /// Where a logit is NaN or plus infinity, or all are minus infinity: that is no distribution.
    pub(super) fn set(&mut self, logits: &[f32]) -> Result<f32> {
        self.maxima.clear();
        let mut doubts = [0f32; LANES];
        for block in logits.chunks(BLOCK) {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                take(&mut lanes, chunk, &greater);
                take(&mut doubts, chunk, &doubt);
            }
            take(&mut lanes, rest, &greater);
            take(&mut doubts, rest, &doubt);
            let [a, b, c, d]: [f32; 4] = from_fn(|i| greater(lanes[i], lanes[i + 4]));
            self.maxima.push(greater(greater(a, b), greater(c, d)));
        }
        let is_nan = doubts.iter().any(|it| it.is_nan()) && logits.iter().any(|it| it.is_nan());
        let greatest = self.maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        ensure!(!is_nan, "the model gave NaN as a logit");
        ensure!(greatest != f32::INFINITY, "the model gave infinity as a logit");
        ensure!(greatest != f32::NEG_INFINITY, "no token is left: every logit is minus infinity");
        Ok(greatest)
    }

    /// The first token that has the logit `greatest`.
    pub(super) fn first(&self, logits: &[f32], greatest: f32) -> u32 {
        let block = self.maxima.iter().position(|&it| it == greatest).unwrap_or(0) * BLOCK;
        let within = logits[block..].iter().position(|&it| it == greatest).unwrap_or(0);
        (block + within) as u32
    }

    /// Every token whose logit is at least `threshold`, in the order of tokens.
    pub(super) fn at_least(&self, logits: &[f32], threshold: f32, out: &mut Vec<Ranked>) {
        out.clear();
        for (block, _) in self.maxima.iter().enumerate().filter(|(_, max)| **max >= threshold) {
            let start = block * BLOCK;
            let end = logits.len().min(start + BLOCK);
            for (token, &logit) in (start as u32..).zip(&logits[start..end]) {
                if logit >= threshold {
                    out.push((logit + 0., token)); // + 0.: -0 ranks as 0 does
                }
            }
        }
    }

    /// The `count` likeliest tokens, by rank.
    pub(super) fn likeliest(&mut self, logits: &[f32], count: usize, out: &mut Vec<Ranked>) {
        // as many blocks as tokens are wanted hold at least as many tokens above the least of their maxima
        let mut threshold = f32::NEG_INFINITY;
        if (1..self.maxima.len()).contains(&count) {
            self.room.clone_from(&self.maxima);
            threshold = *self.room.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1;
        }
        self.at_least(logits, threshold, out);
        if (1..out.len()).contains(&count) {
            out.select_nth_unstable_by(count - 1, |a, b| by_rank(*a, *b));
        }
        out.truncate(count);
        out.sort_unstable_by(|a, b| by_rank(*a, *b));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranked(logits: &[f32]) -> Vec<Ranked> {
        let mut all: Vec<Ranked> = logits.iter().copied().zip(0..).collect();
        all.sort_by(|a, b| by_rank(*a, *b));
        all
    }

    proptest! {
        #[test]
        fn the_likeliest_are_the_first_of_a_full_sort(
            levels in prop::collection::vec(-20i8..20, 1..700),
            count in 0usize..400,
        ) {
            let logits: Vec<f32> = levels.iter().map(|&it| f32::from(it)).collect(); // many ties
            let mut ranking = Ranking::default();
            let greatest = ranking.set(&logits).unwrap();
            let all = ranked(&logits);
            prop_assert_eq!((greatest, ranking.first(&logits, greatest)), all[0]);
            let mut found = Vec::new();
            ranking.likeliest(&logits, count, &mut found);
            prop_assert_eq!(&found[..], &all[..count.min(logits.len())]);
            ranking.at_least(&logits, 3., &mut found);
            found.sort_by(|a, b| by_rank(*a, *b));
            let wanted: Vec<Ranked> = all.into_iter().filter(|it| it.0 >= 3.).collect();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused_wherever_it_stands() {
        let line = |logits: &[f32]| Ranking::default().set(logits).unwrap_err().to_string();
        for at in [0, 15, 16, 63, 64, 99] {
            let mut logits = vec![0.; 100];
            logits[at] = f32::NAN;
            assert_eq!(line(&logits), "the model gave NaN as a logit");
            logits[at] = f32::INFINITY;
            assert_eq!(line(&logits), "the model gave infinity as a logit");
        }
        assert!(line(&[f32::NEG_INFINITY; 3]).starts_with("no token is left"));
        assert!(line(&[]).starts_with("no token is left"));
        assert_eq!(Ranking::default().set(&[f32::NEG_INFINITY, 1.]).unwrap(), 1.);
    }
}
