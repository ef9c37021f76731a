//! Linear maps in bfloat16 for steppers that need speed, not defined bits: weights and activations of 8 bits of mantissa,
//! sums in f32.
//!
//! Half the bytes of f32 pass through the caches, and processors with AVX-512 bf16 multiply two numbers where f32
//! multiplies one. AVX2 and portable code widen to f32. Variants differ in rounding; the exact engine is the reference.
//!
//! `y[row][o] += sum_t sum_k w[t][k][o] x_t[row][k]`. Letters: V voices, K inputs of all taps, O outputs, filled up to 16.
//! Shapes: x `[row][pair of k][lanes][2]` in bfloat16, y `[row][o][lanes]` in f32, a row 1 voice or 16. That is `2 V K O`
//! operations. Weights are `2 K O` bytes, read once for 16 voices in a row, else with AVX-512 bf16 once for 4, 2 or 1 voices
//! and by AVX2 and portable code once for each; an output is read and written once, 8 bytes, and inputs, 2 bytes each, once
//! for every 16 to 128 outputs (for each output where 16 voices share a row without it). With one voice the way of the
//! weights to the core should bind, an operation a byte; with 16 arithmetic. [`Kernel::round`] reads 4 bytes a number and
//! writes 2.
#![expect(
    clippy::inline_always,
    reason = "a body must end up inside the function that enables its instructions"
)]
#![expect(
    unsafe_code,
    reason = "vector intrinsics, and loops whose bounds were checked before them"
)]

mod dot;

use super::exact::Variant;
use dot::{Lanes, Rows};

/// Outputs in one tile.
const TILE: usize = 16;

/// One cache line: the weights of two inputs to 16 outputs, `[out][2]`.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u16; 2 * TILE]);

/// `x` rounded to the nearest bfloat16, ties to even; NaN stays NaN.
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The number that a bfloat16 stands for.
pub fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// Weights of a linear map as a sum over taps, `y[o] += sum_t sum_k w[t][k][o] x_t[k]`.
///
/// Packed as `[tile of 16 outputs][tap][pair of k][16][2]`; outputs beyond the last and an odd last k are zeros.
#[derive(Debug, Clone)]
pub struct Packed {
    lines: Vec<Line>,
    outs: usize,
    pairs: Vec<usize>, // of each tap, ceil(K / 2)
}

impl Packed {
    /// Packs `weight(tap, k, out)` for every `out < outs` and `k < taps[tap]`.
    pub fn new(outs: usize, taps: &[usize], weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        let pairs: Vec<usize> = taps.iter().map(|inputs| inputs.div_ceil(2)).collect();
        let mut lines = Vec::with_capacity(outs.div_ceil(TILE) * pairs.iter().sum::<usize>());
        for first in (0..outs).step_by(TILE) {
            for (tap, &inputs) in taps.iter().enumerate() {
                for pair in 0..inputs.div_ceil(2) {
                    let mut line = Line([0; 2 * TILE]);
                    for (out, slot) in (first..outs).zip(line.0.chunks_exact_mut(2)) {
                        for (k, slot) in (2 * pair..inputs).zip(slot) {
                            *slot = to_bf16(weight(tap, k, out));
                        }
                    }
                    lines.push(line);
                }
            }
        }
        Self { lines, outs, pairs }
    }

    /// Outputs, rounded up to whole tiles: what a row of `ys` has room for.
    pub const fn padded_outs(&self) -> usize {
        self.outs.next_multiple_of(TILE)
    }

    fn pairs_of_a_tile(&self) -> usize {
        self.pairs.iter().sum()
    }
}

/// What one tap reads, of each row; with 16 lanes a row is 16 voices.
#[derive(Debug, Clone, Copy)]
pub struct Tap<'a> {
    /// Pairs of activations `[row][pair][lanes][2]`.
    pub xs: &'a [u16],
    /// Numbers from one row to the next.
    pub stride: usize,
}

/// The best code for this processor, and how voices lie.
///
/// With 1 lane, each voice is a row `[channel]`; with 16, one row holds 16 voices `[channel][16]`, and of bfloat16
/// activations two channels side by side, `[pair][16][2]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    level: Level,
    lanes: usize,
}

/// Instructions in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Bf16,
    Avx2,
    Portable,
}

impl Kernel {
    /// The kernel for `rows` voices on `variant`: 16 lanes for more than 8, else one row each.
    ///
    /// [`Variant::Avx512`] uses bf16 instructions where the processor has them, otherwise AVX2.
    ///
    /// # Panics
    /// If this processor lacks `variant`.
    pub fn new(variant: Variant, rows: usize) -> Self {
        assert!(variant.is_available(), "this processor has no {variant}");
        let level = match variant {
            Variant::Portable => Level::Portable,
            _ if !Variant::Avx2.is_available() => Level::Portable,
            Variant::Avx512 if crate::autocast::cpu_has_bf16() => Level::Bf16,
            Variant::Avx512 | Variant::Avx2 => Level::Avx2,
        };
        Self { level, lanes: if rows > 8 { 16 } else { 1 } }
    }

    /// Voices in one row: 1 or 16.
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    /// Bfloat16 numbers that `channels` of a row take.
    pub const fn width(&self, channels: usize) -> usize {
        channels.next_multiple_of(2) * self.lanes
    }

