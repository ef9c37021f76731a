//! What a checkpoint says of itself.

use std::{fmt::Display, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Architecture, Part, Run};
use crate::{checkpoint::Checkpoint, run};

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

/// Refuses what holds a model of another kind than `wanted`, as far as it can be told: a checkpoint, the folder of a run,
/// or one whose models lie in folders of their own.
///
/// # Errors
/// One line that names the kind, and the command that opens it.
pub fn ensure_opens(path: &Path, wanted: &str) -> Result<()> {
    let mut files = vec![run::model_file(path)];
    if let Ok(entries) = std::fs::read_dir(path) {
        let mut parts: Vec<_> = entries.flatten().map(|it| it.path().join(run::MODEL)).collect();
        parts.sort();
        files.extend(parts);
    }
    let Some(file) = files.iter().find(|file| file.is_file()) else { return Ok(()) };
    let found = Checkpoint::load(file).ok().and_then(|it| it.metadata.get("architecture").cloned());
    match found {
        Some(other) if other != wanted => {
            bail!(foreign("is of", &path.display(), &other, wanted))
        }
        _ => Ok(()),
    }
}

fn foreign(verb: &str, path: &dyn Display, other: &str, wanted: &str) -> String {
    format!(
        "{path}: {verb} {other}, this command opens those of {wanted}; try `chainrule {other} info {path}`"
    )
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
            Some(other) => bail!(foreign("holds a model of", &path, other, wanted)),
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
