//! GPT-2's own two files: `vocab.json` (once `encoder.json`) and `merges.txt` (once `vocab.bpe`).

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{END_OF_TEXT, scheme};

/// The `tokenizer.json` that says the same.
pub(super) fn json(vocabulary: &str, merges: &str) -> Result<Value> {
    let vocabulary: Value =
        serde_json::from_str(vocabulary).context("the vocabulary is no JSON")?;
    let end = vocabulary.get(END_OF_TEXT).and_then(Value::as_u64);
    let end = end.with_context(|| format!("the vocabulary has no {END_OF_TEXT}"))?;
    let lines = merges
        .lines()
        .enumerate()
        .filter(|(i, line)| !(*i == 0 && line.starts_with("#version")) && !line.is_empty());
    let merges: Vec<Value> = lines
        .map(|(i, line)| {
            pair(line).with_context(|| format!("line {} of the merges is no pair", i + 1))
        })
        .collect::<Result<_>>()?;
    let model = json!({ "type": "BPE", "vocab": vocabulary, "merges": merges });
    let end = u32::try_from(end).with_context(|| format!("{END_OF_TEXT} has the number {end}"))?;
    let added = vec![scheme::special(end, END_OF_TEXT)];
    Ok(scheme::byte_level_json(model, added, scheme::byte_level(true)))
}

/// Two strings with a space between them.
pub(super) fn pair(line: &str) -> Option<Value> {
    let (left, right) = line.split_once(' ')?;
    let holds = !left.is_empty() && !right.is_empty() && !right.contains(' ');
    holds.then(|| json!([left, right]))
}
