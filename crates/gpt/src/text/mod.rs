//! Text as tokens: bytes, characters, or subwords of any `tokenizer.json`, of GPT-2's two files, of a GGUF, or trained here.
//!
//! | | tokens | texts it takes |
//! |---|---|---|
//! | [`Tokenizer::Bytes`] | 0 to 255, 256 ends a text | all, and any bytes |
//! | [`Tokenizer::Characters`] | the characters of a text, sorted, then the end | those of its characters |
//! | [`Tokenizer::Subwords`] | byte-pair encoding (Sennrich et al., 2016, <https://arxiv.org/abs/1508.07909>) and its kin | nearly always all |

mod bpe;
mod characters;
mod gguf;
mod gpt2;
mod open;
mod parts;
mod scheme;
mod subwords;
#[cfg(test)]
mod tests;
mod train;

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use core_layers::checkpoint::{hex, sha256};

pub use characters::Characters;
pub use gguf::GgufTokenizer;
pub use parts::parts;
pub use subwords::Subwords;

/// The name of the token that ends a text in tokenizers that are made here.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The 256 bytes, to be lent.
const BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes
};

/// How text is cut into tokens.
///
/// Every token but the special ones stands for bytes, and the bytes of the tokens of a text, one after the other, are the
/// text (with [`Tokenizer::prefix`] before it). Special tokens stand for no bytes. A copy is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokenizer {
    /// Bytes are tokens 0 to 255; 256 ends a text.
    Bytes,
    /// Characters of a text.
    Characters(Arc<Characters>),
    /// Subwords: whatever a `tokenizer.json` says.
    Subwords(Arc<Subwords>),
}

