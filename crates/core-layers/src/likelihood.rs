//! How probable examples are, exactly: nats inside, bits at the edge.
//! Letters: B examples, N positions, L levels, M mixture components.

use std::f64::consts::LN_2;

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::{
    autoregressive::{Autoregressive, Conditional, Conditionals},
    cross_entropy,
};

/// Mixtures of logistics on `[-1, 1]`, discretised to L equidistant levels (Salimans et al., "PixelCNN++", 2017,
/// section 2.1, <https://arxiv.org/abs/1701.05517>).
///
/// Level `v` stands at `x = 2 v / (L - 1) - 1` and owns the bin `x +- 1 / (L - 1)`; the first and the last bin reach
/// to infinity, so the levels of every position sum to one.
#[derive(Debug)]
pub struct Logistics {
    /// Unnormalised log-weights `[B, N, M]`.
    pub logits: Tensor,
    /// Means `[B, N, M]`.
    pub means: Tensor,
    /// Logarithms of the scales `[B, N, M]`; who makes them says how small they may be.
    pub log_scales: Tensor,
    /// Levels L.
    pub levels: i64,
}

impl Logistics {
    /// `log p(x)` of the symbols `[B, N]`, in nats.
    ///
    /// With `a`, `b` the upper and lower edge of the bin in units of the scale,
    /// `log (sigma(a) - sigma(b)) = log sigma(a) + log sigma(-b) + log(-expm1(b - a))`, which never subtracts
    /// two numbers close to each other.
    ///
    /// # Shape
    /// `[B, N]`.
    pub fn log_prob(&self, xs: &Tensor) -> Tensor {
        let half_bin = 1. / (self.levels - 1) as f64;
        let levels = xs.unsqueeze(-1); // [B, N, 1]
        let centres = (levels.to_kind(self.means.kind()) * (2. * half_bin) - 1.) - &self.means; // [B, N, M]
        let inverse_scales = (-&self.log_scales).exp();
        let upper = (&centres + half_bin) * &inverse_scales;
        let lower = (&centres - half_bin) * &inverse_scales;
        let above = levels.eq(self.levels - 1); // no upper edge
        let below = levels.eq(0); // no lower edge
        let width = (&inverse_scales * (-2. * half_bin)).expm1().neg().log();
        let edges = above.logical_or(&below);
        let log_bins = upper.log_sigmoid().where_self(&above.logical_not(), &upper.zeros_like())
            + (-&lower).log_sigmoid().where_self(&below.logical_not(), &lower.zeros_like())
            + width.where_self(&edges.logical_not(), &width.zeros_like());
        (log_bins + self.logits.log_softmax(-1, None)).logsumexp([-1i64].as_slice(), false)
    }

    /// `log p` of every level `[B, N, L]`, some levels at once so that the memory stays bounded.
    fn log_probs(&self) -> Tensor {
        const NUMBERS: i64 = 1 << 22;
        let at_once = (NUMBERS / self.logits.numel() as i64).clamp(1, self.levels);
        let options = (Kind::Int64, self.logits.device());
        let parts: Vec<Tensor> = (0..self.levels)
            .step_by(at_once as usize)
            .map(|first| {
                let last = (first + at_once).min(self.levels);
                let levels = Tensor::arange_start(first, last, options).view([-1, 1, 1]);
                self.log_prob(&levels) // [levels, B, N]
            })
            .collect();
        Tensor::cat(&parts, 0).permute([1, 2, 0])
    }
}

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

    fn random(sizes: &[i64]) -> Tensor {
        Tensor::randn(sizes, (Kind::Double, Device::Cpu))
    }

    #[test]
    fn levels_of_a_logistic_mixture_sum_to_one() {
        for (levels, spread) in [(2, 1.), (17, 1.), (256, 1.), (256, 4.)] {
            let conditionals = Conditionals::Logistics(Logistics {
                logits: random(&[2, 3, 5]),
                means: random(&[2, 3, 5]) * spread,
                log_scales: (random(&[2, 3, 5]) * spread).clamp_min(-7.),
                levels,
            });
            let total = conditionals.log_probs().exp().sum_dim_intlist(-1, false, Kind::Double);
            let worst = (total - 1.).abs().max().double_value(&[]);
            assert!(worst < 1e-9, "{levels} levels: {worst}");
        }
    }

    #[test]
    fn a_logistic_far_away_has_a_finite_gradient() {
        let means =
            Tensor::from_slice(&[-40f32, 40., 0.]).reshape([1, 3, 1]).set_requires_grad(true);
        let log_scales =
            Tensor::full([1, 3, 1], -7f64, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let logistics = Logistics {
            logits: Tensor::zeros([1, 3, 1], (Kind::Float, Device::Cpu)),
            means: means.shallow_clone(),
            log_scales: log_scales.shallow_clone(),
            levels: 256,
        };
        let log_prob = logistics.log_prob(&Tensor::from_slice(&[255i64, 0, 3]).reshape([1, 3]));
        log_prob.sum(Kind::Float).backward();
        for tensor in [&log_prob, &means.grad(), &log_scales.grad()] {
            assert!(tensor.isfinite().all().int64_value(&[]) == 1, "{tensor:?}");
        }
    }

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
