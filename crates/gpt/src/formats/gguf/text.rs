//! Metadata to a tokenizer, and to what stands around texts.

use anyhow::{Context as _, Result};

use super::{config::Fields, value::Value};
use crate::{
    config::DecoderConfig,
    formats::ensure_fits,
    text::{GgufTokenizer, Tokenizer},
};

/// How a model's text is cut and laid out.
pub(super) struct Text {
    pub(super) tokenizer: Tokenizer,
    pub(super) stops: Vec<u32>,
    pub(super) starts: bool,
    pub(super) chat_template: Option<String>,
}

const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";

/// The token that stands before a text: the start token, or the end token, or 0.
pub(super) fn start(fields: Fields<'_>, vocabulary: i64) -> Result<u32> {
    let given = [fields.token(BOS)?, fields.token(EOS)?];
    Ok(given.into_iter().flatten().find(|&it| i64::from(it) < vocabulary).unwrap_or(0))
}

/// What the metadata says of text; a file without tokens is read as bytes.
pub(super) fn read(fields: Fields<'_>, config: &DecoderConfig) -> Result<Text> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let text = |it| if let Value::Text(text) = it { Some(text.to_owned()) } else { None };
    let model = fields.text(&key("model"))?.unwrap_or_default();
    let add_bos = fields.bool(&key("add_bos_token"))?;
    let tokenizer = if let Some(tokens) = fields.entries(&key("tokens"), text)? {
        let kind = |it| if let Value::Whole(x) = it { i32::try_from(x).ok() } else { None };
        let score = |it| if let Value::Float(x) = it { Some(x as f32) } else { None };
        let raw = GgufTokenizer {
            model: model.to_owned(),
            pre: fields.text(&key("pre"))?.map(ToOwned::to_owned),
            tokens,
            token_types: fields.entries(&key("token_type"), kind)?.unwrap_or_default(),
            scores: fields.entries(&key("scores"), score)?.unwrap_or_default(),
            merges: fields.entries(&key("merges"), text)?.unwrap_or_default(),
            bos: fields.token(BOS)?,
            eos: fields.token(EOS)?,
            add_bos,
            add_space_prefix: fields.bool(&key("add_space_prefix"))?,
        };
        let tokenizer = Tokenizer::from_gguf(&raw).context("its tokenizer")?;
        ensure_fits(&tokenizer, config)?;
        tokenizer
    } else {
        Tokenizer::Bytes
    };
    let mut stops = Vec::new();
    for name in ["eos_token_id", "eot_token_id"] {
        let stop = fields.token(&key(name))?.filter(|&it| i64::from(it) < config.vocabulary);
        stops.extend(stop.filter(|it| !stops.contains(it)));
    }
    Ok(Text {
        tokenizer,
        stops,
        starts: add_bos.unwrap_or(model == "llama"), // as llama.cpp takes it
        chat_template: fields.text("tokenizer.chat_template")?.map(ToOwned::to_owned),
    })
}
