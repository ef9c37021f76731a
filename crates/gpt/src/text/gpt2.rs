//! GPT-2's own two files: `vocab.json` (once `encoder.json`) and `merges.txt` (once `vocab.bpe`).

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    END_OF_TEXT,
    bpe::{self, Bpe},
    scheme,
};

/// What a `tokenizer.json` would say, and its tables.
pub(super) fn read(vocabulary: &str, merges: &str) -> Result<(Value, Bpe)> {
    let json = serde_json::from_str(vocabulary).context("the vocabulary is no JSON")?;
    let vocabulary = bpe::vocabulary(json).context("the vocabulary")?;
    let end = vocabulary.get(END_OF_TEXT).copied();
    let end = end.with_context(|| format!("the vocabulary has no {END_OF_TEXT}"))?;
    let is_version = |i: usize, line: &str| i == 0 && line.starts_with("#version");
    let lines = merges.lines().enumerate();
    let merges = lines
        .filter(|(i, line)| !is_version(*i, line) && !line.is_empty())
        .map(|(i, line)| {
            bpe::pair(line).with_context(|| format!("line {} of the merges is no pair", i + 1))
        })
        .collect::<Result<_>>()?;
    let added = [scheme::special(end, END_OF_TEXT)];
    let json = scheme::byte_level_json(&added, &scheme::byte_level(true));
    Ok((json, Bpe { vocabulary, merges, ..Bpe::default() }))
}
