//! Rotary positions: halves of a head are turned by angles proportional to the position.
//!
//! Sines, cosines and powers come from f64 additions, multiplications and divisions only, in the order of the code, each
//! rounded as IEEE 754 says, and are rounded to f32 once.

use std::f64::consts::{FRAC_2_PI, LN_2, LOG2_E, SQRT_2};

use super::Kernel;
use super::vector::{Task, Vector, dispatch};

/// Angles a position of each pair of a head: `theta^(-2 i / D)` for `i < D / 2`
/// (Su et al., "RoFormer", 2021, <https://arxiv.org/abs/2104.09864>); within 1e-13 relatively.
pub fn rotary_frequencies(theta: f64, depth: usize) -> Vec<f64> {
    let ln_theta = ln(theta);
    (0..depth / 2).map(|i| exp(-(2.0 * i as f64 / depth as f64) * ln_theta)).collect()
}

/// Cosines and sines of the angles of positions, grown as positions are asked for.
#[derive(Debug, Clone)]
pub struct Rotations {
    frequencies: Vec<f64>,
    table: Vec<f32>, // [position][cosines: D / 2, sines: D / 2]
}

impl Rotations {
    /// Pair i of position p is turned by the angle `p frequencies[i]`.
    pub fn new(frequencies: Vec<f64>) -> Self {
        Self { frequencies, table: Vec::new() }
    }

    /// Makes the table reach `positions`.
    pub fn reach(&mut self, positions: usize) {
        let width = 2 * self.frequencies.len();
        for position in self.table.len() / width.max(1)..positions {
            let turns = self.frequencies.iter().map(|it| sin_cos(position as f64 * it));
            let (sines, cosines): (Vec<f32>, Vec<f32>) =
                turns.map(|(sine, cosine)| (sine as f32, cosine as f32)).unzip();
            self.table.extend(cosines);
            self.table.extend(sines);
        }
    }

    /// Cosines, then sines, of a position that was reached.
    fn at(&self, position: usize) -> &[f32] {
        let width = 2 * self.frequencies.len();
        &self.table[position * width..][..width]
    }
}

impl Kernel {
    /// Turns every head of `heads` `[head][D]` by the angles of `position`: of a pair `(a, b)`, channels i and i + D / 2,
    /// `a = fnma(b, sin, a cos)` and `b = fma(a, sin, b cos)`.
    ///
    /// # Panics
    /// If the heads are not whole, or the table does not reach the position.
    pub fn rotate(&self, rotations: &Rotations, position: usize, heads: &mut [f32]) {
        let table = rotations.at(position);
        let floats = heads.len();
        assert!(floats.is_multiple_of(table.len()), "{floats} floats in heads of {}", table.len());
        dispatch(self.machine(), Rotate { table, heads });
    }
}

struct Rotate<'a> {
    table: &'a [f32],
    heads: &'a mut [f32],
}

#[inline(always)]
fn turn<V: Vector>(a: V, b: V, cosine: V, sine: V) -> (V, V) {
    (b.neg_mul_add(sine, a.mul(cosine)), a.mul_add(sine, b.mul(cosine)))
}

impl Task for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let half = self.table.len() / 2;
        let whole = half - half % V::N;
        let (cosines, sines) = self.table.split_at(half);
        for head in self.heads.chunks_exact_mut(2 * half) {
            let (a, b) = head.split_at_mut(half);
            for at in (0..whole).step_by(V::N) {
                let (cosine, sine) = (V::read(&cosines[at..]), V::read(&sines[at..]));
                let (x, y) = turn(V::read(&a[at..]), V::read(&b[at..]), cosine, sine);
                x.write(&mut a[at..]);
                y.write(&mut b[at..]);
            }
            for at in whole..half {
                (a[at], b[at]) = turn(a[at], b[at], cosines[at], sines[at]);
            }
        }
    }
}

const LN_2_HIGH: f64 = 0.693_147_180_369_123_8; // 33 bits, so that n * LN_2_HIGH is exact for n below 2^20
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
const HALF_PI_HIGH: f64 = 1.570_796_326_734_125_6; // 33 bits
const HALF_PI_LOW: f64 = 6.077_100_506_506_192e-11;

/// ln x of a positive normal number: `2 atanh((m - 1) / (m + 1)) + e ln 2` for `x = m 2^e`, m within sqrt(1/2)..sqrt(2).
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut e = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = (0..12).rev().fold(0.0, |sum, n| sum * square + 1.0 / (2 * n + 1) as f64);
    e as f64 * LN_2 + 2.0 * s * series
}

