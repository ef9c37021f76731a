//! Mixtures of discretised logistics. Letters: B examples, N positions, L levels, M mixture components.

use tch::{Kind, Tensor};

use crate::kernels::{cuda, logistics as kernel};

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
    /// `[B, N]`, f32, or f64 of f64 parameters.
    pub fn log_prob(&self, xs: &Tensor) -> Tensor {
        let found = match cuda::of(xs.device()).filter(|_| cuda::logistics::takes(self, xs)) {
            Some(gpu) => cuda::logistics::log_prob(gpu, self, xs),
            None if kernel::takes(self, xs) => kernel::log_prob(self, xs),
            None => return self.plain_log_prob(xs),
        };
        found.unwrap_or_else(|error| panic!("a mixture of logistics: {error}"))
    }

    /// The definition; [`Self::log_prob`] does the same in one pass where it can.
    fn plain_log_prob(&self, xs: &Tensor) -> Tensor {
        let kind = if self.means.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let [logits, means, log_scales] =
            [&self.logits, &self.means, &self.log_scales].map(|it| it.to_kind(kind));
        let half_bin = 1. / (self.levels - 1) as f64;
        let levels = xs.unsqueeze(-1); // [B, N, 1]
        let centres = (levels.to_kind(kind) * (2. * half_bin) - 1.) - means; // [B, N, M]
        let inverse_scales = (-log_scales).exp();
        let upper = (&centres + half_bin) * &inverse_scales;
        let lower = (&centres - half_bin) * &inverse_scales;
        let above = levels.eq(self.levels - 1); // no upper edge
        let below = levels.eq(0); // no lower edge
        let width = (&inverse_scales * (-2. * half_bin)).expm1().neg().log();
        let edges = above.logical_or(&below);
        let log_bins = upper.log_sigmoid().where_self(&above.logical_not(), &upper.zeros_like())
            + (-&lower).log_sigmoid().where_self(&below.logical_not(), &lower.zeros_like())
            + width.where_self(&edges.logical_not(), &width.zeros_like());
        (log_bins + logits.log_softmax(-1, None)).logsumexp([-1i64].as_slice(), false)
    }

    /// `log p` of every level `[B, N, L]`, some levels at once so that the memory stays bounded.
    pub(super) fn log_probs(&self) -> Tensor {
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

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{autoregressive::Conditionals, kernels::without};

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

    /// Places and mixtures of two for `levels`: the edges, levels near and far, scales from a hundredth of a level to wider
    /// than all.
    fn cases(levels: i64, kind: Kind) -> (Tensor, [Tensor; 3]) {
        let options = (Kind::Double, Device::Cpu);
        let edges = Tensor::from_slice(&[0, levels - 1, 1, levels - 2, levels / 2]);
        let symbols = edges.repeat([60]); // [P]
        let log_scales = Tensor::rand([300, 2], options) * 17. - 14.;
        let places = symbols.unsqueeze(-1).to_kind(Kind::Double) * (2. / (levels - 1) as f64) - 1.;
        let near = places + Tensor::randn([300, 2], options) * log_scales.exp() * 2.;
        let far = Tensor::randn([300, 2], options) * 3.;
        let is_near = Tensor::rand([300, 2], options).lt(0.7);
        let means = near.where_self(&is_near, &far);
        let logits = Tensor::randn([300, 2], options) * 3. + 50.;
        (symbols, [logits, means, log_scales].map(|it| it.to_kind(Kind::Float).to_kind(kind)))
    }

    /// Log-probabilities and, of `sum w log p`, the gradients by logits, by means in units of the scales, and by log-scales.
    fn values_and_gradients(symbols: &Tensor, of: &[Tensor; 3], levels: i64) -> [Tensor; 4] {
        let leaves = of.each_ref().map(|it| it.detach().copy().set_requires_grad(true));
        let [logits, means, log_scales] = leaves.each_ref().map(Tensor::shallow_clone);
        let log_prob = Logistics { logits, means, log_scales, levels }.log_prob(symbols);
        let options = (Kind::Double, Device::Cpu);
        let weights = (Tensor::arange(symbols.numel() as i64, options) * 0.7).sin();
        let loss = (&log_prob * weights.view_as(symbols)).sum(Kind::Double);
        let found = Tensor::run_backward(&[loss], &leaves.each_ref(), false, false);
        let scales = of[2].to_kind(Kind::Double).exp();
        [log_prob.detach(), found[0].shallow_clone(), &found[1] * scales, found[2].shallow_clone()]
    }

    #[test]
    fn the_kernel_is_the_formula_in_values_and_gradients_at_any_scale() {
        tch::manual_seed(1);
        for levels in [2, 3, 256, 65_536] {
            let (symbols, narrow) = cases(levels, Kind::Float);
            let wide = narrow.each_ref().map(|it| it.to_kind(Kind::Double));
            let found = values_and_gradients(&symbols, &narrow, levels);
            let wanted = values_and_gradients(&symbols, &wide, levels);
            // a share of a level is as exact as the logarithms that it is made of
            let size = wanted[0].abs() + 1.;
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let size = if i == 0 { size.shallow_clone() } else { size.unsqueeze(-1) };
                let error = (found - wanted).abs() / (wanted.abs() + 1.) / size;
                let worst = error.max().double_value(&[]);
                assert!(worst < 4e-6, "{levels} levels: {worst} in number {i}");
            }
            assert_eq!(found, values_and_gradients(&symbols, &narrow, levels), "the same bits");
        }
    }

    #[test]
    fn the_kernel_places_edges_more_exactly_than_the_formula_in_single_precision() {
        tch::manual_seed(2);
        let (symbols, narrow) = cases(65_536, Kind::Float);
        let wide = narrow.each_ref().map(|it| it.to_kind(Kind::Double));
        let wanted = &values_and_gradients(&symbols, &wide, 65_536)[0];
        let worst =
            |it: &Tensor| ((it - wanted).abs() / (wanted.abs() + 1.)).max().double_value(&[]);
        let found = worst(&values_and_gradients(&symbols, &narrow, 65_536)[0]);
        let plain = worst(&without(|| values_and_gradients(&symbols, &narrow, 65_536))[0]);
        assert!(found < plain, "{found}, {plain}");
    }

    #[test]
    fn levels_of_the_kernel_sum_to_one() {
        let options = (Kind::Float, Device::Cpu);
        tch::manual_seed(3);
        for (levels, sharpest) in [(2, -7.), (256, -7.), (65_536, -14.)] {
            let symbols = Tensor::arange(levels, (Kind::Int64, Device::Cpu));
            let part = |it: Tensor| it.expand([levels, 5], false);
            let logistics = Logistics {
                logits: part(Tensor::randn([5], options)),
                means: part(Tensor::randn([5], options)),
                log_scales: part((Tensor::randn([5], options) * 3. - 4.).clamp_min(sharpest)),
                levels,
            };
            assert!(kernel::takes(&logistics, &symbols));
            let log_prob = logistics.log_prob(&symbols).to_kind(Kind::Double);
            let total = log_prob.exp().sum(Kind::Double).double_value(&[]);
            assert!((total - 1.).abs() < 2e-6, "{levels} levels: {total}");
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        tch::manual_seed(4);
        for levels in [2, 256] {
            let (symbols, narrow) = cases(levels, Kind::Float);
            let [logits, means, log_scales] = narrow;
            let narrow = [logits, means, log_scales.clamp_min(-4.)];
            let found = values_and_gradients(&symbols, &narrow, levels);
            let wide = narrow.each_ref().map(|it| it.to_kind(Kind::Double));
            let scales = wide[2].exp();
            let weights = (Tensor::arange(300, (Kind::Double, Device::Cpu)) * 0.7).sin();
            for part in 0..3 {
                for component in 0..2 {
                    let at = |step: f64| {
                        let moved = wide.each_ref().map(Tensor::copy);
                        let by = if part == 1 { &scales * step } else { scales.full_like(step) };
                        let _ = moved[part].select(1, component).g_add_(&by.select(1, component));
                        let [logits, means, log_scales] = moved;
                        Logistics { logits, means, log_scales, levels }.log_prob(&symbols)
                    };
                    let wanted = (at(1e-5) - at(-1e-5)) / 2e-5 * &weights;
                    let found = found[1 + part].select(1, component);
                    let error = (found - &wanted).abs() / (wanted.abs() + 1.);
                    let worst = error.max().double_value(&[]);
                    assert!(worst < 1e-4, "{levels} levels: {worst} in part {part}");
                }
            }
        }
    }

    #[test]
    fn a_parameter_that_is_no_number_spoils_its_position_alone() {
        tch::manual_seed(5);
        for part in 0..3 {
            let (symbols, narrow) = cases(256, Kind::Float);
            let _ = narrow[part].select(0, 7).fill_(f64::NAN);
            for it in values_and_gradients(&symbols, &narrow, 256) {
                let is_nan = it.view([300, -1]).isnan().any_dim(-1, false);
                assert_eq!(is_nan.sum(Kind::Int64).int64_value(&[]), 1);
                assert!(is_nan.int64_value(&[7]) == 1);
            }
        }
    }

    #[test]
    fn symbols_and_parameters_of_other_strides_are_taken() {
        tch::manual_seed(6);
        let (symbols, narrow) = cases(256, Kind::Float);
        let wanted = values_and_gradients(&symbols, &narrow, 256);
        let turned = narrow.map(|it| {
            let sizes = it.view([10, 30, 2]).transpose(0, 1).contiguous();
            sizes.transpose(0, 1)
        });
        let found = values_and_gradients(&symbols.view([10, 30]), &turned, 256);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found.reshape(wanted.size()), *wanted);
        }
    }
}
