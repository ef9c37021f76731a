//! Quantised blocks as unsigned integers, scales and offsets: the integers and scales of the file, none rounded again.

use half::f16;

use crate::encoded::Encoding;

/// How scales are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    F16,
    Bf16,
    /// Products of a scale and a whole number: no half holds them.
    F32,
}

impl Scale {
    /// Bytes of one.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }
}

/// What makes weights of unsigned integers `q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offset {
    /// `d (q - bias)`.
    Bias(i32),
    /// `d q + m`, m kept beside d.
    Least,
}

/// Integers in groups of a common scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Integers {
    /// Values of a group: 16, 32 or 64.
    pub(super) group: usize,
    /// Whether two share a byte.
    pub(super) nibbles: bool,
    pub(super) scale: Scale,
    pub(super) offset: Offset,
}

impl Integers {
    /// Those of an encoding; none of plain numbers.
    pub(super) const fn of(encoding: Encoding) -> Option<Self> {
        use Offset::{Bias, Least};
        let (group, nibbles, scale, offset) = match encoding {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => return None,
            Encoding::Q4_0 => (32, true, Scale::F16, Bias(8)),
            Encoding::Q4_1 => (32, true, Scale::F16, Least),
            Encoding::Q5_0 => (32, false, Scale::F16, Bias(16)),
            Encoding::Q5_1 => (32, false, Scale::F16, Least),
            Encoding::Q8_0 => (32, false, Scale::F16, Bias(128)),
            Encoding::Q4K => (32, true, Scale::F32, Least),
            Encoding::Q5K => (32, false, Scale::F32, Least),
            Encoding::Q6K => (16, false, Scale::F32, Bias(32)),
            Encoding::Int8 => (64, false, Scale::Bf16, Bias(128)),
            Encoding::Int4 => (64, true, Scale::Bf16, Bias(8)),
        };
        Some(Self { group, nibbles, scale, offset })
    }
}

/// The greatest block.
const VALUES: usize = 256;
const GROUPS: usize = 16;

/// One block, in the order of its values.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) q: [u8; VALUES],
    /// Bits of each group's d, 16 or 32 of them.
    pub(super) scales: [u32; GROUPS],
    /// Bits of each group's m.
    pub(super) least: [u32; GROUPS],
}

impl Block {
    pub(super) const fn new() -> Self {
        Self { q: [0; VALUES], scales: [0; GROUPS], least: [0; GROUPS] }
    }

    /// Reads a block of `encoding`.
    ///
    /// # Panics
    /// If it is no block of integers.
    #[inline]
    pub(super) fn read(&mut self, encoding: Encoding, block: &[u8]) {
        match encoding {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => panic!("{encoding} has no integers"),
            Encoding::Q4_0 | Encoding::Int4 => {
                self.scales[0] = half(block, 0);
                self.nibbles(&block[2..], &[]);
            }
            Encoding::Q4_1 => {
                (self.scales[0], self.least[0]) = (half(block, 0), half(block, 2));
                self.nibbles(&block[4..], &[]);
            }
            Encoding::Q5_0 => {
                self.scales[0] = half(block, 0);
                self.nibbles(&block[6..], &block[2..6]);
            }
            Encoding::Q5_1 => {
                (self.scales[0], self.least[0]) = (half(block, 0), half(block, 2));
                self.nibbles(&block[8..], &block[4..8]);
            }
            Encoding::Q8_0 | Encoding::Int8 => {
                self.scales[0] = half(block, 0);
                for (q, byte) in self.q.iter_mut().zip(&block[2..]) {
                    *q = byte ^ 128; // as much as + 128
                }
            }
            Encoding::Q4K => {
                self.scales_of_six_bits(block);
                self.quarters(&block[16..], None);
            }
            Encoding::Q5K => {
                self.scales_of_six_bits(block);
                self.quarters(&block[48..], Some(&block[16..48]));
            }
            Encoding::Q6K => self.six_bits(block),
        }
    }

    /// Lower halves are the first values, upper halves the others; `high` has a fifth bit for each.
    fn nibbles(&mut self, bytes: &[u8], high: &[u8]) {
        let (low, upper) = self.q.split_at_mut(bytes.len());
        for ((low, upper), byte) in low.iter_mut().zip(upper).zip(bytes) {
            (*low, *upper) = (byte & 15, byte >> 4);
        }
        for (q, i) in self.q.iter_mut().zip(0..8 * high.len()) {
            *q |= (high[i / 8] >> (i % 8) & 1) << 4;
        }
    }

    /// Eight scales and least values of six bits each, in units of two halves.
    fn scales_of_six_bits(&mut self, block: &[u8]) {
        let (d, m) = (f16_at(block, 0), f16_at(block, 2));
        let packed = &block[4..16];
        for j in 0..8 {
            let (scale, least) = if j < 4 {
                (packed[j] & 63, packed[j + 4] & 63)
            } else {
                (
                    packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
                    packed[j + 4] >> 4 | packed[j] >> 6 << 4,
                )
            };
            self.scales[j] = (d * f32::from(scale)).to_bits();
            self.least[j] = (-m * f32::from(least)).to_bits();
        }
    }

    /// Four times 64 values, of which lower halves are the first 32; `high` has bits 2i and 2i + 1 for quarter i.
    fn quarters(&mut self, bytes: &[u8], high: Option<&[u8]>) {
        for (i, q) in self.q.chunks_exact_mut(64).enumerate() {
            for l in 0..32 {
                let byte = bytes[32 * i + l];
                let fifth = high.map_or(0, |it| it[l] >> (2 * i));
                q[l] = byte & 15 | (fifth & 1) << 4;
                q[32 + l] = byte >> 4 | (fifth >> 1 & 1) << 4;
            }
        }
    }

    fn six_bits(&mut self, block: &[u8]) {
        let d = f16_at(block, 208);
        for (j, scale) in block[192..208].iter().enumerate() {
            self.scales[j] = (d * f32::from(scale.cast_signed())).to_bits();
        }
        for (i, q) in self.q.chunks_exact_mut(128).enumerate() {
            let (low, high) = (&block[64 * i..], &block[128 + 32 * i..]);
            for l in 0..32 {
                q[l] = low[l] & 15 | (high[l] & 3) << 4;
                q[l + 32] = low[l + 32] & 15 | (high[l] >> 2 & 3) << 4;
                q[l + 64] = low[l] >> 4 | (high[l] >> 4 & 3) << 4;
                q[l + 96] = low[l + 32] >> 4 | (high[l] >> 6) << 4;
            }
        }
    }
}

fn half(block: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([block[at], block[at + 1]]))
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
