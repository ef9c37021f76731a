//! Norms of columns: each is divided by its own size, then scaled by weights.
//!
//! Sums over channels are defined: 16 partial sums, the p-th over channels p, p + 16, ..., then added in pairs of
//! distance 8, 4, 2 and 1. A partial sum of squares is a chain of fused multiply-adds. Columns lie as `[column][C]`.

use super::Kernel;
use super::vector::{Task, Vector, dispatch};

const PARTS: usize = 16;

impl Kernel {
    /// `y = (x s) w` with `s = 1 / sqrt(sum(x^2) / C + epsilon)`, for each column of `ws.len()` channels
    /// (Zhang and Sennrich, 2019, <https://arxiv.org/abs/1910.07467>).
    ///
    /// # Panics
    /// If `xs` is not whole columns, or `ys` has another length.
    pub fn rms_norm(&self, xs: &[f32], ws: &[f32], epsilon: f32, ys: &mut [f32]) {
        ensure_columns(xs, ws, ys);
        dispatch(self.machine(), RmsNorm { xs, ws, epsilon, ys });
    }

    /// `y = fma((x - m) s, w, b)` with `m = sum(x) / C`, `s = 1 / sqrt(sum((x - m)^2) / C + epsilon)`, for each column;
    /// `affine` is weights w and biases b (Ba et al., 2016, <https://arxiv.org/abs/1607.06450>).
    ///
    /// # Panics
    /// If `xs` is not whole columns, `ys` has another length, or there are not as many biases as weights.
    pub fn layer_norm(&self, xs: &[f32], affine: (&[f32], &[f32]), epsilon: f32, ys: &mut [f32]) {
        let (ws, bs) = affine;
        ensure_columns(xs, ws, ys);
        assert_eq!(ws.len(), bs.len(), "a bias for each weight");
        dispatch(self.machine(), LayerNorm { xs, ws, bs, epsilon, ys });
    }
}

fn ensure_columns(xs: &[f32], ws: &[f32], ys: &[f32]) {
    let (floats, width) = (xs.len(), ws.len());
    assert!(
        width > 0 && floats.is_multiple_of(width) && ys.len() == floats,
        "{floats} floats in columns of {width}, normed to {}",
        ys.len()
    );
}

/// A sum over the channels of a column, in the stated order.
trait Term: Copy {
    /// Must be `inline(always)`.
    fn add<V: Vector>(self, x: V, sum: V) -> V;
}

/// x.
#[derive(Clone, Copy)]
struct Plain;

/// `(x - mean)^2`.
#[derive(Clone, Copy)]
struct Square {
    mean: f32,
}

impl Term for Plain {
    #[inline(always)]
    fn add<V: Vector>(self, x: V, sum: V) -> V {
        sum.add(x)
    }
}

impl Term for Square {
    #[inline(always)]
    fn add<V: Vector>(self, x: V, sum: V) -> V {
        let x = x.sub(V::splat(self.mean));
        x.mul_add(x, sum)
    }
}

#[inline(always)]
fn sum<V: Vector, T: Term>(xs: &[f32], term: T) -> f32 {
    let mut sums = [V::splat(0.0); PARTS];
    let chunks = xs.chunks_exact(PARTS);
    let tail = chunks.remainder();
    for chunk in chunks {
        for i in 0..PARTS / V::N {
            sums[i] = term.add(V::read(&chunk[i * V::N..]), sums[i]);
        }
    }
    let mut parts = [0.0; PARTS];
    for i in 0..PARTS / V::N {
        sums[i].write(&mut parts[i * V::N..]);
    }
    for (part, &x) in parts.iter_mut().zip(tail) {
        *part = term.add(x, *part);
    }
    for distance in [8, 4, 2, 1] {
        for i in 0..distance {
            parts[i] += parts[i + distance];
        }
    }
    parts[0]
}

struct RmsNorm<'a> {
    xs: &'a [f32],
    ws: &'a [f32],
    epsilon: f32,
    ys: &'a mut [f32],
}

