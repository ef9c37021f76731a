//! The softmax of one conditional distribution, its levels side by side.
//!
//! Sums over levels are defined: 16 partial sums, the j-th over levels j, j + 16, ..., then added in pairs of distance
//! 8, 4, 2 and 1.

use super::Kernel;
use super::maths;
use super::vector::{Task, Vector, dispatch};

const PARTS: usize = 16;

impl Kernel {
    /// `ln sum_i e^x_i`, the greatest logit subtracted first; minus infinity logits have no part in it.
    ///
    /// NaN if a logit is NaN or plus infinity, or if all are minus infinity.
    pub fn log_sum_exp(&self, logits: &[f32]) -> f32 {
        dispatch(self.machine(), LogSumExp { logits })
    }

    /// `out_i = e^(x_i - log_sum_exp(x))`; returns the `log_sum_exp`.
    ///
    /// Computed as `e^(x_i - max) * (1 / sum)`. NaN throughout where [`Kernel::log_sum_exp`] is.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn softmax(&self, logits: &[f32], out: &mut [f32]) -> f32 {
        assert_eq!(logits.len(), out.len(), "softmax takes slices of one length");
        dispatch(self.machine(), Softmax { logits, out })
    }
}

/// The 16 of a chunk, filled up with minus infinity.
#[inline(always)]
fn padded(chunk: &[f32]) -> [f32; PARTS] {
    let mut whole = [f32::NEG_INFINITY; PARTS];
    whole[..chunk.len()].copy_from_slice(chunk);
    whole
}

/// Greatest number, NaN aside.
#[inline(always)]
fn greatest<V: Vector>(xs: &[f32]) -> f32 {
    let mut parts = [V::splat(f32::NEG_INFINITY); PARTS];
    let chunks = xs.chunks_exact(PARTS);
    let tail = padded(chunks.remainder());
    for chunk in chunks.chain([tail.as_slice()]) {
        for i in 0..PARTS / V::N {
            let x = V::read(&chunk[i * V::N..]);
            parts[i] = parts[i].if_less(x, x, parts[i]);
        }
    }
    let mut parts = spread(&parts);
    for distance in [8, 4, 2, 1] {
        for i in 0..distance {
            if parts[i] < parts[i + distance] {
                parts[i] = parts[i + distance];
            }
        }
    }
    parts[0]
}

/// The numbers in the first 16 / N vectors.
#[inline(always)]
fn spread<V: Vector>(parts: &[V; PARTS]) -> [f32; PARTS] {
    let mut numbers = [0.0; PARTS];
    for i in 0..PARTS / V::N {
        parts[i].write(&mut numbers[i * V::N..]);
    }
    numbers
}

#[inline(always)]
fn sum_of_parts<V: Vector>(parts: &[V; PARTS]) -> f32 {
    let mut parts = spread(parts);
    for distance in [8, 4, 2, 1] {
        for i in 0..distance {
            parts[i] += parts[i + distance];
        }
    }
    parts[0]
}

pub(super) struct LogSumExp<'a> {
    pub(super) logits: &'a [f32],
}

impl Task for LogSumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vector>(self) -> f32 {
        let max = greatest::<V>(self.logits);
        let mut sums = [V::splat(0.0); PARTS];
        let chunks = self.logits.chunks_exact(PARTS);
        let tail = padded(chunks.remainder());
        for chunk in chunks.chain([tail.as_slice()]) {
            for i in 0..PARTS / V::N {
                sums[i] = sums[i].add(maths::exp(V::read(&chunk[i * V::N..]).sub(V::splat(max))));
            }
        }
        max + maths::ln(sum_of_parts(&sums))
    }
}

struct Softmax<'a> {
    logits: &'a [f32],
    out: &'a mut [f32],
}

impl Task for Softmax<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vector>(self) -> f32 {
        let max = greatest::<V>(self.logits);
        let mut sums = [V::splat(0.0); PARTS];
        let (logits, mut out) = (self.logits.chunks_exact(PARTS), self.out.chunks_exact_mut(PARTS));
        let mut tail = padded(logits.remainder());
        for (logits, out) in logits.zip(&mut out) {
            for i in 0..PARTS / V::N {
                let y = maths::exp(V::read(&logits[i * V::N..]).sub(V::splat(max)));
                sums[i] = sums[i].add(y);
                y.write(&mut out[i * V::N..]);
            }
        }
        for i in 0..PARTS / V::N {
            let y = maths::exp(V::read(&tail[i * V::N..]).sub(V::splat(max)));
            sums[i] = sums[i].add(y);
            y.write(&mut tail[i * V::N..]);
        }
        let rest = out.into_remainder();
        rest.copy_from_slice(&tail[..rest.len()]);
        let sum = sum_of_parts(&sums);
        let scale = 1.0 / sum;
        for y in self.out {
            *y *= scale;
        }
        max + maths::ln(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, kernels, numbers};
    use super::*;

    fn logits(count: usize) -> Vec<f32> {
        numbers(count as u64, count).iter().map(|x| x * 9.0).collect()
    }

    #[test]
    fn softmax_sums_to_one_and_follows_the_reference() {
        for count in [1, 2, 15, 16, 17, 100, 256, 1000] {
            let logits = logits(count);
            let total: f64 = logits.iter().map(|&x| (x as f64).exp()).sum();
            for kernel in kernels() {
                let mut probs = vec![0.0; count];
                let log_sum = kernel.softmax(&logits, &mut probs);
                assert!((log_sum as f64 - total.ln()).abs() < 1e-6, "{log_sum} {}", total.ln());
                assert!((probs.iter().map(|&p| p as f64).sum::<f64>() - 1.0).abs() < 1e-6);
                for (&p, &x) in probs.iter().zip(&logits) {
                    let reference = (x as f64).exp() / total;
                    assert!((p as f64 - reference).abs() < 2e-6 * reference, "{p} {reference}");
                }
            }
        }
    }

    #[test]
    fn softmax_and_log_sum_exp_have_the_same_bits_in_every_variant() {
        for count in [1, 15, 16, 17, 256, 1000] {
            let logits = logits(count);
            let outcome = |kernel: Kernel| {
                let mut probs = vec![0.0; count];
                let log_sum = kernel.softmax(&logits, &mut probs);
                assert_eq!(log_sum.to_bits(), kernel.log_sum_exp(&logits).to_bits());
                (log_sum.to_bits(), bits(&probs))
            };
            for kernel in kernels() {
                assert_eq!(
                    outcome(kernel),
                    outcome(kernels()[kernels().len() - 4]),
                    "{kernel:?} {count}"
                );
            }
        }
    }

    #[test]
    fn an_excluded_level_has_probability_zero_and_nan_is_not_hidden() {
        for kernel in kernels() {
            let mut probs = [0.0; 3];
            kernel.softmax(&[1.0, f32::NEG_INFINITY, 1.0], &mut probs);
            assert_eq!(bits(&probs), bits(&[0.5, 0.0, 0.5]));
            assert!(kernel.softmax(&[1.0, f32::NAN, 1.0], &mut probs).is_nan());
            assert!(probs.iter().all(|p| p.is_nan()));
            assert!(kernel.log_sum_exp(&[f32::NEG_INFINITY; 3]).is_nan());
        }
    }
}
