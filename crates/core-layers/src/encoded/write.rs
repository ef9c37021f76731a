//! Numbers to blocks.

use half::{bf16, f16};

use super::Encoding;

/// Appends the blocks of a row of finite values; `false` where nobody writes this encoding.
pub(super) fn encode(encoding: Encoding, values: &[f32], out: &mut Vec<u8>) -> bool {
    match encoding {
        Encoding::F32 => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
        Encoding::F16 => out.extend(values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
        Encoding::Bf16 => out.extend(values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes())),
        Encoding::Q8_0 => values.as_chunks().0.iter().for_each(|block| q8_0(block, out)),
        Encoding::Q4_0 => values.as_chunks().0.iter().for_each(|block| q4_0(block, out)),
        Encoding::Q4_1 => values.as_chunks().0.iter().for_each(|block| q4_1(block, out)),
        Encoding::Int8 => values.as_chunks().0.iter().for_each(|block| int8(block, out)),
        Encoding::Int4 => values.as_chunks().0.iter().for_each(|block| int4(block, out)),
        Encoding::Q5_0 | Encoding::Q5_1 | Encoding::Q4K | Encoding::Q5K | Encoding::Q6K => {
            return false;
        }
    }
    true
}

/// `1 / d`, or 0 where everything is 0.
fn inverse(d: f32) -> f32 {
    if d == 0. { 0. } else { 1. / d }
}

/// The value that is furthest from 0, the first of equal ones.
fn furthest(values: &[f32]) -> f32 {
    values.iter().fold(0., |furthest: f32, &x| if x.abs() > furthest.abs() { x } else { furthest })
}

/// As GGML's reference has it: quotients by the scale before it is rounded, halves away from 0.
fn q8_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let d = furthest(block).abs() / 127.;
    let inverse = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(block.iter().map(|x| ((x * inverse).round() as i8).cast_unsigned()));
}

/// As GGML's reference has it: what is furthest from 0 becomes -8.
fn q4_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let d = furthest(block) / -8.;
    let inverse = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    nibbles(block, out, |x| x * inverse + 8.5);
}

/// As GGML's reference has it: 16 levels from the least value to the greatest.
fn q4_1(block: &[f32; 32], out: &mut Vec<u8>) {
    let least = block.iter().copied().fold(f32::INFINITY, f32::min);
    let greatest = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (greatest - least) / 15.;
    let inverse = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(f16::from_f32(least).to_le_bytes());
    nibbles(block, out, |x| (x - least) * inverse + 0.5);
}

/// Quotients by the scale as it is stored.
fn int8(block: &[f32; 64], out: &mut Vec<u8>) {
    let d = bf16::from_f32(furthest(block).abs() / 127.);
    let inverse = inverse(d.to_f32());
    out.extend(d.to_le_bytes());
    out.extend(
        block.iter().map(|x| ((x * inverse).round().clamp(-127., 127.) as i8).cast_unsigned()),
    );
}

/// Of some scales around the one that makes the furthest value -8, the one whose levels lie along the values best; then
/// quotients by the scale as it is stored.
fn int4(block: &[f32; 64], out: &mut Vec<u8>) {
    let d = bf16::from_f32(scale(block));
    let inverse = inverse(d.to_f32());
    out.extend(d.to_le_bytes());
    nibbles(block, out, |x| x * inverse + 8.5);
}

/// The scale `d = x.q / q.q` of the levels q that leaves the least of x: of those tried, `(x.q)^2 / q.q` is greatest.
fn scale(block: &[f32; 64]) -> f32 {
    let furthest = furthest(block);
    if furthest == 0. {
        return 0.;
    }
    let mut best = (0., furthest / -8.);
    for step in -8..=8i8 {
        let inverse = (-8. + 0.125 * f32::from(step)) / furthest;
        let (mut along, mut length) = (0., 0.);
        for &x in block {
            let level = ((x * inverse + 8.5) as i32).clamp(0, 15); // as they are written
            let q = (level - 8) as f32;
            along += x * q;
            length += q * q;
        }
        if length > 0. && along * along > best.0 * length {
            best = (along * along / length, along / length);
        }
    }
    best.1
}

