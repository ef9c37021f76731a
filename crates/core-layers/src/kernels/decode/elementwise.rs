//! Norms, rotations and gates of one column. Sums run in 16 chains that are then added by halves.

use std::f32::consts::FRAC_1_SQRT_2;

use super::{
    lanes::{Lanes, Task},
    level::{LANES, Level},
};

/// The instructions in use, for one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    level: Level,
}

/// A layer that evens out the sizes of its input.
#[derive(Debug, Clone)]
pub struct Norm {
    /// What each place is multiplied by.
    pub weight: Vec<f32>,
    /// What is then added.
    pub bias: Option<Vec<f32>>,
    /// What keeps the division finite.
    pub epsilon: f32,
    /// Whether the mean is taken away first: a layer norm, otherwise of root mean square.
    pub centred: bool,
}

impl Kernel {
    pub(super) const fn new(level: Level) -> Self {
        Self { level }
    }

    pub(super) fn run<T: Task>(self, task: T) {
        self.level.run(task);
    }

    /// `(x - mean) / sqrt(mean((x - mean)^2) + eps) * w + b`, or the same without mean and bias.
    ///
    /// # Panics
    /// Unless all are of one length.
    pub fn norm(self, norm: &Norm, xs: &[f32], to: &mut [f32]) {
        let len = norm.weight.len();
        assert_eq!((xs.len(), to.len()), (len, len), "a norm of {len} numbers");
        self.run(Normalise { norm, xs, to });
    }

    /// Turns the halves of each head, `x' = x cos - y sin`, `y' = y cos + x sin`, by angles `[E / 2]` cosines, then sines.
    ///
    /// # Panics
    /// Unless `xs` are whole heads.
    pub fn rotate(self, xs: &mut [f32], turns: &[f32]) {
        assert!(xs.len().is_multiple_of(turns.len().max(1)), "whole heads of {}", turns.len());
        self.run(Rotate { xs, turns });
    }

    /// `silu(g) u` with `silu(g) = g / (1 + exp(-g))`.
    pub fn swiglu(self, gates: &[f32], ups: &[f32], to: &mut [f32]) {
        self.run(Gate { xs: gates, ups, to, of: |g, u| g * sigmoid(g) * u });
    }

    /// `x Phi(x)`, the error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26).
    pub fn gelu(self, xs: &[f32], to: &mut [f32]) {
        self.run(Gate { xs, ups: xs, to, of: |x, _| 0.5 * x * (1. + erf(x * FRAC_1_SQRT_2)) });
    }

    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    pub fn gelu_tanh(self, xs: &[f32], to: &mut [f32]) {
        const TWICE: f32 = 1.595_769; // 2 sqrt(2 / pi): (1 + tanh(u)) / 2 is the sigmoid of 2 u
        let gate = |x: f32, _| x * sigmoid(TWICE * (x + 0.044_715 * x * x * x));
        self.run(Gate { xs, ups: xs, to, of: gate });
    }
}

/// e^x to 2 units in the last place, for x up to 88; below -87 it is e^-87. NaN stays.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // what is added rounds to a whole number, which the last bits are then 127 more than: an exponent
    const ROUND: f32 = 12_582_912. + 127.;
    let x = if x < -87. { -87. } else { x };
    let x = if x > 88. { 88. } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4; // ln 2 in two parts, of which the first is short
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    (p * (r * r) + r + 1.) * f32::from_bits(shifted.to_bits() << 23)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1. / (1. + exp(-x))
}

#[inline(always)]
fn erf(x: f32) -> f32 {
    let y = x.abs();
    let t = 1. / (1. + 0.327_591_1 * y);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152_1;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    (1. - p * t * exp(-y * y)).copysign(x)
}

/// The sum of `f(x)`.
#[inline(always)]
fn sum(xs: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = xs.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for xs in whole {
        for (sum, &x) in sums.iter_mut().zip(xs) {
            *sum += f(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f(x);
    }
    total(sums)
}

/// The sum of 16, by halves.
#[inline(always)]
pub(super) fn total(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

struct Normalise<'a> {
    norm: &'a Norm,
    xs: &'a [f32],
    to: &'a mut [f32],
}

impl Task for Normalise<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { norm, xs, to } = self;
        let count = xs.len() as f32;
        let mean = if norm.centred { sum(xs, |x| x) / count } else { 0. };
        let scale = 1. / (sum(xs, |x| (x - mean) * (x - mean)) / count + norm.epsilon).sqrt();
        for ((to, &x), &w) in to.iter_mut().zip(xs).zip(&norm.weight) {
            *to = (x - mean) * scale * w;
        }
        if let Some(bias) = &norm.bias {
            for (to, &b) in to.iter_mut().zip(bias) {
                *to += b;
            }
        }
    }
}

struct Rotate<'a> {
    xs: &'a mut [f32],
    turns: &'a [f32],
}

impl Task for Rotate<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (cosines, sines) = self.turns.split_at(self.turns.len() / 2);
        for head in self.xs.chunks_exact_mut(self.turns.len().max(1)) {
            let (xs, ys) = head.split_at_mut(cosines.len());
            for (((x, y), &cosine), &sine) in xs.iter_mut().zip(ys).zip(cosines).zip(sines) {
                (*x, *y) = (*x * cosine - *y * sine, *y * cosine + *x * sine);
            }
        }
    }
}

struct Gate<'a, F> {
    xs: &'a [f32],
    ups: &'a [f32],
    to: &'a mut [f32],
    of: F,
}

impl<F: Fn(f32, f32) -> f32> Task for Gate<'_, F> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for ((to, &x), &up) in self.to.iter_mut().zip(self.xs).zip(self.ups) {
            *to = (self.of)(x, up);
        }
    }
}