impl Task for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { xs, ws, epsilon, ys } = self;
        let width = ws.len();
        let whole = width - width % V::N;
        for (xs, ys) in xs.chunks_exact(width).zip(ys.chunks_exact_mut(width)) {
            let squares = sum::<V, _>(xs, Square { mean: 0.0 });
            let scale = 1.0 / (squares / width as f32 + epsilon).sqrt();
            for at in (0..whole).step_by(V::N) {
                let y = V::read(&xs[at..]).mul(V::splat(scale)).mul(V::read(&ws[at..]));
                y.write(&mut ys[at..]);
            }
            for at in whole..width {
                ys[at] = xs[at] * scale * ws[at];
            }
        }
    }
}

struct LayerNorm<'a> {
    xs: &'a [f32],
    ws: &'a [f32],
    bs: &'a [f32],
    epsilon: f32,
    ys: &'a mut [f32],
}

impl Task for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { xs, ws, bs, epsilon, ys } = self;
        let width = ws.len();
        let whole = width - width % V::N;
        for (xs, ys) in xs.chunks_exact(width).zip(ys.chunks_exact_mut(width)) {
            let mean = sum::<V, _>(xs, Plain) / width as f32;
            let squares = sum::<V, _>(xs, Square { mean });
            let scale = 1.0 / (squares / width as f32 + epsilon).sqrt();
            for at in (0..whole).step_by(V::N) {
                let x = V::read(&xs[at..]).sub(V::splat(mean)).mul(V::splat(scale));
                x.mul_add(V::read(&ws[at..]), V::read(&bs[at..])).write(&mut ys[at..]);
            }
            for at in whole..width {
                ys[at] = ((xs[at] - mean) * scale).mul_add(ws[at], bs[at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, kernels, numbers};
    use super::*;

    /// The definition, one number after the other.
    fn chain(xs: &[f32], mean: Option<f32>) -> f32 {
        let mut parts = [0.0f32; PARTS];
        for (c, x) in xs.iter().enumerate() {
            let part = &mut parts[c % PARTS];
            *part = mean.map_or(*part + x, |mean| (x - mean).mul_add(x - mean, *part));
        }
        for distance in [8, 4, 2, 1] {
            for i in 0..distance {
                parts[i] += parts[i + distance];
            }
        }
        parts[0]
    }

    #[test]
    fn norms_are_their_formulas_bit_for_bit_in_every_variant() {
        for width in [1, 5, 16, 23, 40, 128] {
            let xs: Vec<f32> = numbers(1, 3 * width).iter().map(|x| x * 4.0 + 1.0).collect();
            let (ws, bs) = (numbers(2, width), numbers(3, width));
            let (mut rms, mut layer) = (Vec::new(), Vec::new());
            for xs in xs.chunks(width) {
                let scale = 1.0 / (chain(xs, Some(0.0)) / width as f32 + 1e-5).sqrt();
                rms.extend(xs.iter().zip(&ws).map(|(x, w)| x * scale * w));
                let mean = chain(xs, None) / width as f32;
                let scale = 1.0 / (chain(xs, Some(mean)) / width as f32 + 1e-5).sqrt();
                let affine = ws.iter().zip(&bs);
                layer.extend(
                    xs.iter().zip(affine).map(|(x, (w, b))| ((x - mean) * scale).mul_add(*w, *b)),
                );
            }
            for kernel in kernels() {
                let mut ys = vec![0.0; xs.len()];
                kernel.rms_norm(&xs, &ws, 1e-5, &mut ys);
                assert_eq!(bits(&ys), bits(&rms), "{kernel:?} {width}");
                kernel.layer_norm(&xs, (&ws, &bs), 1e-5, &mut ys);
                assert_eq!(bits(&ys), bits(&layer), "{kernel:?} {width}");
            }
        }
    }

    #[test]
    fn a_normed_column_has_the_size_and_the_mean_that_it_should() {
        let xs: Vec<f32> = numbers(1, 100).iter().map(|x| x * 7.0 + 3.0).collect();
        let (ones, zeros) = (vec![1.0; 100], vec![0.0; 100]);
        for kernel in kernels() {
            let mut ys = vec![0.0; 100];
            let mean_square =
                |ys: &[f32]| ys.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>() / 100.0;
            kernel.rms_norm(&xs, &ones, 1e-6, &mut ys);
            assert!((mean_square(&ys) - 1.0).abs() < 1e-5);
            kernel.layer_norm(&xs, (&ones, &zeros), 1e-6, &mut ys);
            assert!((mean_square(&ys) - 1.0).abs() < 1e-5);
            assert!(ys.iter().sum::<f32>().abs() < 1e-3);
        }
    }
}
