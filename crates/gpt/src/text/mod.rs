//! Text as tokens.

use anyhow::Result;

/// How text is cut into tokens.
///
/// Every token but the special ones stands for bytes, and the bytes of the tokens of a text, one after the other, are the
/// text. Special tokens stand for no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokenizer {
    /// Bytes are tokens 0 to 255; 256 ends a text.
    Bytes,
}

impl Tokenizer {
    /// Number of tokens, special ones included.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Bytes => 257,
        }
    }

    /// The token that stands between texts, and before the first.
    pub fn end_of_text(&self) -> u32 {
        match self {
            Self::Bytes => 256,
        }
    }

    /// The tokens of a text. What looks like a special token is text as well.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match self {
            Self::Bytes => text.bytes().map(u32::from).collect(),
        }
    }

    /// The same, where special tokens are recognised: for templates of chats, never for what a person typed.
    pub fn encode_special(&self, text: &str) -> Vec<u32> {
        self.encode(text)
    }

    /// The bytes that a token stands for; none of a special one.
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        match self {
            Self::Bytes => u8::try_from(token).into_iter().collect(),
        }
    }

    /// The text of tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.bytes(token)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything that is needed to make it again, for metadata and `tokenizer.json`.
    pub fn to_json(&self) -> String {
        match self {
            Self::Bytes => r#"{"chainrule":"bytes"}"#.into(),
        }
    }

    /// What [`Tokenizer::to_json`] wrote, or any `tokenizer.json` of Hugging Face.
    ///
    /// # Errors
    /// One line on what is wrong with it.
    pub fn from_json(json: &str) -> Result<Self> {
        anyhow::ensure!(json == Self::Bytes.to_json(), "is no tokenizer");
        Ok(Self::Bytes)
    }
}
