//! The tokenizer in the metadata of a GGUF, as llama.cpp writes it.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokenizers::models::bpe::Vocab;

use super::{
    bpe::{self, Bpe},
    scheme,
};

/// The fields `tokenizer.ggml.*` of a GGUF, as they stand there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufTokenizer {
    /// `model`: `gpt2` for byte-level BPE, `llama` for SentencePiece.
    pub model: String,
    /// `pre`: how text is cut before merges, of `gpt2`.
    pub pre: Option<String>,
    /// `tokens`: their strings.
    pub tokens: Vec<String>,
    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; may be empty.
    pub token_types: Vec<i32>,
    /// `scores`: the greatest is merged first, of `llama`.
    pub scores: Vec<f32>,
    /// `merges`: pairs with a space between them, of `gpt2`.
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`: ends a text where no token is called as usual.
    pub eos: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_space_prefix`, of `llama`; it does where nothing is said.
    pub add_space_prefix: Option<bool>,
}

const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// How GPT-2 cuts words, without the runs of white space that no alternative takes.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
/// LLaMA 3 and its kin; `DIGITS` says how many make a piece.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a `tokenizer.json` would say, and its tables.
pub(super) fn read(gguf: &GgufTokenizer) -> Result<(Value, Bpe)> {
    let count = gguf.tokens.len();
    for (field, len) in [("token_type", gguf.token_types.len()), ("scores", gguf.scores.len())] {
        ensure!(
            len == 0 || len == count,
            "tokenizer.ggml.{field} has {len} entries, but there are {count} tokens"
        );
    }
    match gguf.model.as_str() {
        "gpt2" => byte_level(gguf),
        "llama" => sentence_piece(gguf),
        other => bail!("tokenizer.ggml.model is {other:?}, but must be one of gpt2, llama"),
    }
}

impl GgufTokenizer {
    fn kind(&self, token: usize) -> i32 {
        self.token_types.get(token).copied().unwrap_or(1)
    }

    /// Strings with their numbers; of equal ones the first counts, since text can only become that.
    fn vocabulary(&self) -> Vocab {
        let numbered = self.tokens.iter().enumerate().rev();
        numbered.map(|(token, string)| (string.clone(), token as u32)).collect()
    }

    fn added(&self, vocabulary: &Vocab) -> Vec<Value> {
        let is_added = |token: u32, string: &String| {
            matches!(self.kind(token as usize), UNKNOWN | CONTROL | USER_DEFINED)
                && vocabulary.get(string) == Some(&token)
                && !string.is_empty()
        };
        let all = self.tokens.iter().zip(0u32..);
        all.filter(|(string, token)| is_added(*token, string))
            .map(|(string, token)| {
                scheme::added(token, string, self.kind(token as usize) != USER_DEFINED)
            })
            .collect()
    }
}

fn byte_level(gguf: &GgufTokenizer) -> Result<(Value, Bpe)> {
    let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let sequence = |first: Vec<Value>, use_regex: bool| {
        let all: Vec<Value> = first.into_iter().chain([scheme::byte_level(use_regex)]).collect();
        json!({ "type": "Sequence", "pretokenizers": all })
    };
    let pre = gguf.pre.as_deref().unwrap_or("default");
    let cutter = match pre {
        "gpt-2" | "gpt2" | "mpt" | "olmo" | "jais" | "phi-2" => scheme::byte_level(true),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            sequence(vec![json!({ "type": "Digits", "individual_digits": true })], true)
        }
        "llama-bpe" | "llama-v3" | "llama3" => {
            sequence(vec![split(&LLAMA_3.replace("DIGITS", "{1,3}"))], false)
        }
        "qwen2" | "stablelm2" => sequence(vec![split(&LLAMA_3.replace("DIGITS", ""))], false),
        "default" => {
            let patterns = [r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"];
            sequence(patterns.into_iter().map(split).collect(), false)
        }
        other => bail!(
            "tokenizer.ggml.pre is {other:?}, but must be one of default, gpt-2, smollm, llama-bpe, qwen2"
        ),
    };
    let pair = |(i, line): (usize, &String)| {
        bpe::pair(line).with_context(|| format!("tokenizer.ggml.merges[{i}] is {line:?}, no pair"))
    };
    let merges = gguf.merges.iter().enumerate().map(pair).collect::<Result<_>>()?;
    let vocabulary = gguf.vocabulary();
    let json = scheme::byte_level_json(&gguf.added(&vocabulary), &cutter);
    let ignore_merges = pre.starts_with("llama");
    Ok((json, Bpe { vocabulary, merges, ignore_merges, ..Bpe::default() }))
}

/// SentencePiece joins the two neighbours whose union has the greatest score; as merges, all pairs whose union is a
/// token, the greatest score first.
fn sentence_piece(gguf: &GgufTokenizer) -> Result<(Value, Bpe)> {
    ensure!(gguf.scores.len() == gguf.tokens.len(), "tokenizer.ggml.scores is missing");
    let numbers: HashMap<&str, usize> =
        gguf.tokens.iter().enumerate().rev().map(|(token, it)| (it.as_str(), token)).collect();
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for (token, string) in gguf.tokens.iter().enumerate() {
        if gguf.kind(token) != 1 || numbers[string.as_str()] != token {
            continue;
        }
        ensure!(string.len() <= 1024, "tokenizer.ggml.tokens[{token}] has {} bytes", string.len());
        for (place, _) in string.char_indices().skip(1) {
            let (left, right) = string.split_at(place);
            if numbers.contains_key(left) && numbers.contains_key(right) {
                merges.push((gguf.scores[token], left, right));
            }
        }
    }
    let order = |(score, left, right): &(f32, &str, &str)| (*score, left.len(), right.len());
    merges.sort_by(|a, b| {
        let (a, b) = (order(a), order(b));
        b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2))
    });
    let merges = merges.into_iter().map(|(_, left, right)| (left.into(), right.into())).collect();
    let unknown = (0..gguf.tokens.len()).find(|&token| gguf.kind(token) == UNKNOWN);
    let unknown = unknown.map(|token| gguf.tokens[token].clone());
    let vocabulary = gguf.vocabulary();
    let prefix = gguf.add_space_prefix.unwrap_or(true);
    let json = scheme::sentence_piece_json(&gguf.added(&vocabulary), prefix);
    let bpe = Bpe {
        vocabulary,
        merges,
        unknown,
        byte_fallback: true,
        fuse_unknown: true,
        ignore_merges: false,
    };
    Ok((json, bpe))
}
