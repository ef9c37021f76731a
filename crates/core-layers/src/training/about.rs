//! What a checkpoint says of itself.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Architecture, Part, Run};
use crate::checkpoint::Checkpoint;

/// What a checkpoint says of itself: its run, its data, and how far it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About<M, D> {
    /// Model, data and training.
    pub run: Run<M, D>,
    /// Name of the data set.
    pub dataset: String,
    /// How its examples were made and split.
    pub protocol: String,
    /// What the labels mean, in the order of their numbers.
    pub label_names: Vec<String>,
    /// Hash of the data.
    pub data_hash: String,
    /// Optimiser steps taken.
    pub step: u64,
    /// Least validation loss so far, in nats per example, by the weights that evaluation uses.
    pub valid_nats: Option<f64>,
}

impl<M: Architecture, D: Part> About<M, D> {
    /// Puts it into a checkpoint's metadata.
    ///
    /// # Errors
    /// None that a serialisable configuration can give.
    pub fn write(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        checkpoint.metadata.insert("architecture".into(), M::NAME.into());
        checkpoint.metadata.insert("about".into(), serde_json::to_string(self)?);
        Ok(())
    }

    /// Reads it from the metadata of the checkpoint `path`.
    ///
    /// # Errors
    /// One line on a checkpoint of another crate, one without metadata, or a model that cannot be built.
    pub fn read(checkpoint: &Checkpoint, path: &Path) -> Result<Self> {
        let path = path.display();
        let wanted = M::NAME;
        match checkpoint.metadata.get("architecture") {
            Some(found) if found == wanted => {}
            Some(other) => {
                bail!("{path}: is a model of kind {other:?}, this program reads {wanted:?}")
            }
            None => {
                bail!("{path}: does not say what model it holds (no metadata \"architecture\")")
            }
        }
        let about = checkpoint
            .metadata
            .get("about")
            .with_context(|| format!("{path}: has no metadata \"about\""))?;
        let about: Self =
            serde_json::from_str(about).with_context(|| format!("{path}: metadata \"about\""))?;
        about.run.model.validate().with_context(|| format!("{path}"))?;
        Ok(about)
    }
}
