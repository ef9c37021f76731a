//! The distribution that one token is drawn from.

/// Weights that are summed at once, so that a quantile needs to look into one block only.
const BLOCK: usize = 256;
const LANES: usize = 16;

/// Probabilities of the tokens that the filters left: of all of them, or of those that are listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    tokens: Vec<u32>, // ascending; none where every token has a weight
    weights: Vec<f32>,
    sums: Vec<f32>, // of the blocks
    total: f64,
}

impl Distribution {
    /// Of one token, whatever comes.
    pub(super) fn set_certain(&mut self, token: u32) {
        self.set_listed([(token, 1.)].into_iter());
    }

    /// Of tokens in ascending order, with weights proportional to their probabilities.
    pub(super) fn set_listed(&mut self, weights: impl Iterator<Item = (u32, f32)>) {
        self.tokens.clear();
        self.weights.clear();
        for (token, weight) in weights {
            self.tokens.push(token);
            self.weights.push(weight);
        }
        self.sum();
    }

    /// Of all tokens, with these weights; those that it had are given back.
    pub(super) fn set_all(&mut self, weights: &mut Vec<f32>) {
        self.tokens.clear();
        std::mem::swap(&mut self.weights, weights);
        self.sum();
    }

    fn sum(&mut self) {
        self.sums.clear();
        for block in self.weights.chunks(BLOCK) {
            let mut lanes = [0f32; LANES];
            let chunks = block.chunks_exact(LANES);
            let rest = chunks.remainder();
            for chunk in chunks {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane += x;
                }
            }
            for (lane, x) in lanes.iter_mut().zip(rest) {
                *lane += x;
            }
            for distance in [8, 4, 2, 1] {
                for i in 0..distance {
                    lanes[i] += lanes[i + distance];
                }
            }
            self.sums.push(lanes[0]);
        }
        self.total = self.sums.iter().map(|&it| f64::from(it)).sum();
    }

    /// Tokens that have a place in it, those of probability zero included where all have one.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether it was never set.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    fn token(&self, index: usize) -> u32 {
        self.tokens.get(index).copied().unwrap_or(index as u32)
    }

    /// Tokens and their probabilities, in the order of tokens.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let weights = self.weights.iter().map(|&it| f64::from(it) / self.total);
        weights.enumerate().map(|(index, probability)| (self.token(index), probability))
    }

    /// The probability of a token.
    pub fn probability(&self, token: u32) -> f64 {
        let index = if self.tokens.is_empty() {
            Some(token as usize)
        } else {
            self.tokens.binary_search(&token).ok()
        };
        let weight = index.and_then(|it| self.weights.get(it)).copied();
        f64::from(weight.unwrap_or(0.)) / self.total
    }

    /// The token at `u` in `[0, 1)` of the distribution function over the order of tokens: the inverse of it.
    pub fn quantile(&self, u: f64) -> u32 {
        let target = u * self.total;
        // rounding may carry u beyond the last: then it is the last one that can occur, of blocks and of tokens
        let (mut sum, mut below, mut start) = (0., 0., 0);
        for (block, &own) in self.sums.iter().enumerate().filter(|it| *it.1 > 0.) {
            (below, start) = (sum, block * BLOCK);
            sum += f64::from(own);
            if sum > target {
                break;
            }
        }
        let block = &self.weights[start..self.weights.len().min(start + BLOCK)];
        let mut found = 0;
        for (index, &weight) in block.iter().enumerate() {
            if weight > 0. {
                found = index;
                below += f64::from(weight);
                if below > target {
                    break;
                }
            }
        }
        self.token(start + found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(weights: &[(u32, f32)]) -> Distribution {
        let mut distribution = Distribution::default();
        distribution.set_listed(weights.iter().copied());
        distribution
    }

    proptest! {
        #[test]
        fn a_quantile_inverts_the_distribution_function(
            weights in prop::collection::vec(0u8..9, 1..300),
            u in 0f64..1.,
        ) {
            prop_assume!(weights.iter().any(|&it| it > 0));
            let mut distribution = Distribution::default();
            distribution.set_all(&mut weights.iter().copied().map(f32::from).collect());
            let token = distribution.quantile(u);
            let below: f64 = distribution.iter().take(token as usize).map(|it| it.1).sum();
            let own = distribution.probability(token);
            prop_assert!(own > 0.);
            prop_assert!(below <= u + 1e-9 && u < below + own + 1e-9);
            let all: f64 = distribution.iter().map(|it| it.1).sum();
            prop_assert!((all - 1.).abs() < 1e-9);
        }
    }

    #[test]
    fn the_ends_of_the_distribution_are_tokens_that_can_occur() {
        let distribution = listed(&[(2, 0.), (5, 1.), (9, 3.), (11, 0.)]);
        for (u, token) in [(0., 5), (0.24, 5), (0.26, 9), (1. - f64::EPSILON, 9), (1., 9)] {
            assert_eq!(distribution.quantile(u), token);
        }
        assert_eq!(distribution.probability(9), 0.75);
        assert_eq!(distribution.probability(10), 0.);
    }
}
