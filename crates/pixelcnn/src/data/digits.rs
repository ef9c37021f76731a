//! The embedded set: 1,797 handwritten digits of 8 x 8 values, 17 levels each (`datasets/digits/README.md`).

use std::io::Read;

use anyhow::{Context, Result, ensure};
use core_layers::dataset::{FileDigest, Split};
use flate2::read::GzDecoder;
use ndarray::Array4;

use super::dataset::Source;
use super::{DataConfig, Images};

const PACKED: &[u8] = include_bytes!("../../../../datasets/digits/digits.bin.gz");
const COUNT: usize = 1797;
const SIDE: usize = 8;

/// The digits, by the split of their index.
pub(super) fn read(config: &DataConfig) -> Result<Source> {
    config.ensure_side(SIDE as u32)?;
    let mut bytes = Vec::new();
    GzDecoder::new(PACKED).read_to_end(&mut bytes).context("the embedded digits")?;
    let pixels = COUNT * SIDE * SIDE;
    ensure!(bytes.len() == pixels + COUNT, "the embedded digits have {} bytes", bytes.len());
    let levels = bytes[..pixels].iter().map(|&byte| u16::from(byte)).collect();
    let levels = Array4::from_shape_vec((COUNT, SIDE, SIDE, 1), levels)?;
    let labels = bytes[pixels..].iter().map(|&byte| u32::from(byte)).collect();
    Ok(Source {
        name: "digits".into(),
        num_levels: 17,
        label_names: (0..10).map(|digit| digit.to_string()).collect(),
        rule: format!("digits, 8x8 grey; {}", Split::index_rule("image")),
        splits: Images::new(levels, Some(labels)).part(),
        files: vec![FileDigest::new("digits.bin.gz", PACKED)],
        decoder: "bytes/1",
        texture: None,
    })
}
