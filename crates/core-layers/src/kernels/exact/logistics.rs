//! The discretised mixture of logistics of one conditional distribution, its levels side by side.

use super::Kernel;
use super::maths;
use super::softmax::LogSumExp;
use super::vector::{Task, Vector, dispatch};

/// Least log-probability of a level.
const LEAST_LOG_PROB: f32 = -80.0;

impl Kernel {
    /// Log-probabilities of the levels `v_i = -1 + 2 i / (n - 1)`, `n = out.len()`, in a mixture of logistics.
    ///
    /// `p_i = sum_m w_m sigma(a) sigma(-b) (1 - e^(b - a))` with `a, b = (v_i +- h - mean_m) e^-log_scale_m` and
    /// `h = 1 / (n - 1)`; sigma(a) alone for the first level, sigma(-b) alone for the last. `w` is the softmax of
    /// `log_weights`; a scale is at least e^-30; a log-probability is at least -80. NaN gives NaN.
    /// (Salimans et al., "PixelCNN++", 2017, equation 2, in the form without cancellation.)
    ///
    /// # Panics
    /// If there are fewer than two levels or no mixture, or if the three parameters differ in length.
    pub fn discretised_logistics(
        &self,
        log_weights: &[f32],
        means: &[f32],
        log_scales: &[f32],
        out: &mut [f32],
    ) {
        assert!(out.len() >= 2, "a discretised logistic needs two levels");
        let count = log_weights.len();
        assert!(
            count >= 1 && means.len() == count && log_scales.len() == count,
            "one mean and scale for each weight"
        );
        dispatch(self.machine(), Logistics { log_weights, means, log_scales, out });
    }
}

struct Logistics<'a> {
    log_weights: &'a [f32],
    means: &'a [f32],
    log_scales: &'a [f32],
    out: &'a mut [f32],
}

impl Task for Logistics<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (last, step) = (self.out.len() - 1, 2.0 / (self.out.len() - 1) as f32);
        let log_sum = LogSumExp { logits: self.log_weights }.run::<V>();
        let (mut first_prob, mut last_prob) = (0.0f32, 0.0f32);
        self.out.fill(0.0);
        for ((&log_weight, &mean), &log_scale) in
            self.log_weights.iter().zip(self.means).zip(self.log_scales)
        {
            let rate = maths::exp((0.0 - log_scale).at_most(30.0));
            let component = Logistic {
                weight: maths::exp(log_weight - log_sum),
                mean,
                rate,
                half: step / 2.0,
                step,
            };
            component.add_to::<V>(self.out);
            first_prob = component.below(0.0).mul_add(component.weight, first_prob);
            last_prob = component.above(last as f32).mul_add(component.weight, last_prob);
        }
        self.out[0] = first_prob;
        self.out[last] = last_prob;
        let mut chunks = self.out.chunks_exact_mut(V::N);
        for out in &mut chunks {
            floored_ln(V::read(out)).write(out);
        }
        for y in chunks.into_remainder() {
            *y = floored_ln(*y);
        }
    }
}

#[inline(always)]
fn floored_ln<V: Vector>(x: V) -> V {
    maths::ln(x.at_least(V::splat(f32::MIN_POSITIVE))).at_least(V::splat(LEAST_LOG_PROB))
}

/// One component; `rate` is e^-log_scale, `half` half a bin, `step` a bin.
#[derive(Clone, Copy)]
struct Logistic {
    weight: f32,
    mean: f32,
    rate: f32,
    half: f32,
    step: f32,
}

impl Logistic {
    /// The upper edge a, or with `-half` the lower edge b, of level `i`, in units of the scale.
    #[inline(always)]
    fn edge<V: Vector>(self, i: V, half: f32) -> V {
        let v = i.mul_add(V::splat(self.step), V::splat(-1.0));
        v.add(V::splat(half)).sub(V::splat(self.mean)).mul(V::splat(self.rate))
    }

    /// sigma(a).
    #[inline(always)]
    fn below(self, i: f32) -> f32 {
        maths::sigmoid(self.edge(i, self.half))
    }

    /// sigma(-b).
    #[inline(always)]
    fn above(self, i: f32) -> f32 {
        maths::sigmoid(0.0 - self.edge(i, -self.half))
    }

