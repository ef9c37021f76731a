//! Activations of feed-forward networks, over slices. A number's bits depend neither on its place nor on the length.

use super::Kernel;
use super::maths;
use super::vector::{Task, Vector, dispatch};

impl Kernel {
    /// `x = x Phi(x)`, with the normal distribution's Phi within 2e-7 (Hendrycks and Gimpel, 2016,
    /// <https://arxiv.org/abs/1606.08415>).
    pub fn gelu(&self, xs: &mut [f32]) {
        dispatch(self.machine(), Each { xs, function: Gelu });
    }

    /// `x = x sigmoid(2 u)` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`: the approximation by tanh,
    /// `(1 + tanh u) / 2 = sigmoid(2 u)`.
    pub fn gelu_tanh(&self, xs: &mut [f32]) {
        dispatch(self.machine(), Each { xs, function: GeluTanh });
    }

    /// `y = a sigmoid(a) b` for columns `[a: C, b: C]` of `xs`, to columns of C of `ys`
    /// (Shazeer, 2020, <https://arxiv.org/abs/2002.05202>).
    ///
    /// # Panics
    /// If `xs` is not twice as long as `ys`, or not whole columns.
    pub fn swish_gate(&self, xs: &[f32], channels: usize, ys: &mut [f32]) {
        let (floats, gated) = (xs.len(), ys.len());
        assert!(
            channels > 0 && floats == 2 * gated && gated.is_multiple_of(channels),
            "{floats} floats in columns of twice {channels}, gated to {gated}"
        );
        dispatch(self.machine(), SwishGate { xs, channels, ys });
    }
}

/// A function of one number.
trait Function: Copy {
    /// Must be `inline(always)`.
    fn of<V: Vector>(self, x: V) -> V;
}

#[derive(Clone, Copy)]
struct Gelu;

impl Function for Gelu {
    /// Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 7.1.26: with `z = |x| / sqrt(2)` and
    /// `t = 1 / (1 + p z)`, `1 - erf z = (a1 t + ... + a5 t^5) e^(-z^2)` within 1.5e-7.
    #[inline(always)]
    fn of<V: Vector>(self, x: V) -> V {
        let zero = V::splat(0.0);
        let minus = zero.sub(x);
        let z = minus.if_less(x, x, minus).mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = V::splat(1.0).div(z.mul_add(V::splat(0.327_591_1), V::splat(1.0)));
        let mut p = V::splat(1.061_405_4);
        p = p.mul_add(t, V::splat(-1.453_152));
        p = p.mul_add(t, V::splat(1.421_413_8));
        p = p.mul_add(t, V::splat(-0.284_496_74));
        p = p.mul_add(t, V::splat(0.254_829_6));
        let tail = p.mul(t).mul(maths::exp(zero.sub(z.mul(z)))).mul(V::splat(0.5));
        x.mul(zero.if_less(x, V::splat(1.0).sub(tail), tail))
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Function for GeluTanh {
    #[inline(always)]
    fn of<V: Vector>(self, x: V) -> V {
        let cubic = x.mul(x).mul_add(V::splat(0.044_715), V::splat(1.0)).mul(x);
        x.mul(maths::sigmoid(cubic.mul(V::splat(1.595_769)))) // 2 sqrt(2 / pi)
    }
}

struct Each<'a, F> {
    xs: &'a mut [f32],
    function: F,
}

impl<F: Function> Task for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut chunks = self.xs.chunks_exact_mut(V::N);
        for xs in &mut chunks {
            self.function.of(V::read(xs)).write(xs);
        }
        for x in chunks.into_remainder() {
            *x = self.function.of(*x);
        }
    }
}

struct SwishGate<'a> {
    xs: &'a [f32],
    channels: usize,
    ys: &'a mut [f32],
}

#[inline(always)]
fn swish<V: Vector>(a: V, b: V) -> V {
    a.mul(maths::sigmoid(a)).mul(b)
}

impl Task for SwishGate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let width = self.channels;
        let whole = width - width % V::N;
        for (xs, ys) in self.xs.chunks_exact(2 * width).zip(self.ys.chunks_exact_mut(width)) {
            let (a, b) = xs.split_at(width);
            for at in (0..whole).step_by(V::N) {
                swish(V::read(&a[at..]), V::read(&b[at..])).write(&mut ys[at..]);
            }
            for at in whole..width {
                ys[at] = swish(a[at], b[at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Variant;
    use super::super::tests::{bits, kernels, numbers};
    use super::*;

    /// `erf x` by its series, exact enough in f64 for |x| < 5.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelus_are_within_1e_6_of_their_formulas() {
        let kernel = Kernel::new(Variant::Portable, 1);
        let points: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 1.5e-3).collect();
        let (mut by_erf, mut by_tanh) = (points.clone(), points.clone());
        kernel.gelu(&mut by_erf);
        kernel.gelu_tanh(&mut by_tanh);
        for ((&x, erf_found), tanh_found) in points.iter().zip(by_erf).zip(by_tanh) {
            let x = f64::from(x);
            let wanted = 0.5 * x * (1.0 + erf(x / 2f64.sqrt()));
            assert!((f64::from(erf_found) - wanted).abs() < 1e-6, "{x} {erf_found} {wanted}");
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            let wanted = 0.5 * x * (1.0 + u.tanh());
            assert!((f64::from(tanh_found) - wanted).abs() < 1e-6, "{x} {tanh_found} {wanted}");
        }
    }

    #[test]
    fn activations_keep_to_their_limits_and_hide_no_nan() {
        for kernel in kernels() {
            for function in [Kernel::gelu, Kernel::gelu_tanh] {
                let mut xs = [1e4, 0.0, -1e4, f32::NAN];
                function(&kernel, &mut xs);
                assert_eq!(xs[..2], [1e4, 0.0]);
                assert!(xs[2].abs() < 1e-6 && xs[3].is_nan(), "{xs:?}");
            }
        }
    }

    #[test]
    fn activations_have_the_same_bits_in_every_variant_and_at_every_length() {
        let portable = Kernel::new(Variant::Portable, 1);
        for count in [1, 7, 16, 33] {
            let xs: Vec<f32> = numbers(4, 6 * count).iter().map(|x| x * x * x * 20.0).collect();
            for kernel in kernels() {
                for function in [Kernel::gelu, Kernel::gelu_tanh] {
                    let (mut found, mut wanted) = (xs.clone(), xs.clone());
                    function(&kernel, &mut found);
                    for x in &mut wanted {
                        function(&portable, std::slice::from_mut(x));
                    }
                    assert_eq!(bits(&found), bits(&wanted), "{kernel:?} {count}");
                }
                let mut found = vec![0.0; 3 * count];
                kernel.swish_gate(&xs, count, &mut found);
                let wanted: Vec<f32> = xs
                    .chunks(2 * count)
                    .flat_map(|xs| (0..count).map(|i| swish(xs[i], xs[count + i])))
                    .collect();
                assert_eq!(bits(&found), bits(&wanted), "{kernel:?} {count}");
            }
        }
    }

    #[test]
    fn a_swish_gate_is_its_formula() {
        let mut y = [0.0];
        Kernel::new(Variant::Portable, 1).swish_gate(&[1.5, -2.0], 1, &mut y);
        let wanted = 1.5 / (1.0 + (-1.5f64).exp()) * -2.0;
        assert!((f64::from(y[0]) - wanted).abs() < 1e-6);
    }
}
