//! What a run can be told about its text.

use std::path::Path;

use clap::Args;
use core_layers::{ConfigError, training::Part};
use serde::{Deserialize, Serialize};

/// The text of a run, and how it is cut into tokens.
///
/// Every flag takes a value, so that a flag left out keeps what a preset says.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// book, a file of text or JSONL, a folder of such, or a file that prepare wrote.
    #[arg(long, value_name = "NAME|PATH")]
    pub data: String,
    /// bytes, characters (all that there are), bpe:N (learnt from what trains), the path of a tokenizer.json or its folder; auto is bpe:2048, or
    /// what a prepared file or a model that is trained further has.
    #[arg(long, value_name = "KIND|PATH")]
    pub tokenizer: String,
    /// Field of each line of JSONL that holds the text.
    #[arg(long)]
    pub field: String,
    /// Only the first documents; 0 takes all.
    #[arg(long)]
    pub limit: usize,
    /// Tokens of a training window; 0 is the model's context, which must hold it.
    #[arg(long)]
    pub window: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            data: "book".into(),
            tokenizer: "auto".into(),
            field: "text".into(),
            limit: 0,
            window: 0,
        }
    }
}

/// How text is to be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cut {
    Auto,
    Bytes,
    Characters,
    Bpe(usize),
    File(String),
}

impl DataConfig {
    /// Tokens of a BPE where nothing is said.
    pub const BPE: usize = 2048;

    /// The path that the tokenizer is at, where it is no kind that is known by name.
    ///
    /// # Errors
    /// As [`DataConfig::validate`].
    pub fn tokenizer_path(&self) -> Result<Option<&Path>, ConfigError> {
        Ok(matches!(self.cut()?, Cut::File(_)).then(|| Path::new(&self.tokenizer)))
    }

    pub(super) fn cut(&self) -> Result<Cut, ConfigError> {
        let number = self.tokenizer.strip_prefix("bpe:");
        Ok(match (self.tokenizer.as_str(), number) {
            ("auto", _) => Cut::Auto,
            ("bytes", _) => Cut::Bytes,
            ("characters", _) => Cut::Characters,
            (_, Some(number)) => {
                let rule =
                    "bpe:N with N of 257 to 1000000, the bytes and the end of a text included";
                let found = number.parse().ok().filter(|it| (257..=1_000_000).contains(it));
                let refusal = || ConfigError::new("data.tokenizer", &self.tokenizer, rule);
                Cut::Bpe(found.ok_or_else(refusal)?)
            }
            (path, None) => Cut::File(path.into()),
        })
    }
}

impl Part for DataConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let is_given = !self.data.is_empty();
        ConfigError::ensure(is_given, "data.data", "empty", "book or a path")?;
        let rule = "auto, bytes, characters, bpe:N or a path";
        ConfigError::ensure(!self.tokenizer.is_empty(), "data.tokenizer", "empty", rule)?;
        ConfigError::ensure(!self.field.is_empty(), "data.field", "empty", "the name of a field")?;
        self.cut().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_is_named_by_kind_or_by_path() -> Result<(), ConfigError> {
        let cut = |text: &str| DataConfig { tokenizer: text.into(), ..DataConfig::default() }.cut();
        assert_eq!((cut("auto")?, cut("bytes")?), (Cut::Auto, Cut::Bytes));
        assert_eq!((cut("bpe:300")?, cut("a/b")?), (Cut::Bpe(300), Cut::File("a/b".into())));
        for wrong in ["bpe:256", "bpe:x", "bpe:", "bpe:1000001"] {
            let line = cut(wrong).unwrap_err().to_string();
            assert!(line.starts_with(&format!("data.tokenizer is {wrong}, but must be")), "{line}");
        }
        let wrong = DataConfig { field: String::new(), ..DataConfig::default() };
        let line = wrong.validate().unwrap_err().to_string();
        assert_eq!(line, "data.field is empty, but must be the name of a field");
        DataConfig::default().validate()
    }
}
