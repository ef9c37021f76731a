//! Models from the wild, and ours: whatever MODEL may be on a command line.
//!
//! | on disk | module |
//! |---|---|
//! | a run folder, a checkpoint of training, a file that `quantize` wrote | `own` |
//! | a folder of Hugging Face: `config.json`, `*.safetensors`, `tokenizer.json` | `huggingface` |
//! | a `.gguf` of llama.cpp | `gguf` |
//!
//! Weights are mapped, not read; what has to be turned or put in order is copied.

mod gguf;
mod huggingface;
mod own;
mod safetensors;

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::{
    checkpoint, run,
    training::{self, Architecture as _},
};

use crate::{config::DecoderConfig, text::Tokenizer, weights::Weights};

use gguf::shown;
pub use huggingface::{export, is_run};
pub(crate) use own::prompt;
pub use own::{save, save_run};

/// A model as it was delivered: everything that engines, prompts and chats need, before any weight is decoded.
#[derive(Debug)]
pub struct Delivered {
    /// What to call it: `general.name` of a GGUF, or the last part of the path.
    pub name: String,
    /// The decoder.
    pub config: DecoderConfig,
    /// Its weights, checked to fit.
    pub weights: Weights,
    /// How its text is cut: bytes, where nothing is said. [`Delivered::ensure_text`] asks whether that can be.
    pub tokenizer: Tokenizer,
    /// Tokens that end an answer.
    pub stops: Vec<u32>,
    /// Whether the start token stands before prompts: `add_bos_token`.
    pub starts: bool,
    /// Jinja text that lays out a conversation.
    pub chat_template: Option<String>,
}

impl Delivered {
    /// Refuses a model whose tokens are not those of its tokenizer: to be asked before text is read or written.
    ///
    /// # Errors
    /// One line with both numbers.
    pub fn ensure_text(&self) -> Result<()> {
        ensure_fits(&self.tokenizer, &self.config).with_context(|| self.name.clone())
    }
}

/// Refuses a tokenizer with tokens that the model does not have.
fn ensure_fits(tokenizer: &Tokenizer, config: &DecoderConfig) -> Result<()> {
    let (cut, known) = (tokenizer.vocabulary() as i64, config.vocabulary);
    let what = if *tokenizer == Tokenizer::Bytes { "bytes need" } else { "its tokenizer has" };
    ensure!(cut <= known, "{what} {cut} tokens, the model knows {known}");
    Ok(())
}

/// Opens a run folder, a checkpoint, a file that `quantize` wrote, a Hugging Face folder or a `.gguf`; `weights` chooses
/// among those of a checkpoint of training.
///
/// # Errors
/// One line on what cannot be read, or is none of these; of a model of another crate, with the command that opens it.
pub fn open(path: &Path, weights: checkpoint::Weights) -> Result<Delivered> {
    let of_another = || training::ensure_opens(path, DecoderConfig::NAME).err();
    map(path, weights).map_err(|error| of_another().unwrap_or(error))
}

fn map(path: &Path, weights: checkpoint::Weights) -> Result<Delivered> {
    if path.is_dir() {
        let checkpoint = run::model_file(path);
        if huggingface::is_folder(path) {
            return huggingface::open(path);
        }
        if !checkpoint.exists() {
            let named = path.display();
            bail!("{named}: holds no {}: neither a run nor a Hugging Face folder", run::MODEL);
        }
        return own::open(&checkpoint, &name_of(path), weights);
    }
    let is_gguf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    if is_gguf { gguf::open(path) } else { own::open(path, &name_of(path), weights) }
}

/// The last part of a path.
fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
pub(crate) mod tests;