    /// `y[row][o] += sum_t sum_k w[t][k][o] x_t[row][k]` for `rows` rows; a row of `ys` has [`Packed::padded_outs`]
    /// outputs times lanes.
    ///
    /// # Panics
    /// If there are not as many taps as the weights have, or slices end too early.
    pub fn accumulate(&self, weights: &Packed, taps: &[Tap<'_>], rows: usize, ys: &mut [f32]) {
        assert_eq!(taps.len(), weights.pairs.len(), "one activation for each tap");
        for (tap, &pairs) in taps.iter().zip(&weights.pairs) {
            let needed = (rows.max(1) - 1) * tap.stride + 2 * pairs * self.lanes;
            assert!(tap.xs.len() >= needed, "a tap reads {needed} numbers of {}", tap.xs.len());
        }
        let needed = rows * weights.padded_outs() * self.lanes;
        assert!(ys.len() >= needed, "ys has {} numbers, but {needed} are written", ys.len());
        if self.lanes == 1 {
            dot::run(self.level, Rows { weights, taps, count: rows, ys });
        } else {
            for row in 0..rows {
                let from = row * weights.padded_outs() * self.lanes;
                let ys = &mut ys[from..from + weights.padded_outs() * self.lanes];
                dot::run(self.level, Lanes { weights, taps, row, ys });
            }
        }
    }

    /// Rounds one row `[channel][lanes]` to `[pair][lanes][2]`.
    ///
    /// # Panics
    /// If `to` is not as long as [`Kernel::width`] says.
    pub fn round(&self, xs: &[f32], to: &mut [u16]) {
        let channels = xs.len() / self.lanes;
        assert_eq!(to.len(), self.width(channels), "room for every pair");
        dot::run(self.level, Round { xs, to, lanes: self.lanes });
    }
}

/// [`Kernel::round`] as a task.
struct Round<'a> {
    xs: &'a [f32],
    to: &'a mut [u16],
    lanes: usize,
}

impl dot::Task for Round<'_> {
    #[inline(always)]
    fn run(self) {
        let lanes = self.lanes;
        for (xs, to) in self.xs.chunks(2 * lanes).zip(self.to.chunks_exact_mut(2 * lanes)) {
            let (even, odd) = xs.split_at(lanes);
            for (lane, to) in to.chunks_exact_mut(2).enumerate() {
                to[0] = to_bf16(even[lane]);
                to[1] = odd.get(lane).map_or(0, |&x| to_bf16(x));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        (0..count as u64)
            .map(|i| crate::random::uniform_at(seed, "bf16", 0, i) as f32 - 0.5)
            .collect()
    }

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_special_numbers() {
        assert_eq!(from_bf16(to_bf16(1.)), 1.);
        assert_eq!(to_bf16(1. + 1. / 256.), to_bf16(1.), "a tie goes to the even one");
        assert_eq!(from_bf16(to_bf16(1. + 3. / 256.)), 1. + 4. / 256.);
        assert!(from_bf16(to_bf16(f32::NAN)).is_nan());
        assert_eq!(from_bf16(to_bf16(f32::NEG_INFINITY)), f32::NEG_INFINITY);
    }

    #[test]
    fn every_variant_gives_the_sum_of_products() {
        for variant in Variant::available() {
            for (outs, taps) in
                [(1, vec![1]), (16, vec![4]), (37, vec![5, 2]), (256, vec![64, 64, 3])]
            {
                for rows in [1, 2, 3, 4, 8, 16] {
                    check(variant, outs, &taps, rows);
                }
            }
        }
    }

    fn check(variant: Variant, outs: usize, taps: &[usize], voices: usize) {
        let kernel = Kernel::new(variant, voices);
        let lanes = kernel.lanes();
        let rows = voices / lanes;
        let ws = numbers(1, outs * taps.iter().sum::<usize>());
        let weight = |tap: usize, k: usize, out: usize| {
            from_bf16(to_bf16(ws[(taps[..tap].iter().sum::<usize>() + k) * outs + out]))
        };
        let packed = Packed::new(outs, taps, weight);
        let xs: Vec<Vec<f32>> = taps
            .iter()
            .map(|inputs| {
                numbers(2, inputs * voices).iter().map(|&x| from_bf16(to_bf16(x))).collect()
            })
            .collect();
        let rounded: Vec<Vec<u16>> = xs
            .iter()
            .zip(taps)
            .map(|(xs, &inputs)| {
                let mut to = vec![0; kernel.width(inputs) * rows];
                for (xs, to) in xs.chunks(inputs * lanes).zip(to.chunks_mut(kernel.width(inputs))) {
                    kernel.round(xs, to);
                }
                to
            })
            .collect();
        let list: Vec<Tap<'_>> = rounded
            .iter()
            .zip(taps)
            .map(|(xs, &inputs)| Tap { xs, stride: kernel.width(inputs) })
            .collect();
        let mut ys = vec![1.; rows * packed.padded_outs() * lanes];
        kernel.accumulate(&packed, &list, rows, &mut ys);
        for row in 0..rows {
            for out in 0..outs {
                for lane in 0..lanes {
                    let mut sum = 1f64;
                    for (tap, &inputs) in taps.iter().enumerate() {
                        for k in 0..inputs {
                            sum += f64::from(weight(tap, k, out))
                                * f64::from(xs[tap][(row * inputs + k) * lanes + lane]);
                        }
                    }
                    let found = ys[(row * packed.padded_outs() + out) * lanes + lane];
                    assert!(
                        (f64::from(found) - sum).abs() < 1e-4,
                        "{variant} {outs} {taps:?} {voices}: {found} {sum}"
                    );
                }
            }
        }
    }
}
