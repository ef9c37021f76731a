//! SHA-256 of weights, files and bytes: what ties compressed files, data and runs to each other.

use std::{fmt::Write, fs::File, io, path::Path};

use sha2::{Digest, Sha256};

use super::{Checkpoint, CheckpointError, write};

impl Checkpoint {
    /// The identity of a model: SHA-256 over the tensors under `prefix`, whatever the metadata and other sections say.
    ///
    /// For each tensor in the order of names, hashed are its name without the prefix, its kind and its shape, each
    /// preceded by its length as u64, and its elements; numbers are little-endian.
    ///
    /// # Panics
    /// When a tensor cannot be copied to the CPU.
    pub fn hash(&self, prefix: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (name, x) in &self.section(prefix) {
            let kind = format!("{:?}", x.kind());
            for text in [name.as_bytes(), kind.as_bytes()] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text);
            }
            let shape = x.size();
            hash.update((shape.len() as u64).to_le_bytes());
            for n in shape {
                hash.update(n.to_le_bytes());
            }
            hash.update(write::bytes(x).expect("a tensor can be copied to the CPU"));
        }
        hash.finalize().into()
    }
}

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 of a file, read in pieces.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_file(path: &Path) -> Result<[u8; 32], CheckpointError> {
    let mut hash = Sha256::new();
    File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hash))
        .map_err(|error| CheckpointError::read(path, &error))?;
    Ok(hash.finalize().into())
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    fn checkpoint(names: [&str; 2]) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        for (i, name) in names.into_iter().enumerate() {
            checkpoint.tensors.insert(name.into(), Tensor::from_slice(&[i as f32, 2.0]));
        }
        checkpoint
    }

    #[test]
    fn bytes_and_files_have_the_published_sha256() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, B.1
        assert_eq!(hex(&sha256(b"abc")), abc);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(hex(&sha256_file(&path).unwrap()), abc);
        assert!(sha256_file(&folder.path().join("none")).is_err());
    }

    #[test]
    fn a_model_is_its_weights_and_not_its_metadata_or_other_sections() {
        let mut one = checkpoint(["raw.a", "raw.b"]);
        let model = one.hash("raw.");
        one.metadata.insert("step".into(), "7".into());
        one.tensors.insert("ema.a".into(), Tensor::from_slice(&[1f32]));
        assert_eq!(one.hash("raw."), model);
        assert_eq!(checkpoint(["ema.a", "ema.b"]).hash("ema."), model);
    }

    #[test]
    fn names_shapes_kinds_and_values_all_count() {
        let model = checkpoint(["a", "b"]).hash("");
        assert_ne!(checkpoint(["a", "c"]).hash(""), model);
        for change in [
            Tensor::from_slice(&[0f32, 2.0]).view([1, 2]),
            Tensor::from_slice(&[0f32, 3.0]),
            Tensor::from_slice(&[0f64, 2.0]),
        ] {
            let mut changed = checkpoint(["a", "b"]);
            changed.tensors.insert("a".into(), change);
            assert_ne!(changed.hash(""), model);
        }
    }
}
