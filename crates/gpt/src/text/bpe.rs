//! The tables of a byte-pair encoding, taken out of JSON or metadata without copies: vocabularies are large.

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Merges, Vocab};

/// Strings with their numbers, pairs in the order of their merging, and what becomes of characters that are no tokens.
#[derive(Debug, Default)]
pub(super) struct Bpe {
    pub(super) vocabulary: Vocab,
    pub(super) merges: Merges,
    pub(super) unknown: Option<String>,
    /// Characters that are no tokens become the tokens `<0x..>` of their bytes.
    pub(super) byte_fallback: bool,
    /// Several unknown characters become one unknown token.
    pub(super) fuse_unknown: bool,
    /// Words that are tokens stay whole, whatever the merges say.
    pub(super) ignore_merges: bool,
}

impl Bpe {
    /// Takes the tables out of `model` in a `tokenizer.json`.
    pub(super) fn take(model: &mut Value) -> Result<Self> {
        let flag = |name: &str| model[name].as_bool().unwrap_or(false);
        let mut bpe = Self {
            byte_fallback: flag("byte_fallback"),
            fuse_unknown: flag("fuse_unk"),
            ignore_merges: flag("ignore_merges"),
            unknown: model["unk_token"].as_str().map(str::to_owned),
            ..Self::default()
        };
        bpe.vocabulary = vocabulary(model["vocab"].take()).context("model.vocab")?;
        let Value::Array(merges) = model["merges"].take() else {
            return Err(anyhow!("model.merges is missing"));
        };
        let merges = merges.into_iter().enumerate().map(|(i, merge)| {
            let pair = match merge {
                Value::String(line) => pair(&line),
                Value::Array(mut list) => match &mut list[..] {
                    [Value::String(left), Value::String(right)] => {
                        Some((std::mem::take(left), std::mem::take(right)))
                    }
                    _ => None,
                },
                _ => None,
            };
            pair.with_context(|| format!("model.merges[{i}] is no pair"))
        });
        bpe.merges = merges.collect::<Result<_>>()?;
        Ok(bpe)
    }

    /// What a `tokenizer.json` says of it besides the tables.
    pub(super) fn stub(&self) -> Value {
        json!({ "type": "BPE", "byte_fallback": self.byte_fallback, "vocab": {}, "merges": [] })
    }

    /// The model that cuts.
    pub(super) fn build(self) -> Result<BPE> {
        let mut builder = BPE::builder()
            .vocab_and_merges(self.vocabulary, self.merges)
            .byte_fallback(self.byte_fallback)
            .fuse_unk(self.fuse_unknown)
            .ignore_merges(self.ignore_merges);
        if let Some(unknown) = self.unknown {
            builder = builder.unk_token(unknown);
        }
        builder.build().map_err(|error| anyhow!("{error}"))
    }
}

/// Strings with their numbers, of a JSON object.
pub(super) fn vocabulary(json: Value) -> Result<Vocab> {
    let Value::Object(map) = json else { return Err(anyhow!("is no JSON object")) };
    let number = |(string, token): (String, Value)| {
        let number = token.as_u64().and_then(|it| u32::try_from(it).ok());
        let number = number.with_context(|| format!("token {string:?} has the number {token}"))?;
        Ok((string, number))
    };
    map.into_iter().map(number).collect()
}

/// Two strings with a space between them.
pub(super) fn pair(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    let holds = !left.is_empty() && !right.is_empty() && !right.contains(' ');
    holds.then(|| (left.into(), right.into()))
}
