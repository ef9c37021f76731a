//! Models from the wild, and ours: whatever MODEL may be on a command line.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{config::DecoderConfig, text::Tokenizer, weights::Weights};

/// A model as it was delivered: everything that engines, prompts and chats need, before any weight is decoded.
#[derive(Debug)]
pub struct Delivered {
    /// What to call it: `general.name` of a GGUF, or the last part of the path.
    pub name: String,
    /// The decoder.
    pub config: DecoderConfig,
    /// Its weights, checked to fit.
    pub weights: Weights,
    /// How its text is cut.
    pub tokenizer: Tokenizer,
    /// Tokens that end an answer.
    pub stops: Vec<u32>,
    /// Whether the start token stands before prompts: `add_bos_token`.
    pub starts: bool,
    /// Jinja text that lays out a conversation.
    pub chat_template: Option<String>,
}

/// Opens a run folder, a checkpoint, a Hugging Face folder or a `.gguf`.
///
/// # Errors
/// One line on what cannot be read, or is none of these.
pub fn open(path: &Path, _weights: core_layers::checkpoint::Weights) -> Result<Delivered> {
    bail!("{}: is no model that can be opened", path.display())
}