impl Tokenizer {
    /// Number of tokens, special ones and holes in their numbering included. A model's table may have more rows.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Bytes => 257,
            Self::Characters(it) => it.vocabulary(),
            Self::Subwords(it) => it.vocabulary(),
        }
    }

    /// The token that stands between texts, and before the first.
    pub fn end_of_text(&self) -> u32 {
        match self {
            Self::Bytes => 256,
            Self::Characters(it) => it.end_of_text(),
            Self::Subwords(it) => it.end_of_text(),
        }
    }

    /// The same with another token that ends a text, where a model's configuration says which.
    ///
    /// # Errors
    /// A number that is no token, or a tokenizer whose end is fixed.
    pub fn with_end_of_text(self, token: u32) -> Result<Self> {
        match self {
            Self::Subwords(it) => {
                Ok(Self::Subwords(Arc::new(Arc::unwrap_or_clone(it).with_end_of_text(token)?)))
            }
            other => {
                let end = other.end_of_text();
                ensure!(token == end, "token {token} cannot end a text, only {end} can");
                Ok(other)
            }
        }
    }

    /// The tokens of a text. What looks like a special token is text as well.
    ///
    /// What no token stands for is left out, or becomes the unknown token of a vocabulary that has one; whoever takes text
    /// from a person or a file asks [`Tokenizer::try_encode`].
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match self {
            Self::Bytes => text.bytes().map(u32::from).collect(),
            Self::Characters(it) => it.encode(text),
            Self::Subwords(it) => it.encode(text),
        }
    }

    /// The same for text that must be kept to the last byte.
    ///
    /// # Errors
    /// One line on the first thing in it that no token stands for.
    pub fn try_encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Bytes => Ok(self.encode(text)),
            Self::Characters(it) => it.try_encode(text),
            Self::Subwords(it) => it.try_encode(text),
        }
    }

    /// The same, where special tokens are recognised: for templates of chats, never for what a person typed.
    pub fn encode_special(&self, text: &str) -> Vec<u32> {
        match self {
            Self::Subwords(it) => it.encode_special(text),
            _ => self.encode(text),
        }
    }

    /// Tokens whose bytes, one after the other, are exactly these, without a prefix; they need be no UTF-8.
    ///
    /// # Errors
    /// One line on a byte that no token stands for, or on a vocabulary that changes text.
    pub fn encode_bytes(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        match self {
            Self::Bytes => Ok(bytes.iter().copied().map(u32::from).collect()),
            Self::Characters(it) => {
                it.try_encode(std::str::from_utf8(bytes).context("characters need UTF-8")?)
            }
            Self::Subwords(it) => it.encode_bytes(bytes),
        }
    }

    /// The bytes that a token stands for; none of a special one, or where there is no such token.
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        self.spelling(token).to_vec()
    }

    /// [`Tokenizer::bytes`], lent.
    pub fn spelling(&self, token: u32) -> &[u8] {
        match self {
            Self::Bytes => BYTES.get(token as usize..=token as usize).unwrap_or_default(),
            Self::Characters(it) => it.spelling(token),
            Self::Subwords(it) => it.spelling(token),
        }
    }

    /// What a special token is called, `<|endoftext|>`; nothing for tokens that stand for bytes.
    pub fn special(&self, token: u32) -> Option<&str> {
        match self {
            Self::Subwords(it) => it.special(token),
            _ => (token == self.end_of_text()).then_some(END_OF_TEXT),
        }
    }

    /// The special token of a name.
    pub fn special_token(&self, name: &str) -> Option<u32> {
        match self {
            Self::Subwords(it) => it.special_token(name),
            _ => (name == END_OF_TEXT).then(|| self.end_of_text()),
        }
    }

    /// What [`Tokenizer::encode`] puts before a text, and [`Tokenizer::decode`] takes away again: a space where words are
    /// spelled with the space before them (SentencePiece), else nothing.
    pub fn prefix(&self) -> &'static [u8] {
        match self {
            Self::Subwords(it) if it.has_prefix() => b" ",
            _ => b"",
        }
    }

    /// The text of tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> =
            tokens.iter().flat_map(|&token| self.spelling(token)).copied().collect();
        let bytes = bytes.strip_prefix(self.prefix()).unwrap_or(&bytes);
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Everything that is needed to make it again, for metadata.
    pub fn to_json(&self) -> String {
        match self {
            Self::Bytes => r#"{"chainrule":"bytes"}"#.into(),
            Self::Characters(it) => it.to_json(),
            Self::Subwords(it) => it.to_json(),
        }
    }

    /// A `tokenizer.json` that Hugging Face's library opens, and that cuts text into the same tokens.
    pub fn to_hugging_face(&self) -> String {
        match self {
            Self::Bytes => scheme::bytes_json().to_string(),
            Self::Characters(it) => it.to_hugging_face(),
            Self::Subwords(it) => it.to_hugging_face(),
        }
    }

    /// What [`Tokenizer::to_json`] wrote, or any `tokenizer.json` of Hugging Face.
    ///
    /// # Errors
    /// One line on what is wrong with it.
    pub fn from_json(json: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(json).context("is no JSON")?;
        match value.get("chainrule").and_then(serde_json::Value::as_str) {
            Some("bytes") => Ok(Self::Bytes),
            Some("characters") => Ok(Self::Characters(Arc::new(Characters::from_json(&value)?))),
            Some(other) => anyhow::bail!("is a tokenizer of a kind that is not known, {other:?}"),
            None => Ok(Self::Subwords(Arc::new(Subwords::from_value(value, None)?))),
        }
    }

    /// The characters of a text, sorted.
    pub fn characters<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Characters(Arc::new(Characters::of(texts)))
    }

    /// Byte-pair encoding of `vocabulary` tokens at most, learnt from texts: bytes, merges of the most frequent pairs
    /// within words as GPT-2 cuts them, and a token that ends a text.
    ///
    /// The same texts give the same tokens.
    ///
    /// # Errors
    /// [`core_layers::ConfigError`] for a vocabulary that does not hold the bytes, or is beyond [`Tokenizer::MOST`].
    pub fn train<'a>(
        texts: impl Iterator<Item = &'a str> + Send,
        vocabulary: usize,
    ) -> Result<Self> {
        Ok(Self::Subwords(Arc::new(train::train(texts, vocabulary)?)))
    }

    /// Most tokens that a tokenizer may have.
    pub const MOST: usize = 1 << 24;

    /// GPT-2's `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// One line on what is wrong with them.
    pub fn from_gpt2(vocabulary: &str, merges: &str) -> Result<Self> {
        let (json, bpe) = gpt2::read(vocabulary, merges)?;
        Ok(Self::Subwords(Arc::new(Subwords::from_bpe(json, bpe, None)?)))
    }

    /// The tokenizer that stands in a GGUF's metadata.
    ///
    /// # Errors
    /// One line on the field that is wrong, or on a kind that is not known.
    pub fn from_gguf(gguf: &GgufTokenizer) -> Result<Self> {
        let (json, bpe) = gguf::read(gguf)?;
        Ok(Self::Subwords(Arc::new(Subwords::from_bpe(json, bpe, gguf.eos)?)))
    }

    /// sha256 of [`Tokenizer::to_json`], in hex: what prepared tokens are tied to.
    pub fn hash(&self) -> String {
        match self {
            Self::Subwords(it) => it.hash().to_owned(),
            _ => hex(&sha256(self.to_json().as_bytes())),
        }
    }
}