/// Appends a nibble for each value: the low halves of bytes are the first half of the block.
fn nibbles(block: &[f32], out: &mut Vec<u8>, level: impl Fn(f32) -> f32) {
    let (low, high) = block.split_at(block.len() / 2);
    let nibble = |&x: &f32| (level(x) as u8).min(15);
    out.extend(low.iter().zip(high).map(|(low, high)| nibble(low) | nibble(high) << 4));
}

#[cfg(test)]
mod tests {
    use crate::{
        encoded::{Encoded, Encoding},
        random,
    };

    fn noise(rows: usize, columns: usize) -> Encoded {
        let values: Vec<f32> = (0..rows * columns)
            .map(|i| {
                let uniform = |part| random::uniform_at(3, "noise", i as u64, part);
                ((-2. * uniform(0).max(1e-9).ln()).sqrt()
                    * (std::f64::consts::TAU * uniform(1)).cos()) as f32
            })
            .collect();
        Encoded::from_f32(rows, columns, &values)
    }

    /// `|x - y| / |x|` over all values.
    fn relative_error(x: &Encoded, y: &Encoded) -> f32 {
        let (x, y) = (x.to_f32(), y.to_f32());
        let lost: f32 = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum();
        (lost / x.iter().map(|x| x * x).sum::<f32>()).sqrt()
    }

    #[test]
    fn what_is_written_is_read_back_within_the_steps_of_its_encoding() {
        let x = noise(7, 256);
        for (encoding, greatest) in [
            (Encoding::F32, 0.),
            (Encoding::F16, 3e-4),
            (Encoding::Bf16, 2e-3),
            (Encoding::Q8_0, 6e-3),
            (Encoding::Int8, 7e-3),
            (Encoding::Q4_1, 0.085),
            (Encoding::Q4_0, 0.1),
            (Encoding::Int4, 0.1),
        ] {
            let y = x.encode(encoding).unwrap();
            let error = relative_error(&x, &y);
            assert!(error <= greatest, "{encoding}: {error}");
            assert!(error >= greatest / 4., "{encoding}: {error}, the bound says nothing");
        }
    }

    #[test]
    fn zeros_and_single_peaks_are_kept() {
        let mut values = vec![0f32; 128];
        values[70] = -3.;
        let x = Encoded::from_f32(1, 128, &values);
        for encoding in
            [Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_1, Encoding::Int8, Encoding::Int4]
        {
            let back = x.encode(encoding).unwrap().to_f32();
            assert!((back[70] + 3.).abs() < 0.02, "{encoding}: {}", back[70]);
            assert!(back.iter().enumerate().all(|(i, &y)| i == 70 || y.abs() < 0.01), "{encoding}");
        }
    }

    #[test]
    fn searched_scales_lose_less_than_the_furthest_value_s() {
        let x = noise(64, 64);
        let ours = relative_error(&x, &x.encode(Encoding::Int4).unwrap());
        let mut plain = Vec::new();
        for row in x.to_f32().chunks(64) {
            let d = half::bf16::from_f32(super::furthest(row) / -8.).to_f32();
            plain.extend(row.iter().map(|x| d * (x / d).round().clamp(-8., 7.)));
        }
        let plain = relative_error(&x, &Encoded::from_f32(64, 64, &plain));
        assert!(ours < 0.95 * plain, "{ours} against {plain}");
    }

    #[test]
    fn rows_of_broken_blocks_and_encodings_that_are_only_read_are_none() {
        assert!(noise(1, 48).encode(Encoding::Q8_0).is_none());
        assert!(noise(1, 96).encode(Encoding::Int4).is_none());
        assert!(noise(1, 256).encode(Encoding::Q6K).is_none());
    }
}
