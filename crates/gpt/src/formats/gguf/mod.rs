//! GGUF files of the architectures `llama` and `gpt2`, as llama.cpp's converters write them; read where they lie.

mod config;
mod cursor;
mod read;
mod tensors;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::path::Path;

use anyhow::{Context as _, Result};
use core_layers::{checkpoint::map_file, encoded::Bytes};

use super::Delivered;
use read::Gguf;

pub(super) use cursor::shown;

/// Opens a file. Its tensors stay where they are, but for rows of queries and keys, which are put in order.
///
/// # Errors
/// One line on what cannot be read, is damaged, or is not known.
pub(super) fn open(path: &Path) -> Result<Delivered> {
    let bytes = map_file(path)?;
    parse(&bytes, &super::name_of(path)).with_context(|| path.display().to_string())
}

/// The model in the bytes of a file; `name` is what to call it where the file does not say.
pub(super) fn parse(bytes: &Bytes, name: &str) -> Result<Delivered> {
    let gguf = Gguf::parse(bytes)?;
    let fields = config::Fields(&gguf.metadata);
    let config = config::read(&gguf)?;
    let weights = tensors::weights(&gguf, &config)?;
    let text = text::read(fields, &config)?;
    let name = fields.text("general.name")?.unwrap_or(name).to_owned();
    Ok(Delivered {
        name,
        config,
        weights,
        tokenizer: text.tokenizer,
        stops: text.stops,
        starts: text.starts,
        chat_template: text.chat_template,
    })
}
