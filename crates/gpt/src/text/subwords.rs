//! Subwords: what a `tokenizer.json` says, cut by crate `tokenizers`, spelled by a table of our own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use core_layers::checkpoint::{hex, sha256};
use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer as Cutter};

use super::{Tokenizer, bpe::Bpe, parts, scheme, scheme::Scheme};

/// Text is cut in parts of so many bytes, which keeps memory small.
const PART: usize = 1 << 16;

/// Names of the token that ends a text, the likeliest first.
const ENDS: [&str; 7] =
    [super::END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<|im_end|>"];

/// What `tokenizer.json` may hold.
const FIELDS: [&str; 7] = [
    "version",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
];

/// The field of ours that says which token ends a text, where its name does not.
const END: &str = "end_of_text";

/// A vocabulary of byte strings, and how text is cut into them.
#[derive(Debug, Clone)]
pub struct Subwords {
    plain: Cutter,                // special tokens are text
    knowing: OnceLock<Cutter>,    // special tokens are special
    unprefixed: OnceLock<Cutter>, // no space before the text
    scheme: Scheme,
    spellings: Vec<u8>, // of all tokens, one after the other
    starts: Vec<u32>,   // of each within, and their length
    specials: BTreeMap<u32, String>,
    singles: HashMap<u8, u32>, // tokens that stand for one byte
    end: u32,
    hash: OnceLock<String>,
}

impl PartialEq for Subwords {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for Subwords {}

impl Subwords {
    /// What a `tokenizer.json` describes; `end` ends a text where no token has one of the usual names.
    pub(super) fn from_value(mut json: Value, end: Option<u32>) -> Result<Self> {
        let object = json.as_object_mut().context("is no JSON object")?;
        let given = object.remove(END).and_then(|it| it.as_u64()).and_then(|it| it.try_into().ok());
        object.retain(|name, _| FIELDS.contains(&name.as_str())); // no truncation, no padding
        let scheme = Scheme::of(&json)?;
        let mut subwords = if json["model"]["type"] == "Unigram" {
            let pieces = pieces(&json["model"]["vocab"])?;
            let listed = listed(&json)?;
            Self::new(cutter(json)?, scheme, pieces, listed, end)?
        } else {
            let bpe = Bpe::take(&mut json["model"])?;
            Self::from_bpe(json, bpe, end)?
        };
        subwords.end = given.unwrap_or(subwords.end);
        let end = subwords.end;
        subwords.with_end_of_text(end)
    }

    /// What a `tokenizer.json` without a model describes, with a BPE as its model.
    pub(super) fn from_bpe(mut json: Value, bpe: Bpe, end: Option<u32>) -> Result<Self> {
        json["model"] = bpe.stub();
        let scheme = Scheme::of(&json)?;
        let strings =
            bpe.vocabulary.iter().map(|(string, &token)| (string.clone(), token)).collect();
        let listed = listed(&json)?;
        let added = std::mem::replace(&mut json["added_tokens"], Value::Array(Vec::new()));
        let mut cutter = cutter(json)?;
        let bpe = bpe.build().map_err(|error| foreign(&error))?;
        cutter.with_model(bpe);
        let added: Vec<AddedToken> = serde_json::from_value(added)
            .map_err(|error| anyhow!("added_tokens is no list of tokens: {error}"))?;
        cutter.add_tokens(&added);
        Self::new(cutter, scheme, strings, listed, end)
    }

    /// Tables over a cutter: strings of the model's vocabulary, then added tokens.
    fn new(
        mut plain: Cutter,
        scheme: Scheme,
        strings: Vec<(String, u32)>,
        listed: Vec<(String, u32, bool)>,
        end: Option<u32>,
    ) -> Result<Self> {
        plain.set_encode_special_tokens(true);
        let mut table: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for (string, token) in strings {
            let other = table.insert(token, scheme.spell(&string));
            ensure!(other.is_none(), "two tokens have the number {token}, one of them {string:?}");
        }
        let mut specials = BTreeMap::new();
        for (content, token, is_special) in listed {
            let found = plain.token_to_id(&content);
            ensure!(
                found == Some(token),
                "added token {content:?} has the number {token}, but must have {}",
                found.unwrap_or_default()
            );
            table.insert(token, if is_special { Vec::new() } else { content.clone().into() });
            if is_special {
                specials.insert(token, content);
            }
        }
        let (last, _) = table.last_key_value().context("there are no tokens")?;
        let vocabulary = *last as usize + 1;
        ensure!(
            vocabulary <= 2 * table.len() + 1024 && vocabulary <= Tokenizer::MOST,
            "a token has the number {last}, but there are only {}",
            table.len()
        );
        let usual = ENDS.iter().find_map(|name| specials.iter().find(|(_, it)| it == name));
        let end = usual.map(|(&token, _)| token).or(end);
        let end = end.context("there is no token that ends a text, such as <|endoftext|>")?;
        let (mut spellings, mut starts, mut singles) = (Vec::new(), vec![0], HashMap::new());
        for token in 0..vocabulary as u32 {
            let bytes = table.remove(&token).unwrap_or_default();
            if let [byte] = bytes[..] {
                singles.entry(byte).or_insert(token);
            }
            spellings.extend(bytes);
            starts.push(u32::try_from(spellings.len()).context("tokens spell more than 4 GB")?);
        }
        Self {
            plain,
            knowing: OnceLock::new(),
            unprefixed: OnceLock::new(),
            scheme,
            spellings,
            starts,
            specials,
            singles,
            end,
            hash: OnceLock::new(),
        }
        .with_end_of_text(end)
    }

    pub(super) fn with_end_of_text(mut self, token: u32) -> Result<Self> {
        let count = self.vocabulary();
        ensure!(
            (token as usize) < count,
            "token {token} cannot end a text, there are {count} tokens"
        );
        (self.end, self.hash) = (token, OnceLock::new());
        Ok(self)
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn end_of_text(&self) -> u32 {
        self.end
    }

    pub(super) fn has_prefix(&self) -> bool {
        self.scheme.prefix
    }

    pub(super) fn spelling(&self, token: u32) -> &[u8] {
        match self.starts.get(token as usize..token as usize + 2) {
            Some(&[start, end]) => &self.spellings[start as usize..end as usize],
            _ => b"",
        }
    }

    pub(super) fn special(&self, token: u32) -> Option<&str> {
        self.specials.get(&token).map(String::as_str)
    }

    pub(super) fn special_token(&self, name: &str) -> Option<u32> {
        self.specials.iter().find(|(_, it)| *it == name).map(|(&token, _)| token)
    }

    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_in_parts(text, PART)
    }

    pub(super) fn encode_in_parts(&self, text: &str, size: usize) -> Vec<u32> {
        let cutters =
            std::iter::once(&self.plain).chain(std::iter::repeat_with(|| self.unprefixed()));
        parts(text, size).zip(cutters).flat_map(|(part, cutter)| cut(cutter, part)).collect()
    }

    pub(super) fn encode_special(&self, text: &str) -> Vec<u32> {
        let knowing = self.knowing.get_or_init(|| {
            let mut cutter = self.plain.clone();
            cutter.set_encode_special_tokens(false);
            cutter
        });
        cut(knowing, text)
    }

    /// The same cutter without the space before a text.
    fn unprefixed(&self) -> &Cutter {
        if !self.scheme.prefix {
            return &self.plain;
        }
        self.unprefixed.get_or_init(|| {
            let json = serde_json::to_value(&self.plain).map(scheme::without_prefix);
            let cutter = json.and_then(serde_json::from_value::<Cutter>);
            let mut cutter = cutter.unwrap_or_else(|_| self.plain.clone());
            cutter.set_encode_special_tokens(true);
            cutter
        })
    }

    pub(super) fn try_encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokens = self.encode(text);
        if self.scheme.changes {
            return Ok(tokens); // to be changed is what its author wants
        }
        let spelled: Vec<u8> = tokens.iter().flat_map(|&it| self.spelling(it)).copied().collect();
        let spelled = match spelled.strip_prefix(b" ") {
            Some(rest) if self.scheme.prefix && spelled.len() != text.len() => rest,
            _ => &spelled,
        };
        if spelled == text.as_bytes() {
            return Ok(tokens);
        }
        let equal = text.bytes().zip(spelled).take_while(|(a, b)| a == *b).count();
        let place = text.floor_char_boundary(equal);
        let character = text[place..].chars().next().unwrap_or_default();
        Err(anyhow!("no token stands for {character:?}, at byte {place} of the text"))
    }

    pub(super) fn encode_bytes(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        for chunk in bytes.utf8_chunks() {
            for part in parts(chunk.valid(), PART) {
                let found = cut(self.unprefixed(), part);
                let spelled = found.iter().flat_map(|&token| self.spelling(token));
                if spelled.eq(part.as_bytes()) {
                    tokens.extend(found);
                } else {
                    self.spell_out(part.as_bytes(), &mut tokens)?;
                }
            }
            self.spell_out(chunk.invalid(), &mut tokens)?;
        }
        Ok(tokens)
    }

    /// Byte by byte.
    fn spell_out(&self, bytes: &[u8], tokens: &mut Vec<u32>) -> Result<()> {
        for byte in bytes {
            let token = self.singles.get(byte);
            tokens.push(
                *token.with_context(|| format!("no token stands for the byte 0x{byte:02X}"))?,
            );
        }
        Ok(())
    }

    pub(super) fn to_hugging_face(&self) -> String {
        self.plain.to_string(false).expect("what was read from JSON can be written as JSON")
    }

    pub(super) fn to_json(&self) -> String {
        let json = self.to_hugging_face();
        let usual = ENDS.iter().find_map(|name| self.special_token(name));
        match json.strip_prefix('{') {
            Some(rest) if usual != Some(self.end) => format!("{{\"{END}\":{},{rest}", self.end),
            _ => json,
        }
    }

    pub(super) fn hash(&self) -> &str {
        self.hash.get_or_init(|| hex(&sha256(self.to_json().as_bytes())))
    }
}

/// The tokens of a text; none where a cutter cannot go on, which [`Subwords::try_encode`] sees.
fn cut(cutter: &Cutter, text: &str) -> Vec<u32> {
    cutter.encode_fast(text, false).map_or_else(|_| Vec::new(), |it| it.get_ids().to_vec())
}

/// What the library says, in one line whatever strings it quotes.
fn foreign(error: &dyn std::fmt::Display) -> anyhow::Error {
    let line = error.to_string().replace(char::is_control, "?");
    anyhow!("is no tokenizer of Hugging Face: {line}")
}

/// The cutter of a `tokenizer.json`.
fn cutter(json: Value) -> Result<Cutter> {
    serde_json::from_value(json).map_err(|error| foreign(&error))
}

/// The pieces of a unigram model with their numbers.
fn pieces(vocabulary: &Value) -> Result<Vec<(String, u32)>> {
    let list = vocabulary.as_array().context("model.vocab is missing")?;
    let string = |pair: &Value| pair[0].as_str().map(str::to_owned);
    let all = list.iter().zip(0..).map(|(pair, token)| Some((string(pair)?, token)));
    all.collect::<Option<_>>().context("model.vocab holds something else than strings and scores")
}

/// Added tokens: their text, their number, and whether they are special.
fn listed(json: &Value) -> Result<Vec<(String, u32, bool)>> {
    let list = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let token = |it: &Value| {
        let number = it["id"].as_u64().and_then(|it| u32::try_from(it).ok())?;
        Some((it["content"].as_str()?.to_owned(), number, it["special"].as_bool()?))
    };
    list.iter()
        .map(|it| {
            token(it)
                .with_context(|| "added_tokens holds something without id, content and special")
        })
        .collect()
}
