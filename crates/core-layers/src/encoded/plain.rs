//! Blocks to numbers, one at a time: the definition of every [`Encoding`].
//!
//! Every product here is exact in single precision (a scale of 11 bits, or 8, times at most 12 bits of the rest), so that a
//! value is rounded once at most, whether or not a multiplication and an addition are fused.

use half::{bf16, f16};

use super::{Encoding, k};

/// Writes the values that `bytes` hold.
pub(super) fn decode(encoding: Encoding, bytes: &[u8], out: &mut [f32]) {
    match encoding {
        Encoding::F32 => each(bytes, out, |block, out: &mut [f32; 1]| {
            *out = [f32::from_le_bytes(*block)];
        }),
        Encoding::F16 => each(bytes, out, |block: &[u8; 2], out: &mut [f32; 1]| {
            *out = [f16_at(block, 0)];
        }),
        Encoding::Bf16 => each(bytes, out, |block: &[u8; 2], out: &mut [f32; 1]| {
            *out = [bf16_at(block, 0)];
        }),
        Encoding::Q8_0 => each(bytes, out, q8_0),
        Encoding::Q4_0 => each(bytes, out, q4_0),
        Encoding::Q4_1 => each(bytes, out, q4_1),
        Encoding::Q5_0 => each(bytes, out, q5_0),
        Encoding::Q5_1 => each(bytes, out, q5_1),
        Encoding::Q4K => each(bytes, out, k::q4),
        Encoding::Q5K => each(bytes, out, k::q5),
        Encoding::Q6K => each(bytes, out, k::q6),
        Encoding::Int8 => each(bytes, out, int8),
        Encoding::Int4 => each(bytes, out, int4),
    }
}

/// Decodes blocks of B bytes to N values each.
fn each<const B: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; N]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}

/// The half precision number whose bytes start at `at`.
pub(super) fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn bf16_at(block: &[u8], at: usize) -> f32 {
    bf16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    signed(f16_at(block, 0), &block[2..], out);
}

fn int8(block: &[u8; 66], out: &mut [f32; 64]) {
    signed(bf16_at(block, 0), &block[2..], out);
}

/// `d q` of signed bytes q.
fn signed(d: f32, bytes: &[u8], out: &mut [f32]) {
    for (&byte, out) in bytes.iter().zip(out) {
        *out = d * f32::from(byte.cast_signed());
    }
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    nibbles(&block[2..], out, |q, _| d * (f32::from(q) - 8.));
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    nibbles(&block[4..], out, |q, _| d * f32::from(q) + m);
}

fn int4(block: &[u8; 34], out: &mut [f32; 64]) {
    let d = bf16_at(block, 0);
    nibbles(&block[2..], out, |q, _| d * (f32::from(q) - 8.));
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, high) = (f16_at(block, 0), bits(block, 2));
    nibbles(&block[6..], out, |q, i| d * (f32::from(fifth(q, high, i)) - 16.));
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, high) = (f16_at(block, 0), f16_at(block, 2), bits(block, 4));
    nibbles(&block[8..], out, |q, i| d * f32::from(fifth(q, high, i)) + m);
}

/// The 32 bits whose bytes start at `at`; bit i belongs to value i.
fn bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// A nibble with bit i of `high` as its fifth.
fn fifth(nibble: u8, high: u32, i: usize) -> u8 {
    nibble | ((high >> i & 1) as u8) << 4
}

/// Values of n bytes: byte i holds value i in its low half and value n + i in its high one. `value` is told the nibble and
/// which value it is.
fn nibbles(bytes: &[u8], out: &mut [f32], value: impl Fn(u8, usize) -> f32) {
    let n = bytes.len();
    let (low, high) = out.split_at_mut(n);
    for (i, ((&byte, low), high)) in bytes.iter().zip(low).zip(high).enumerate() {
        *low = value(byte & 15, i);
        *high = value(byte >> 4, n + i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
        let (values, size) = encoding.block();
        assert_eq!(bytes.len(), size);
        let mut out = vec![f32::NAN; values];
        decode(encoding, bytes, &mut out);
        out
    }

    const HALF: [u8; 2] = [0x00, 0x38]; // 0.5 in f16: exponent 14 of 15
    const TWO: [u8; 2] = [0x00, 0x40];
    const BF_HALF: [u8; 2] = [0x00, 0x3f];

    #[test]
    fn plain_numbers_are_what_ieee_says() {
        assert_eq!(values(Encoding::F32, &[0, 0, 0x80, 0xbf]), [-1.]);
        assert_eq!(values(Encoding::F16, &[0x01, 0x00]), [2f32.powi(-24)]);
        assert_eq!(values(Encoding::F16, &[0x00, 0xfc]), [f32::NEG_INFINITY]);
        assert_eq!(values(Encoding::Bf16, &[0x80, 0x40]), [4.]);
    }

    #[test]
    fn bytes_are_signed_and_scaled() {
        let mut block = [&HALF[..], &[0; 32]].concat();
        (block[2], block[3], block[33]) = (127, 0x80, 0xff);
        let out = values(Encoding::Q8_0, &block);
        assert_eq!((out[0], out[1], out[2], out[31]), (63.5, -64., 0., -0.5));
        let mut block = [&BF_HALF[..], &[0; 64]].concat();
        (block[2], block[65]) = (0x80, 3);
        let out = values(Encoding::Int8, &block);
        assert_eq!((out[0], out[1], out[63]), (-64., 0., 1.5));
    }

    #[test]
    fn low_nibbles_are_the_first_half_of_a_block() {
        let mut block = [&HALF[..], &[0x88; 16]].concat();
        (block[2], block[17]) = (0xf0, 0x19);
        let out = values(Encoding::Q4_0, &block);
        assert_eq!((out[0], out[1], out[15], out[16], out[31]), (-4., 0., 0.5, 3.5, -3.5));
        let mut block = [&BF_HALF[..], &[0x88; 32]].concat();
        (block[2], block[33]) = (0xf0, 0x19);
        let out = values(Encoding::Int4, &block);
        assert_eq!((out[0], out[1], out[31], out[32], out[63]), (-4., 0., 0.5, 3.5, -3.5));
        let mut block = [&HALF[..], &TWO, &[0; 16]].concat();
        (block[4], block[19]) = (0xf0, 0x19);
        let out = values(Encoding::Q4_1, &block);
        assert_eq!((out[0], out[1], out[15], out[16], out[31]), (2., 2., 6.5, 9.5, 2.5));
    }

    #[test]
    fn fifth_bits_stand_before_the_nibbles() {
        let high = (1u32 << 1 | 1 << 16).to_le_bytes();
        let mut block = [&HALF[..], &high, &[0; 16]].concat();
        (block[6], block[7]) = (0x23, 0x01);
        let out = values(Encoding::Q5_0, &block);
        assert_eq!((out[0], out[1], out[2]), (-6.5, 0.5, -8.));
        assert_eq!((out[16], out[17]), (1., -8.));
        let mut block = [&HALF[..], &TWO, &high, &[0; 16]].concat();
        (block[8], block[9]) = (0x23, 0x01);
        let out = values(Encoding::Q5_1, &block);
        assert_eq!((out[0], out[1], out[2]), (3.5, 10.5, 2.));
        assert_eq!((out[16], out[17]), (11., 2.));
    }
}
