//! The sections of a checkpoint that hold the weights of a model.

use std::{collections::BTreeMap, path::Path};

use clap::ValueEnum;
use tch::Tensor;

use super::{Checkpoint, CheckpointError, hex};

/// Which weights of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// Their moving average, or the raw ones where none was kept.
    Ema,
    /// As the optimiser left them.
    Raw,
}

impl Weights {
    /// Its name in files and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ema => "ema",
            Self::Raw => "raw",
        }
    }

    /// The names of its tensors start so.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Ema => "ema.",
            Self::Raw => "raw.",
        }
    }
}

impl Checkpoint {
    /// Adds the weights of a model, and their moving average where one is kept; they share memory with those given.
    pub fn insert_weights(
        &mut self,
        raw: &BTreeMap<String, Tensor>,
        ema: Option<&BTreeMap<String, Tensor>>,
    ) {
        self.insert(Weights::Raw.prefix(), raw);
        if let Some(ema) = ema {
            self.insert(Weights::Ema.prefix(), ema);
        }
    }

    /// Copies the weights that were asked for into `targets`, the raw ones where no average was kept. Returns which were
    /// taken, and their [hash](Checkpoint::hash) as 64 hexadecimal digits.
    ///
    /// `file` is named in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::copy_into`]; nothing has been copied then.
    pub fn copy_weights_into(
        &self,
        file: &Path,
        wanted: Weights,
        targets: &BTreeMap<String, Tensor>,
    ) -> Result<(Weights, String), CheckpointError> {
        let has_ema = self.tensors.keys().any(|name| name.starts_with(Weights::Ema.prefix()));
        let weights = if has_ema { wanted } else { Weights::Raw };
        self.copy_into(file, weights.prefix(), targets)?;
        Ok((weights, hex(&self.hash(weights.prefix()))))
    }

    /// Refuses a configuration of at least `needed` weights where the file holds fewer: to be asked before they are
    /// allocated.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] with both numbers.
    pub fn ensure_holds(&self, file: &Path, needed: i64) -> Result<(), CheckpointError> {
        let raw = self.tensors.iter().filter(|(name, _)| name.starts_with(Weights::Raw.prefix()));
        let held: i64 = raw.map(|(_, tensor)| tensor.numel() as i64).sum();
        if needed > held {
            let what =
                format!("holds {held} raw weights, its configuration needs at least {needed}");
            return Err(CheckpointError::malformed(file, what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::kind::FLOAT_CPU;

    use super::*;

    #[test]
    fn the_average_is_taken_where_there_is_one_and_hashes_differ() {
        let model =
            |value: f64| BTreeMap::from([("w".to_owned(), Tensor::full([2], value, FLOAT_CPU))]);
        let (file, target) = (Path::new("x"), model(0.));
        let mut checkpoint = Checkpoint::default();
        checkpoint.insert_weights(&model(1.), None);
        let raw = checkpoint.copy_weights_into(file, Weights::Ema, &target).unwrap();
        assert_eq!((raw.0, &target["w"]), (Weights::Raw, &model(1.)["w"]));
        checkpoint.insert_weights(&model(1.), Some(&model(2.)));
        let ema = checkpoint.copy_weights_into(file, Weights::Ema, &target).unwrap();
        assert_eq!((ema.0, &target["w"]), (Weights::Ema, &model(2.)["w"]));
        assert_ne!(raw.1, ema.1);
        assert_eq!(checkpoint.copy_weights_into(file, Weights::Raw, &target).unwrap(), raw);
    }

    #[test]
    fn a_configuration_beyond_the_file_is_refused_before_it_is_allocated() {
        let mut checkpoint = Checkpoint::default();
        let weights = BTreeMap::from([("w".to_owned(), Tensor::zeros([2, 3], FLOAT_CPU))]);
        checkpoint.insert_weights(&weights, Some(&weights));
        assert!(checkpoint.ensure_holds(Path::new("x"), 6).is_ok());
        let refusal = checkpoint.ensure_holds(Path::new("x"), 7).unwrap_err().to_string();
        assert_eq!(refusal, "x: holds 6 raw weights, its configuration needs at least 7");
    }
}
