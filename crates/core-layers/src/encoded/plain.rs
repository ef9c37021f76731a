//! Blocks to numbers, one at a time: the definition of every [`Encoding`].

use super::Encoding;

/// Writes the values that `bytes` hold.
pub(super) fn decode(encoding: Encoding, bytes: &[u8], out: &mut [f32]) {
    let (values, size) = encoding.block();
    for (out, block) in out.chunks_exact_mut(values).zip(bytes.chunks_exact(size)) {
        match encoding {
            Encoding::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
            Encoding::F16 => out[0] = half::f16::from_le_bytes([block[0], block[1]]).to_f32(),
            Encoding::Bf16 => out[0] = half::bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            other => panic!("{other} is not decoded yet"),
        }
    }
}
