//! Text, from files or embedded, to tokens in three splits.
//!
//! [`load`] reads what a [`DataConfig`] names into a [`Dataset`]: the embedded `book`, a file of text, JSONL, a folder of
//! both, or what [`prepare`] wrote. Documents are packed with the token that ends a text between them. Many documents are
//! split by their content, few are cut into blocks, so that no text stands on two sides. Nothing here depends on a run's
//! seed; [`Training`] does.

mod config;
mod file;
mod prepare;
mod source;
mod split;
#[cfg(test)]
mod tests;
mod tokens;
mod windows;

use std::path::Path;

use anyhow::{Result, ensure};
use core_layers::{ConfigError, cli::counted, dataset::Split, training::Part as _};

pub use config::DataConfig;
pub use prepare::prepare;
pub use tokens::Tokens;
pub use windows::Training;

use crate::text::Tokenizer;

/// Tokens in three splits, and how they came about.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What is fitted to.
    pub train: Tokens,
    /// What chooses between checkpoints.
    pub valid: Tokens,
    /// What is reported.
    pub test: Tokens,
    /// How text was cut.
    pub tokenizer: Tokenizer,
    /// The set's name: `book`, or the last part of a path.
    pub name: String,
    /// One line: how documents were split and cut.
    pub protocol: String,
    /// sha256, in hex, over the files, the decoder's version and the protocol.
    pub hash: String,
    /// Lines for the user: how much there is, and what was left out and why.
    pub report: Vec<String>,
}

impl Dataset {
    /// The tokens of a split.
    pub fn split(&self, split: Split) -> &Tokens {
        match split {
            Split::Train => &self.train,
            Split::Valid => &self.valid,
            Split::Test => &self.test,
        }
    }

    /// Refuses a set of which a split is empty.
    ///
    /// # Errors
    /// One line that says which, how many documents there are, and what to do.
    pub fn ensure_split(&self, split: Split) -> Result<()> {
        let counts = Split::ALL.map(|split| self.split(split).documents());
        split.ensure_some(&self.name, counts, "document", "add text")
    }

    /// How much there is, in one line.
    fn summary(&self) -> String {
        let [train, valid, test] = Split::ALL.map(|split| self.split(split).targets());
        let documents = Split::ALL.map(|split| self.split(split).documents()).iter().sum();
        let vocabulary = self.tokenizer.vocabulary();
        format!(
            "{}: {}, {train} tokens train, {valid} validate, {test} test, {vocabulary} in the vocabulary",
            self.name,
            counted(documents, "document")
        )
    }
}

/// Reads the text that a configuration names.
///
/// # Errors
/// A field out of range, a path that cannot be read, text that the tokenizer has no tokens for: one line each. A split may
/// be empty, see [`Dataset::ensure_split`].
pub fn load(config: &DataConfig) -> Result<Dataset> {
    load_for(config, None)
}

/// The same for a model that is there already: `given` cuts the text.
///
/// # Errors
/// As [`load`], and a configuration or prepared file that asks for another tokenizer.
pub fn load_for(config: &DataConfig, given: Option<&Tokenizer>) -> Result<Dataset> {
    config.validate()?;
    let refuse = |rule: &str| ConfigError::new("data.tokenizer", &config.tokenizer, rule);
    let is_auto = config.tokenizer == "auto";
    if let Some(given) = given
        && !is_auto
        && named(config)?.is_none_or(|it| it != *given)
    {
        return Err(refuse("auto, since the model has its own").into());
    }
    let path = Path::new(&config.data);
    if !file::is_prepared(path) {
        return prepare::load(config, given);
    }
    let mut dataset = file::read(path)?;
    if !is_auto && named(config)?.is_none_or(|it| it != dataset.tokenizer) {
        return Err(refuse("auto, since a prepared file has its own").into());
    }
    ensure!(
        given.is_none_or(|it| *it == dataset.tokenizer),
        "{}: was prepared with another tokenizer than the model's",
        path.display()
    );
    ConfigError::ensure(config.limit == 0, "data.limit", config.limit, "0 for a prepared file")?;
    dataset.report = vec![dataset.summary()];
    Ok(dataset)
}

/// The tokenizer that a configuration names, where it is not learnt from the data.
fn named(config: &DataConfig) -> Result<Option<Tokenizer>> {
    Ok(match config.cut()? {
        config::Cut::Bytes => Some(Tokenizer::Bytes),
        config::Cut::File(path) => Some(Tokenizer::open(Path::new(&path))?),
        _ => None,
    })
}
