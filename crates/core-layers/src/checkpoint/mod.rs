//! Checkpoints: named tensors and text metadata in one safetensors file that describes itself.
//!
//! A file is foreign until proven otherwise: its length is compared with what its header announces before anything of
//! that size is allocated, and whatever is wrong comes back as one line, never as a panic.

mod atomic;
mod error;
mod hash;
mod mapped;
mod read;
#[cfg(test)]
mod tests;
mod weights;
mod write;

use std::{collections::BTreeMap, path::Path};

use safetensors::Dtype;
use tch::{Kind, Tensor};

pub use atomic::{UNFINISHED, replace, write_atomic};
pub use error::CheckpointError;
pub use hash::{hex, sha256, sha256_file};
pub use mapped::map_file;
pub use weights::Weights;

/// The version of the names and meanings in a checkpoint; a reader takes no other.
pub const FORMAT_VERSION: u32 = 1;

/// The metadata key of [`FORMAT_VERSION`].
const VERSION_KEY: &str = "format_version";

/// Element kinds that a checkpoint may hold, and their names in the file.
const KINDS: [(Kind, Dtype); 8] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

/// Named tensors, and what is to be known about them.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Architecture, configuration, step, seed...: text by name.
    pub metadata: BTreeMap<String, String>,
    /// Weights, averages, moments...: tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Adds tensors under `prefix`; they share memory with the ones given, so save before they change.
    pub fn insert<'a>(
        &mut self,
        prefix: &str,
        tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>,
    ) {
        for (name, tensor) in tensors {
            self.tensors.insert(format!("{prefix}{name}"), tensor.shallow_clone());
        }
    }

    /// The tensors under `prefix`, by the rest of their names; they share memory with these.
    pub fn section(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let named = self.tensors.iter();
        named
            .filter_map(|(name, x)| {
                Some((name.strip_prefix(prefix)?.to_owned(), x.shallow_clone()))
            })
            .collect()
    }

    /// Copies the tensors under `prefix` into `targets`, each into the one whose name is the rest of its own.
    ///
    /// `file` is named in messages. Float kinds are converted into each other.
    ///
    /// # Errors
    /// When a tensor is missing, unexpected, or of another shape or kind; nothing has been copied then.
    pub fn copy_into(
        &self,
        file: &Path,
        prefix: &str,
        targets: &BTreeMap<String, Tensor>,
    ) -> Result<(), CheckpointError> {
        let sources = self.section(prefix);
        for (name, target) in targets {
            self.ensure_fits(file, &format!("{prefix}{name}"), target)?;
        }
        if let Some(name) = sources.keys().find(|&name| !targets.contains_key(name)) {
            let name = format!("{prefix}{name}");
            return Err(CheckpointError::mismatch(file, &name, "is in the file", "no such tensor"));
        }
        tch::no_grad(|| {
            for (name, target) in targets {
                target.shallow_clone().copy_(&sources[name]);
            }
        });
        Ok(())
    }

    fn ensure_fits(&self, file: &Path, name: &str, target: &Tensor) -> Result<(), CheckpointError> {
        let needed = format!("{:?}", target.size());
        let Some(source) = self.tensors.get(name) else {
            return Err(CheckpointError::mismatch(file, name, "is missing", &needed));
        };
        if source.size() != target.size() {
            let found = format!("has shape {:?}", source.size());
            return Err(CheckpointError::mismatch(file, name, &found, &needed));
        }
        if is_float(source.kind()) != is_float(target.kind()) {
            let found = format!("holds {:?}", source.kind());
            return Err(CheckpointError::mismatch(
                file,
                name,
                &found,
                &format!("{:?}", target.kind()),
            ));
        }
        Ok(())
    }
}

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}

#[cfg(test)]
mod copy_tests {
    use tch::{Device, kind::FLOAT_CPU};

    use super::*;

    fn model(shape: &[i64]) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("v.3.weight".to_owned(), Tensor::zeros(shape, FLOAT_CPU))])
    }

    fn refusal(checkpoint: &Checkpoint, targets: &BTreeMap<String, Tensor>) -> String {
        let file = Path::new("model.safetensors");
        checkpoint.copy_into(file, "raw.", targets).unwrap_err().to_string()
    }

    #[test]
    fn weights_are_copied_by_name_and_other_sections_are_left_out() {
        let (source, other) = (Tensor::ones([2, 3], FLOAT_CPU), Tensor::zeros([1], FLOAT_CPU));
        let mut checkpoint = Checkpoint::default();
        checkpoint.insert("raw.", &BTreeMap::from([("v.3.weight".to_owned(), source)]));
        checkpoint.insert("ema.", &BTreeMap::from([("else".to_owned(), other)]));
        let targets = model(&[2, 3]);
        let _ = targets["v.3.weight"].set_requires_grad(true); // as in training
        checkpoint.copy_into(Path::new("x"), "raw.", &targets).unwrap();
        assert_eq!(targets["v.3.weight"], Tensor::ones([2, 3], FLOAT_CPU));
    }

    #[test]
    fn a_checkpoint_of_another_model_says_which_tensor_differs_and_how() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.insert("raw.", &model(&[64, 64, 2, 3]));
        assert_eq!(
            refusal(&checkpoint, &model(&[128, 64, 2, 3])),
            "model.safetensors: tensor \"raw.v.3.weight\" has shape [64, 64, 2, 3], \
             the configuration needs [128, 64, 2, 3]"
        );
        assert_eq!(
            refusal(&Checkpoint::default(), &model(&[5])),
            "model.safetensors: tensor \"raw.v.3.weight\" is missing, the configuration needs [5]"
        );
        assert_eq!(
            refusal(&checkpoint, &BTreeMap::new()),
            "model.safetensors: tensor \"raw.v.3.weight\" is in the file, the configuration needs no such tensor"
        );
        let labels = Tensor::zeros([64, 64, 2, 3], (Kind::Int64, Device::Cpu));
        assert_eq!(
            refusal(&checkpoint, &BTreeMap::from([("v.3.weight".to_owned(), labels)])),
            "model.safetensors: tensor \"raw.v.3.weight\" holds Float, the configuration needs Int64"
        );
    }

    #[test]
    fn a_refused_checkpoint_changes_nothing() {
        let mut checkpoint = Checkpoint::default();
        checkpoint
            .insert("raw.", &BTreeMap::from([("a".to_owned(), Tensor::ones([2], FLOAT_CPU))]));
        let targets = BTreeMap::from([
            ("a".to_owned(), Tensor::zeros([2], FLOAT_CPU)),
            ("b".to_owned(), Tensor::zeros([2], FLOAT_CPU)),
        ]);
        assert!(checkpoint.copy_into(Path::new("x"), "raw.", &targets).is_err());
        assert_eq!(targets["a"], Tensor::zeros([2], FLOAT_CPU));
    }
}
