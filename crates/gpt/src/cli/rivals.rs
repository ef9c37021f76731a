//! What others make of the same bytes.

use std::io::Write as _;

use anyhow::Result;

/// Bits a byte of `text` by name: its bytes on their own, and compressors at their strongest.
pub(super) fn all(text: &[u8]) -> Result<Vec<(String, f64)>> {
    let bits = |bytes: usize| 8. * bytes as f64 / text.len().max(1) as f64;
    Ok(vec![
        ("each byte by its frequency in this text".into(), order_0(text)),
        ("zstd -19".into(), bits(zstd(text)?)),
        ("xz -9".into(), bits(xz(text)?)),
    ])
}

/// Entropy of the bytes, each for itself: no code of single bytes is shorter.
fn order_0(text: &[u8]) -> f64 {
    let mut counts = [0usize; 256];
    for &byte in text {
        counts[usize::from(byte)] += 1;
    }
    let share = |count: usize| count as f64 / text.len() as f64;
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| -share(count) * share(count).log2())
        .sum()
}

/// Bytes of a zstd frame at level 19.
pub(super) fn zstd(text: &[u8]) -> Result<usize> {
    Ok(zstd::bulk::compress(text, 19)?.len())
}

/// Bytes of an xz file at preset 9.
pub(super) fn xz(text: &[u8]) -> Result<usize> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 9);
    encoder.write_all(text)?;
    Ok(encoder.finish()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_equal_bytes_cost_two_bits_and_repetition_is_seen_by_compressors() -> Result<()> {
        let text: Vec<u8> = b"abcd".repeat(1000);
        let found = all(&text)?;
        assert_eq!(found[0].1, 2.);
        assert!(
            found[1..].iter().all(|(name, bits)| (0.01..0.5).contains(bits) && !name.is_empty())
        );
        Ok(())
    }
}
