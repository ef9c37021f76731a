//! Features that a user has computed: one .npy file beside each WAV file.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use core_layers::npy::Npy;
use ndarray::Array2;

use super::condition::num_frames;
use super::files;

/// Most features of a frame.
const MAX_FEATURES: usize = 65_536;

/// Reads features `[F, features]` that must be exactly those of `num_samples` samples at a hop.
///
/// # Errors
/// One line with the file's name: it cannot be read, holds something else, or has another number of frames than
/// `ceil(num_samples / hop)`, with the arithmetic shown.
pub fn read_features(path: &Path, num_samples: usize, hop: usize) -> Result<Array2<f32>> {
    let features = read_frames(path)?;
    let (has, needed) = (features.nrows(), num_frames(num_samples, hop));
    ensure!(
        has == needed,
        "{} has {has} frames, {num_samples} samples at hop {hop} need {needed}",
        path.display()
    );
    Ok(features)
}

/// Reads features `[F, features]` of any number of frames.
///
/// # Errors
/// As [`read_features`], whatever the length.
pub fn read_frames(path: &Path) -> Result<Array2<f32>> {
    parse(&Npy::parse(path.display().to_string(), files::read(path, files::MAX_FILE)?)?)
}

fn parse(npy: &Npy) -> Result<Array2<f32>> {
    let (name, shape) = (npy.name(), npy.shape());
    let &[frames, features] = shape else {
        bail!("{name}: its shape is {shape:?}, but must be [frames, features]")
    };
    let fits = (1..=MAX_FEATURES).contains(&features);
    ensure!(fits, "{name}: its shape is {shape:?}, but must have 1..={MAX_FEATURES} features");
    Ok(Array2::from_shape_vec((frames, features), npy.finite_numbers("feature")?)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn file(shape: &str, floats: &[f32]) -> Vec<u8> {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let len = (header.len() as u16).to_le_bytes();
        let elements = floats.iter().flat_map(|x| x.to_le_bytes());
        b"\x93NUMPY\x01\0"
            .iter()
            .copied()
            .chain(len)
            .chain(header.bytes())
            .chain(elements)
            .collect()
    }

    fn read(content: &[u8]) -> Result<Array2<f32>> {
        parse(&Npy::parse("x.npy".into(), content.to_vec())?)
    }

    #[test]
    fn a_wrong_length_is_refused_with_the_arithmetic() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.npy");
        fs::write(&path, file("(120, 2)", &[0.5; 240]))?;
        assert_eq!(read_features(&path, 9600, 80)?.dim(), (120, 2));
        assert_eq!(read_features(&path, 9541, 80)?.dim(), (120, 2));
        let refusal = read_features(&path, 9600, 64).unwrap_err().to_string();
        let wanted = "x.npy has 120 frames, 9600 samples at hop 64 need 150";
        assert!(refusal.ends_with(wanted), "{refusal}");
        Ok(())
    }

    #[test]
    fn what_is_not_a_table_of_finite_floats_is_refused() {
        let refusal = |content: &[u8]| format!("{:#}", read(content).unwrap_err());
        assert!(refusal(b"RIFF").starts_with("x.npy: "));
        assert_eq!(
            refusal(&file("(4,)", &[0.0; 4])),
            "x.npy: its shape is [4], but must be [frames, features]"
        );
        assert!(refusal(&file("(4, 0)", &[])).contains("1..=65536 features"));
        assert!(refusal(&file("(4, 4)", &[0.0; 4])).contains("16 bytes"));
        let message = refusal(&file("(2, 2)", &[0.0, 0.0, f32::NAN, 0.0]));
        assert_eq!(message, "x.npy: a feature is NaN, but must be finite");
    }

    proptest! {
        #[test]
        fn an_edited_file_is_read_or_refused_not_panicked_at(
            edits in proptest::collection::vec((0usize..100, any::<u8>()), 1..4),
        ) {
            let mut content = file("(2, 2)", &[0.5; 4]);
            for (at, byte) in edits {
                let at = at % content.len();
                content[at] = byte;
            }
            let _ = read(&content);
        }
    }
}
