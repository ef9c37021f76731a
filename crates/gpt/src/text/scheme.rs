//! How the tokens of a `tokenizer.json` are spelled: which bytes the strings of its vocabulary stand for.

use std::{collections::HashMap, sync::LazyLock};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::END_OF_TEXT;

/// What SentencePiece writes for a space.
const SPACE: char = '\u{2581}';

/// The bytes as characters that can be seen: GPT-2's alphabet. A printable byte of Latin-1 is its own character, the
/// others are U+0100 onwards in their order.
static ALPHABET: LazyLock<Vec<char>> = LazyLock::new(|| {
    let mut others = 256u32..;
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut visible = |byte: u8| {
        if printable(byte) {
            Some(char::from(byte))
        } else {
            others.next().and_then(char::from_u32)
        }
    };
    (0..=255).filter_map(&mut visible).collect()
});

static BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| ALPHABET.iter().copied().zip(0..=255).collect());

/// What may be done to text before it is cut.
const NORMALIZERS: [&str; 11] = [
    "Prepend",
    "Replace",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Lowercase",
    "Strip",
    "StripAccents",
    "Nmt",
    "BertNormalizer",
];

/// What may cut text before merges.
const CUTTERS: [&str; 10] = [
    "ByteLevel",
    "Metaspace",
    "Digits",
    "Split",
    "Punctuation",
    "Whitespace",
    "WhitespaceSplit",
    "BertPreTokenizer",
    "CharDelimiterSplit",
    "UnicodeScripts",
];

/// What the strings of a vocabulary are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spelling {
    /// Characters that stand for bytes: GPT-2 and its kin.
    ByteLevel,
    /// Text.
    Text {
        /// The character that stands for a space: SentencePiece.
        space: Option<char>,
        /// Whether `<0x0A>` stands for a byte.
        byte_fallback: bool,
    },
}

/// How strings of a vocabulary become bytes, and text comes to its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scheme {
    spelling: Spelling,
    /// Text gets a space before it.
    pub(super) prefix: bool,
    /// Text is changed before it is cut: to lower case, to composed characters.
    pub(super) changes: bool,
}

impl Scheme {
    /// What a `tokenizer.json` says, as far as spelling goes.
    pub(super) fn of(json: &Value) -> Result<Self> {
        let model = &json["model"];
        let kind = model["type"].as_str();
        let kind = kind.or_else(|| model.get("merges").map(|_| "BPE")).unwrap_or("none");
        ensure!(
            matches!(kind, "BPE" | "Unigram"),
            "model.type is {kind}, but must be BPE or Unigram: the tokens of others do not spell the text"
        );
        for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
            let given = model[field].as_str().unwrap_or_default();
            ensure!(given.is_empty(), "model.{field} is {given:?}, but must be left out");
        }
        let mut byte_fallback = model["byte_fallback"].as_bool().unwrap_or(false);
        let (mut byte_level, mut space, mut prefix, mut changes) = (false, None, false, false);
        let decoders = components(&json["decoder"]);
        let cutters = components(&json["pre_tokenizer"]);
        let is = |part: &Value, kind: &str| part["type"] == kind;
        for part in &decoders {
            match part["type"].as_str().unwrap_or("none") {
                "ByteLevel" => byte_level = true,
                "ByteFallback" => byte_fallback = true,
                "Metaspace" => space = Some(replacement(part)),
                "Replace" if part["content"] == " " => {
                    space = part["pattern"]["String"].as_str().and_then(|it| it.chars().next());
                }
                "Fuse" | "Strip" => {}
                other => bail!("decoder is {other}, whose tokens do not spell the text"),
            }
        }
        byte_level |= decoders.is_empty() && cutters.iter().any(|it| is(it, "ByteLevel"));
        for part in &cutters {
            let kind = part["type"].as_str().unwrap_or("none");
            ensure!(CUTTERS.contains(&kind), "pre_tokenizer is {kind}, which is not supported");
            if is(part, "Metaspace") {
                space = Some(replacement(part));
                let is_new = part.get("prepend_scheme").and_then(Value::as_str);
                let old = part["add_prefix_space"].as_bool().unwrap_or(true);
                prefix |= is_new.map_or(old, |it| it != "never");
            }
            prefix |= is(part, "ByteLevel") && part["add_prefix_space"] == true;
        }
        for part in components(&json["normalizer"]) {
            ensure_sound(part)?;
            let space = space.unwrap_or(SPACE);
            let is_space = |it: &Value| it.as_str() == Some(space.encode_utf8(&mut [0; 4]));
            if is(part, "Prepend") && is_space(&part["prepend"]) {
                prefix = true;
            } else if !(is(part, "Replace")
                && part["pattern"]["String"] == " "
                && is_space(&part["content"]))
            {
                changes = true;
            }
        }
        let spelling =
            if byte_level { Spelling::ByteLevel } else { Spelling::Text { space, byte_fallback } };
        Ok(Self { spelling, prefix, changes })
    }

    /// The bytes that a string of the vocabulary stands for.
    pub(super) fn spell(&self, token: &str) -> Vec<u8> {
        let (space, byte_fallback) = match self.spelling {
            Spelling::Text { space, byte_fallback } => (space, byte_fallback),
            Spelling::ByteLevel => {
                let bytes = token.chars().map(|it| BYTES.get(&it).copied());
                let bytes: Option<Vec<u8>> = bytes.collect();
                return bytes.unwrap_or_else(|| token.into()); // as Hugging Face's decoder does
            }
        };
        if byte_fallback
            && let Some(digits) = token.strip_prefix("<0x").and_then(|it| it.strip_suffix('>'))
            && digits.len() == 2
            && let Ok(byte) = u8::from_str_radix(digits, 16)
        {
            return vec![byte];
        }
        match space {
            Some(space) => token.replace(space, " ").into_bytes(),
            None => token.into(),
        }
    }
}