/// e^x for |x| below 700, by its series around the nearest multiple of ln 2.
fn exp(x: f64) -> f64 {
    let n = (x * LOG2_E).round();
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let series = (1..=16).rev().fold(1.0, |sum, n| 1.0 + sum * r / f64::from(n));
    series * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// Sine and cosine, by their series around the nearest multiple of pi / 2; within 1e-9 for |x| below 2^24.
fn sin_cos(x: f64) -> (f64, f64) {
    let n = (x * FRAC_2_PI).round();
    let r = (x - n * HALF_PI_HIGH) - n * HALF_PI_LOW;
    let square = r * r;
    let series = |first: u32| {
        let terms = (0..9).rev().map(|n| f64::from((2 * n + first) * (2 * n + first + 1)));
        terms.fold(1.0, |sum, factor| 1.0 - sum * square / factor)
    };
    let (sine, cosine) = (r * series(2), series(1));
    match (n as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, kernels, numbers};
    use super::*;

    #[test]
    fn frequencies_and_angles_follow_the_library() {
        for (theta, depth) in [(1e4, 64), (1e5, 64), (5e5, 128), (2.5, 10)] {
            for (i, frequency) in rotary_frequencies(theta, depth).into_iter().enumerate() {
                let wanted = f64::powf(theta, -2.0 * i as f64 / depth as f64);
                assert!((frequency / wanted - 1.0).abs() < 1e-13, "{theta} {i}: {frequency}");
            }
        }
        for i in 0..20_000 {
            let x = f64::from(i) * 6.543_21;
            let (sine, cosine) = sin_cos(x);
            let error = (sine - x.sin()).abs().max((cosine - x.cos()).abs());
            assert!(error < 1e-11, "at {x}: {error:e}");
        }
    }

    #[test]
    fn the_bits_are_those_that_written_files_rely_on() {
        let mut rotations = Rotations::new(rotary_frequencies(1e4, 6));
        rotations.reach(1000);
        let found: Vec<u32> = rotations.at(999).iter().map(|it| it.to_bits()).collect();
        let wanted = [0x3f7f_e90e, 0xbf3a_8a2a, 0xbf0c_9c9b, 0xbcd8_c438, 0x3f2f_5343, 0x3f55_ed0f];
        assert_eq!(found, wanted);
    }

    #[test]
    fn rotation_is_its_formula_bit_for_bit_and_nothing_at_position_0() {
        for depth in [2, 6, 16, 64] {
            let mut rotations = Rotations::new(rotary_frequencies(1e4, depth));
            rotations.reach(8);
            let heads = numbers(9, 3 * depth);
            let table = rotations.at(7);
            let mut wanted = heads.clone();
            for head in wanted.chunks_mut(depth) {
                for i in 0..depth / 2 {
                    let (a, b) = (head[i], head[i + depth / 2]);
                    let (cosine, sine) = (table[i], table[i + depth / 2]);
                    head[i] = (-b).mul_add(sine, a * cosine);
                    head[i + depth / 2] = a.mul_add(sine, b * cosine);
                }
            }
            for kernel in kernels() {
                let (mut found, mut still) = (heads.clone(), heads.clone());
                kernel.rotate(&rotations, 7, &mut found);
                assert_eq!(bits(&found), bits(&wanted), "{kernel:?} {depth}");
                kernel.rotate(&rotations, 0, &mut still);
                assert_eq!(still, heads);
            }
        }
    }

    #[test]
    fn scores_depend_on_the_distance_only() {
        let mut rotations = Rotations::new(rotary_frequencies(1e4, 32));
        rotations.reach(300);
        let kernel = kernels()[0];
        let score = |query_at: usize, key_at: usize| -> f32 {
            let (mut query, mut key) = (numbers(1, 32), numbers(2, 32));
            kernel.rotate(&rotations, query_at, &mut query);
            kernel.rotate(&rotations, key_at, &mut key);
            query.iter().zip(&key).map(|(q, k)| q * k).sum()
        };
        for shift in [1, 100, 250] {
            assert!((score(40, 7) - score(40 + shift, 7 + shift)).abs() < 1e-5, "{shift}");
        }
        assert!((score(40, 7) - score(41, 7)).abs() > 1e-3);
    }
}
