//! One symbol: its probabilities, its quantiles, and the integers that a coder needs. Every function here is of
//! *defined bits*: the same unnormalised log-probabilities give the same answer on every machine.

use crate::kernels::exact::{Kernel, Variant};

/// Frequencies of a coder sum to `2^PRECISION`.
pub const PRECISION: usize = 24;
/// The same, of very many levels: since each has a frequency of at least 1, 49,152 of them would take 0.3 % of `2^24`.
pub const WIDE_PRECISION: usize = 30;

/// Probabilities of one symbol, made from unnormalised log-probabilities; reused from symbol to symbol.
#[derive(Debug, Clone)]
pub struct Categorical {
    kernel: Kernel,
    weights: Vec<f32>, // probabilities, up to the rounding of their common factor
    total: f64,
}

impl Default for Categorical {
    /// Of no levels yet.
    fn default() -> Self {
        Self { kernel: any_kernel(), weights: Vec::new(), total: 0. }
    }
}

/// The processor's fastest kernel for one row. Any other would do: their bits are the same.
pub(crate) fn any_kernel() -> Kernel {
    Kernel::new(Variant::available()[0], 1)
}

impl Categorical {
    /// Takes the distribution `p_v = exp(logits[v]) / sum exp(logits)`.
    pub fn set(&mut self, logits: &[f32]) {
        self.weights.resize(logits.len(), 0.0);
        self.kernel.softmax(logits, &mut self.weights);
        self.total = self.weights.iter().map(|&weight| f64::from(weight)).sum();
    }

    /// Levels L.
    pub fn levels(&self) -> usize {
        self.weights.len()
    }

    /// Probabilities of the levels; they sum to one up to rounding.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Whether all the probabilities are numbers.
    pub fn is_finite(&self) -> bool {
        self.total.is_finite() && self.total > 0.
    }

    /// `log p(symbol)` in nats.
    pub fn log_prob(&self, symbol: u32) -> f64 {
        (f64::from(self.weights[symbol as usize]) / self.total).ln()
    }

    /// The likeliest symbol, the first of equals.
    pub fn argmax(&self) -> u32 {
        argmax(&self.weights)
    }

    /// The symbol at `u` in `[0, 1)` of the distribution function: the first whose cumulated probability exceeds `u`.
    pub fn quantile(&self, u: f64) -> u32 {
        let target = u * self.total;
        let mut sum = 0.;
        for (symbol, &weight) in self.weights.iter().enumerate() {
            sum += f64::from(weight);
            if sum > target {
                return symbol as u32;
            }
        }
        // u = 1 - tiny and rounding: the last symbol that can occur
        self.weights.iter().rposition(|&w| w > 0.).unwrap_or(0) as u32
    }

    /// Integer frequencies, at least 1 each and `2^precision` in all.
    ///
    /// `f_v = 1 + floor(p_v (2^precision - L))`; what rounding leaves goes to the likeliest symbol.
    pub fn frequencies(&self, precision: usize, out: &mut Vec<u32>) {
        let levels = self.weights.len();
        let whole = 1u32 << precision;
        let scale = f64::from(whole - levels as u32) / self.total;
        out.clear();
        out.extend(self.weights.iter().map(|&w| 1 + (f64::from(w) * scale) as u32));
        let rest = whole - out.iter().sum::<u32>();
        out[self.argmax() as usize] += rest;
    }
}

/// The index of the greatest number, the first of equals.
pub(crate) fn argmax(xs: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &x) in xs.iter().enumerate() {
        if x > xs[best] {
            best = index;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(logits: &[f32]) -> Categorical {
        let mut categorical = Categorical::default();
        categorical.set(logits);
        categorical
    }

    proptest! {
        #[test]
        fn frequencies_are_positive_and_sum_to_a_power_of_two(logits in prop::collection::vec(-90f32..90., 2..300)) {
            let mut frequencies = Vec::new();
            for precision in [PRECISION, WIDE_PRECISION] {
                of(&logits).frequencies(precision, &mut frequencies);
                prop_assert!(frequencies.iter().all(|&f| f > 0));
                prop_assert_eq!(frequencies.iter().sum::<u32>(), 1 << precision);
            }
        }

        #[test]
        fn a_quantile_inverts_the_distribution_function(logits in prop::collection::vec(-5f32..5., 2..40), u in 0f64..1.) {
            let categorical = of(&logits);
            let symbol = categorical.quantile(u);
            let below: f64 = (0..symbol).map(|v| categorical.log_prob(v).exp()).sum();
            let upto = below + categorical.log_prob(symbol).exp();
            prop_assert!(below <= u + 1e-6 && u < upto + 1e-6, "{} {} {}", below, u, upto);
        }
    }

    #[test]
    fn an_impossible_symbol_is_never_drawn() {
        let categorical = of(&[f32::NEG_INFINITY, 0., f32::NEG_INFINITY]);
        for u in [0., 0.5, 1. - f64::EPSILON] {
            assert_eq!(categorical.quantile(u), 1);
        }
    }

    #[test]
    fn the_first_of_equals_is_the_likeliest() {
        assert_eq!(of(&[0., 3., 3.]).argmax(), 1);
    }
}