/// Refuses a normaliser that the library cannot carry out on every text: it panics over an empty match.
fn ensure_sound(part: &Value) -> Result<()> {
    let kind = part["type"].as_str().unwrap_or("none");
    let text = match kind {
        "Prepend" => &part["prepend"],
        "Replace" => &part["pattern"]["String"],
        _ => &part["type"],
    };
    ensure!(NORMALIZERS.contains(&kind), "normalizer is {kind}, which is not supported");
    let holds = text.as_str().is_some_and(|it| !it.is_empty());
    ensure!(
        holds,
        "normalizer {kind} must have a text that is not empty, and no regular expression"
    );
    Ok(())
}

/// The parts of a sequence, or the one part that stands alone; none where there is nothing.
fn components(part: &Value) -> Vec<&Value> {
    if part["type"] != "Sequence" {
        return if part.is_null() { Vec::new() } else { vec![part] };
    }
    let lists = ["normalizers", "pretokenizers", "decoders", "processors"];
    let list = lists.iter().find_map(|&name| part[name].as_array());
    list.into_iter().flatten().flat_map(components).collect()
}

fn replacement(part: &Value) -> char {
    part["replacement"].as_str().and_then(|it| it.chars().next()).unwrap_or(SPACE)
}

/// The same without the space before a text.
pub(super) fn without_prefix(mut json: Value) -> Value {
    let is_prepend = |part: &Value| part["type"] == "Prepend";
    if is_prepend(&json["normalizer"]) {
        json["normalizer"] = Value::Null;
    }
    let list = json["normalizer"].get_mut("normalizers").and_then(Value::as_array_mut);
    if let Some(list) = list {
        list.retain(|part| !is_prepend(part));
    }
    let cutter = &mut json["pre_tokenizer"];
    if cutter["type"] == "Sequence" {
        cutter["pretokenizers"].as_array_mut().into_iter().flatten().for_each(unprefix);
    } else {
        unprefix(cutter);
    }
    json
}

fn unprefix(part: &mut Value) {
    if part["type"] == "Metaspace" {
        part["prepend_scheme"] = "never".into();
        part["add_prefix_space"] = false.into();
    } else if part["type"] == "ByteLevel" {
        part["add_prefix_space"] = false.into();
    }
}

/// An added token that stands for no text.
pub(super) fn special(token: u32, content: &str) -> Value {
    added(token, content, true)
}

/// An added token, special or not, as `tokenizer.json` lists it.
pub(super) fn added(token: u32, content: &str, special: bool) -> Value {
    json!({
        "id": token, "content": content, "special": special,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    })
}

/// The cut before merges that GPT-2 makes, and bytes as characters.
pub(super) fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

/// A `tokenizer.json` of byte-level BPE, but for the model.
pub(super) fn byte_level_json(added: &[Value], cutter: &Value) -> Value {
    json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": cutter,
        "decoder": byte_level(true),
    })
}

/// A `tokenizer.json` of the plain bytes, numbered as they are, and an end.
pub(super) fn bytes_json() -> Value {
    let mut vocabulary: serde_json::Map<String, Value> =
        ALPHABET.iter().zip(0u32..).map(|(it, token)| (it.to_string(), token.into())).collect();
    vocabulary.insert(END_OF_TEXT.into(), 256.into());
    let mut json = byte_level_json(&[special(256, END_OF_TEXT)], &byte_level(false));
    json["model"] = json!({ "type": "BPE", "vocab": vocabulary, "merges": [] });
    json
}

/// A `tokenizer.json` of SentencePiece's kind, but for the model: spaces as U+2581, bytes where nothing else stands for a character.
pub(super) fn sentence_piece_json(added: &[Value], prefix: bool) -> Value {
    let space = SPACE.to_string();
    let mut normalizers =
        vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": space })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": space }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": space }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "decoder": { "type": "Sequence", "decoders": decoders },
    })
}
