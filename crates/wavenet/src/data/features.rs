//! Features that a user has computed: one .npy file beside each WAV file.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use core_layers::npy::Npy;
use ndarray::Array2;

use super::condition::num_frames;
use super::files;

/// Most features of a frame.
const MAX_FEATURES: usize = 65_536;

/// Reads features `[F, features]`, 32-bit floats, that must be exactly those of `num_samples` samples at a hop.
///
/// # Errors
/// One line with the file's name: it cannot be read, holds something else, or has another number of frames than
/// `ceil(num_samples / hop)`, with the arithmetic shown.
pub fn read_features(path: &Path, num_samples: usize, hop: usize) -> Result<Array2<f32>> {
    let content = files::read(path, files::MAX_FILE)?;
    let features = parse(&content).with_context(|| path.display().to_string())?;
    let (has, needed) = (features.nrows(), num_frames(num_samples, hop));
    ensure!(
        has == needed,
        "{} has {has} frames, {num_samples} samples at hop {hop} need {needed}",
        path.display()
    );
    Ok(features)
}

fn parse(content: &[u8]) -> Result<Array2<f32>> {
    let npy = Npy::parse(content)?;
    let descr = npy.descr;
    ensure!(descr == "<f4", "its elements are {descr:?}, but must be \"<f4\", 32-bit floats");
    let shape = &npy.shape;
    let &[frames, features] = &shape[..] else {
        anyhow::bail!("its shape is {shape:?}, but must be [frames, features]")
    };
    ensure!(
        (1..=MAX_FEATURES).contains(&features),
        "its shape is {shape:?}, but must have 1..={MAX_FEATURES} features"
    );
    npy.ensure_whole(4)?;
    let floats = npy.elements.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    let floats: Vec<f32> = floats.collect();
    let wrong = floats.iter().position(|x| !x.is_finite());
    ensure!(
        wrong.is_none(),
        "frame {} holds a number that is not finite",
        wrong.unwrap_or(0) / features
    );
    Ok(Array2::from_shape_vec((frames, features), floats)?)
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
        let refusal = |content: &[u8]| format!("{:#}", parse(content).unwrap_err());
        assert_eq!(refusal(b"RIFF"), "not an .npy file");
        assert_eq!(
            refusal(&file("(4,)", &[0.0; 4])),
            "its shape is [4], but must be [frames, features]"
        );
        assert!(refusal(&file("(4, 0)", &[])).contains("1..=65536 features"));
        assert!(refusal(&file("(4, 4)", &[0.0; 4])).contains("does not fit its 16 bytes"));
        let message = refusal(&file("(2, 2)", &[0.0, 0.0, f32::NAN, 0.0]));
        assert_eq!(message, "frame 1 holds a number that is not finite");
        let mut doubles = file("(1, 1)", &[0.0, 0.0]);
        let at = doubles.windows(2).position(|pair| pair == b"f4").unwrap();
        doubles[at + 1] = b'8';
        assert!(refusal(&doubles).contains("\"<f8\""), "{}", refusal(&doubles));
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
            let _ = parse(&content);
        }
    }
}
