//! How probable examples are, exactly: nats inside, bits at the edge.
//! Letters: B examples, N positions, L levels, M mixture components.

mod logistics;

use std::f64::consts::LN_2;

use serde::Serialize;
use tch::{Device, Kind, Tensor};

pub use self::logistics::Logistics;
use crate::{
    autoregressive::{Autoregressive, Conditional, Conditionals},
    cross_entropy,
};

impl Conditionals {
    /// `log p(x_i | x_<i)` of the symbols `[B, N]`, in nats.
    ///
    /// # Shape
    /// `[B, N]`.
    pub fn log_prob(&self, xs: &Tensor) -> Tensor {
        match self {
            Self::Logits(logits) => cross_entropy::log_prob(logits, xs),
            Self::Logistics(logistics) => logistics.log_prob(xs),
        }
    }

    /// `log p` of every level, normalised.
    ///
    /// # Shape
    /// `[B, N, L]`.
    pub fn log_probs(&self) -> Tensor {
        match self {
            Self::Logits(logits) => logits.log_softmax(-1, Kind::Float),
            Self::Logistics(logistics) => logistics.log_probs(),
        }
    }

    /// Those of one position: `[B, 1, ...]`.
    #[must_use]
    pub fn at(&self, position: i64) -> Self {
        let one = |xs: &Tensor| xs.narrow(1, position, 1);
        match self {
            Self::Logits(logits) => Self::Logits(one(logits)),
            Self::Logistics(Logistics { logits, means, log_scales, levels }) => {
                Self::Logistics(Logistics {
                    logits: one(logits),
                    means: one(means),
                    log_scales: one(log_scales),
                    levels: *levels,
                })
            }
        }
    }

    /// Writes those of a single position `[B, 1, ...]` where a sampler or the codec reads them.
    pub fn write_to(&self, out: &mut Conditional) {
        let copy = |numbers: &Tensor, to: &mut [f32]| {
            let numbers = numbers.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
            numbers.copy_data(to, to.len());
        };
        match self {
            Self::Logits(logits) => {
                let sizes = logits.size(); // [B, 1, L]
                copy(logits, out.reset(sizes[0] as usize, sizes[2] as usize));
            }
            Self::Logistics(Logistics { logits, means, log_scales, levels }) => {
                let sizes = logits.size(); // [B, 1, M]
                let all = Tensor::cat(&[logits, means, log_scales], -1);
                let (rows, components) = (sizes[0] as usize, sizes[2] as usize);
                copy(&all, out.reset_mixtures(rows, *levels as usize, components));
            }
        }
    }
}

/// `-log p(x)` of each example, in nats.
///
/// # Shape
/// Symbols `[B, N]` to `[B]`.
pub fn nll<M: Autoregressive + ?Sized>(model: &M, xs: &Tensor, context: &M::Context) -> Tensor {
    let log_prob = model.conditionals(&model.embed(xs), context).log_prob(xs);
    -log_prob.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
}

/// Collects the nats of examples, each counted once.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    nats: Vec<f64>,
}

/// What a tally comes to. The field names are the same in every JSON of the workspace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Likelihood {
    /// Examples counted.
    pub examples: usize,
    /// Dimensions (positions) of an example.
    pub dims: usize,
    /// Mean nats per example.
    pub nats: f64,
    /// Standard error of that mean over examples; unknown of a single one.
    pub nats_se: Option<f64>,
    /// Total nats / (total dimensions * ln 2).
    pub bits_per_dim: f64,
    /// Its standard error over examples; unknown of a single one.
    pub bits_per_dim_se: Option<f64>,
    /// `exact`, or `upper` where only a bound is known.
    pub bound: &'static str,
}

impl Tally {
    /// Counts the examples whose nats are given.
    pub fn add(&mut self, nats: impl IntoIterator<Item = f64>) {
        self.nats.extend(nats);
    }

    /// The nats of every example, in the order in which they were added.
    pub fn examples(&self) -> &[f64] {
        &self.nats
    }

    /// Mean, standard error and bits for examples of `dims` dimensions. Of no examples, all is NaN.
    pub fn likelihood(&self, dims: usize) -> Likelihood {
        self.likelihood_of(&vec![dims; self.nats.len()])
    }

    /// The same where example i has `dims[i]` dimensions: bits are a ratio of sums, its error that of a ratio estimate.
    /// `dims` becomes the mean, rounded.
    ///
    /// # Panics
    /// If there are not as many `dims` as examples.
    pub fn likelihood_of(&self, dims: &[usize]) -> Likelihood {
        assert_eq!(dims.len(), self.nats.len(), "every example has dimensions");
        let n = self.nats.len() as f64;
        let nats = self.nats.iter().sum::<f64>() / n;
        let mean_dims = dims.iter().sum::<usize>() as f64 / n;
        let error = |residual: &dyn Fn(usize) -> f64| {
            let squares: f64 = (0..dims.len()).map(|i| residual(i).powi(2)).sum();
            (n > 1.).then(|| (squares / (n - 1.) / n).sqrt())
        };
        let per_dim = nats / mean_dims;
        let of_bits = error(&|i| self.nats[i] - per_dim * dims[i] as f64);
        Likelihood {
            examples: self.nats.len(),
            dims: mean_dims.round() as usize,
            nats,
            nats_se: error(&|i| self.nats[i] - nats),
            bits_per_dim: per_dim / LN_2,
            bits_per_dim_se: of_bits.map(|error| error / (mean_dims * LN_2)),
            bound: "exact",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_gives_mean_standard_error_and_bits() {
        let mut tally = Tally::default();
        tally.add([1., 2.]);
        tally.add([6.]);
        let likelihood = tally.likelihood(3);
        assert_eq!(likelihood.examples, 3);
        assert!((likelihood.nats - 3.).abs() < 1e-12);
        let nats_se = likelihood.nats_se.unwrap();
        assert!((nats_se - (7f64 / 3.).sqrt()).abs() < 1e-12);
        assert!((likelihood.bits_per_dim - 1. / LN_2).abs() < 1e-12);
        let bits_se = likelihood.bits_per_dim_se.unwrap();
        assert!((bits_se - nats_se / (3. * LN_2)).abs() < 1e-12);
    }

    #[test]
    fn one_example_has_no_standard_error() {
        let mut tally = Tally::default();
        tally.add([2.]);
        let json = serde_json::to_value(tally.likelihood(1)).unwrap();
        assert!(json["nats_se"].is_null() && json["bits_per_dim_se"].is_null(), "{json}");
    }

    #[test]
    fn examples_of_unequal_size_give_a_ratio() {
        let mut tally = Tally::default();
        tally.add([2., 4., 6.]);
        let proportional = tally.likelihood_of(&[1, 2, 3]);
        assert!((proportional.bits_per_dim - 2. / LN_2).abs() < 1e-12);
        assert!(proportional.bits_per_dim_se.unwrap() < 1e-12, "every example has the same rate");
        assert!(proportional.nats_se.unwrap() > 1.);
    }
}
