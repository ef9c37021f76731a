//! GGML's blocks of 256 values with scales of their own for parts of them.

use super::plain::f16_at;

/// f16 scale `d`, f16 `e`, 8 scales `s` and least values `m` of 6 bits, 256 nibbles: `d s q - e m`, 32 values a scale.
pub(super) fn q4(block: &[u8; 144], out: &mut [f32; 256]) {
    let parts = parts(block);
    for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let bytes = &block[16 + 32 * pair..][..32];
        let ((s, m), (t, n)) = (parts[2 * pair], parts[2 * pair + 1]);
        let (low, high) = out.split_at_mut(32);
        for ((&byte, low), high) in bytes.iter().zip(low).zip(high) {
            *low = s * f32::from(byte & 15) - m;
            *high = t * f32::from(byte >> 4) - n;
        }
    }
}

/// The same with 256 fifth bits before the nibbles: bit p of byte i belongs to value i of part p.
pub(super) fn q5(block: &[u8; 176], out: &mut [f32; 256]) {
    let parts = parts(block);
    let fifths = &block[16..48];
    for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let bytes = &block[48 + 32 * pair..][..32];
        let ((s, m), (t, n)) = (parts[2 * pair], parts[2 * pair + 1]);
        let (low, high) = out.split_at_mut(32);
        for (((&byte, &fifth), low), high) in bytes.iter().zip(fifths).zip(low).zip(high) {
            let fifth = fifth >> (2 * pair);
            *low = s * f32::from(byte & 15 | (fifth & 1) << 4) - m;
            *high = t * f32::from(byte >> 4 | (fifth >> 1 & 1) << 4) - n;
        }
    }
}

/// 128 bytes of nibbles, 64 of two upper bits, 16 signed scales `s`, f16 scale `d`: `d s (q - 32)`, 16 values a scale.
pub(super) fn q6(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = f16_at(block, 208);
    for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (low, high) = (&block[64 * half..][..64], &block[128 + 32 * half..][..32]);
        let scales = &block[192 + 8 * half..][..8];
        for (part, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let nibbles = &low[32 * (part % 2)..][..32];
            for (i, (out, (&nibble, &upper))) in
                out.iter_mut().zip(nibbles.iter().zip(high)).enumerate()
            {
                let nibble = if part < 2 { nibble & 15 } else { nibble >> 4 };
                let q = nibble | (upper >> (2 * part) & 3) << 4;
                let s = d * f32::from(scales[2 * part + i / 16].cast_signed());
                *out = s * (f32::from(q) - 32.);
            }
        }
    }
}

/// Scale and least value of each of 8 parts: `d s` and `e m`.
///
/// Of the 12 bytes behind `d` and `e`, the low 6 bits of 0 to 3 are scales 0 to 3 and those of 4 to 7 least values 0 to 3;
/// scales 4 to 7 have their low 4 bits in the low halves of 8 to 11 and the upper two on top of 0 to 3, least values
/// likewise in the high halves and on top of 4 to 7.
fn parts(block: &[u8]) -> [(f32, f32); 8] {
    let (d, e) = (f16_at(block, 0), f16_at(block, 2));
    let packed = &block[4..16];
    std::array::from_fn(|part| {
        let (s, m) = if part < 4 {
            (packed[part] & 63, packed[part + 4] & 63)
        } else {
            let low = packed[part + 4];
            (low & 15 | packed[part - 4] >> 6 << 4, low >> 4 | packed[part] >> 6 << 4)
        };
        (d * f32::from(s), e * f32::from(m))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scales 1, 2, 3, 4, 17, 34, 51, 4 and least values 8, 7, 6, 5, 20, 35, 50, 1, as `d` = 1 and `e` = 0.5 leave them.
    fn head() -> Vec<u8> {
        let mut block = vec![0, 0x3c, 0, 0x38];
        block.extend([1 | 1 << 6, 2 | 2 << 6, 3 | 3 << 6, 4]);
        block.extend([8 | 1 << 6, 7 | 2 << 6, 6 | 3 << 6, 5]);
        block.extend([0x41, 0x32, 0x23, 0x14]);
        block
    }

    #[test]
    fn six_bit_scales_are_taken_out_of_twelve_bytes() {
        let wanted = [
            (1., 4.),
            (2., 3.5),
            (3., 3.),
            (4., 2.5),
            (17., 10.),
            (34., 17.5),
            (51., 25.),
            (4., 0.5),
        ];
        assert_eq!(parts(&head()), wanted);
    }

    #[test]
    fn q4_k_has_even_parts_in_low_nibbles() {
        let mut block = head();
        block.resize(144, 0);
        (block[16], block[143]) = (0x52, 0xf3);
        let mut out = [f32::NAN; 256];
        q4(block.as_slice().try_into().unwrap(), &mut out);
        assert_eq!((out[0], out[1], out[32], out[33]), (-2., -4., 6.5, -3.5));
        assert_eq!((out[223], out[254], out[255]), (3. * 51. - 25., -0.5, 59.5));
    }

    #[test]
    fn q5_k_has_a_bit_a_part_in_each_byte() {
        let mut block = head();
        block.resize(176, 0);
        (block[16], block[47]) = (0b10, 0b1100_0000);
        (block[48], block[175]) = (0x52, 0xf3);
        let mut out = [f32::NAN; 256];
        q5(block.as_slice().try_into().unwrap(), &mut out);
        assert_eq!((out[0], out[32], out[33]), (-2., 2. * 21. - 3.5, -3.5));
        assert_eq!((out[223], out[255]), (19. * 51. - 25., 31. * 4. - 0.5));
    }

    #[test]
    fn q6_k_has_quarters_of_each_half_interleaved() {
        let mut block = vec![0; 210];
        (block[0], block[32], block[63], block[64]) = (0x21, 0x43, 0xf0, 0x07);
        (block[128], block[159], block[160]) = (0b11_01_10_11, 0b11_00_00_00, 0b10);
        for (i, scale) in block[192..208].iter_mut().enumerate() {
            *scale = (i as u8 + 1).wrapping_neg();
        }
        block[209] = 0x3c;
        let mut out = [f32::NAN; 256];
        q6(block.as_slice().try_into().unwrap(), &mut out);
        assert_eq!((out[0], out[1], out[16]), (-(49. - 32.), 32., 2. * 32.));
        assert_eq!(
            (out[32], out[64], out[96]),
            (-3. * (35. - 32.), -5. * (18. - 32.), -7. * (52. - 32.))
        );
        assert_eq!(
            (out[127], out[128], out[255]),
            (-8. * (63. - 32.), -9. * (39. - 32.), 16. * 32.)
        );
    }
}