    /// `p = fma(weight, sigma(a) sigma(-b) (1 - e^(b - a)), p)`; `b - a` is the same for every level.
    #[inline(always)]
    fn add_to<V: Vector>(self, out: &mut [f32]) {
        let inside =
            0.0 - maths::exp_minus_one_within((0.0 - self.step * self.rate).at_least(-80.0));
        let mut levels = [0.0; 16];
        let mut chunks = out.chunks_exact_mut(V::N);
        let mut start = 0.0;
        for out in &mut chunks {
            for (j, level) in levels[..V::N].iter_mut().enumerate() {
                *level = start + j as f32;
            }
            self.term(V::read(&levels), inside)
                .mul_add(V::splat(self.weight), V::read(out))
                .write(out);
            start += V::N as f32;
        }
        for y in chunks.into_remainder() {
            *y = self.term(start, inside).mul_add(self.weight, *y);
            start += 1.0;
        }
    }

    #[inline(always)]
    fn term<V: Vector>(self, i: V, inside: f32) -> V {
        let one = V::splat(1.0);
        let below = one.add(maths::exp_of_minus(self.edge(i, self.half)));
        let above = one.add(maths::exp_of_minus(V::splat(0.0).sub(self.edge(i, -self.half))));
        V::splat(inside).div(below.mul(above))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, kernels};
    use super::*;

    const WEIGHTS: [f32; 3] = [0.3, -1.0, 2.0];
    const MEANS: [f32; 3] = [-0.9, 0.1, 0.4];

    /// The formula in f64.
    fn reference(log_scales: [f32; 3], levels: usize) -> Vec<f64> {
        let total: f64 = WEIGHTS.iter().map(|&w| (w as f64).exp()).sum();
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let half = 1.0 / (levels - 1) as f64;
        let level = |i: usize| {
            let of_component = |m: usize| {
                let (v, rate) = (2.0 * half * i as f64 - 1.0, (-log_scales[m] as f64).exp());
                let (a, b) =
                    ((v + half - MEANS[m] as f64) * rate, (v - half - MEANS[m] as f64) * rate);
                let prob = match i {
                    0 => sigma(a),
                    i if i == levels - 1 => sigma(-b),
                    _ => sigma(a) * sigma(-b) * -(b - a).exp_m1(),
                };
                (WEIGHTS[m] as f64).exp() / total * prob
            };
            (0..3).map(of_component).sum()
        };
        (0..levels).map(level).collect()
    }

    #[test]
    fn logistics_sum_to_one_and_follow_the_reference() {
        for log_scales in [[-3.0, -2.0, -1.0], [0.0, 1.0, 4.0], [-7.0, -6.0, -5.0]] {
            for levels in [2, 3, 17, 256] {
                let reference = reference(log_scales, levels);
                for kernel in kernels() {
                    let mut found = vec![0.0; levels];
                    kernel.discretised_logistics(&WEIGHTS, &MEANS, &log_scales, &mut found);
                    let total: f64 = found.iter().map(|&y| (y as f64).exp()).sum();
                    assert!((total - 1.0).abs() < 1e-5, "{total} {log_scales:?} {levels}");
                    for (i, (&y, p)) in found.iter().zip(&reference).enumerate() {
                        let expected = p.ln().max(-80.0);
                        let floor = (1.0 + (-80.0 - expected).exp()).ln(); // what the floor adds
                        let tolerance = 1e-5 - expected * 2e-5 + floor;
                        assert!(
                            (y as f64 - expected).abs() < tolerance,
                            "{i}: {y} {expected} {log_scales:?} {levels}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn logistics_have_the_same_bits_in_every_variant() {
        for levels in [2, 16, 37, 256] {
            let outcome = |kernel: Kernel| {
                let mut out = vec![0.0; levels];
                kernel.discretised_logistics(&WEIGHTS, &MEANS, &[-3.0, -1.0, 0.5], &mut out);
                bits(&out)
            };
            for kernel in kernels() {
                assert_eq!(
                    outcome(kernel),
                    outcome(kernels()[kernels().len() - 4]),
                    "{kernel:?} {levels}"
                );
            }
        }
    }

    #[test]
    fn logistics_stay_finite_at_the_extremes_and_show_nan() {
        for kernel in kernels() {
            let mut out = [0.0; 20];
            for (mean, log_scale) in
                [(0.0, -1000.0), (5.0, -30.0), (-1e30, 0.0), (0.0, 60.0), (0.3, 1000.0)]
            {
                kernel.discretised_logistics(&[0.0], &[mean], &[log_scale], &mut out);
                assert!(
                    out.iter().all(|y| (-80.0..=0.0).contains(y)),
                    "{mean} {log_scale}: {out:?}"
                );
            }
            for [w, m, s] in [[f32::NAN, 0.0, 0.0], [0.0, f32::NAN, 0.0], [0.0, 0.0, f32::NAN]] {
                kernel.discretised_logistics(&[w], &[m], &[s], &mut out);
                assert!(out.iter().all(|y| y.is_nan()), "{w} {m} {s}: {out:?}");
            }
        }
    }
}
