//! The characters of a text as tokens.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::END_OF_TEXT;

/// Characters in the order of their code points, then the token that ends a text.
///
/// A character that is none of them has no token: [`Tokenizer::try_encode`](super::Tokenizer::try_encode) refuses it and names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Characters {
    text: String,       // all of them, ascending
    starts: Vec<usize>, // of each within `text`, and its length
}

impl Characters {
    /// The characters that texts hold.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let all: BTreeSet<char> = texts.into_iter().flat_map(str::chars).collect();
        Self::sorted(all.into_iter().collect())
    }

    fn sorted(text: String) -> Self {
        let mut starts: Vec<usize> = text.char_indices().map(|(start, _)| start).collect();
        starts.push(text.len());
        Self { text, starts }
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.starts.len() // the characters and the end
    }

    pub(super) fn end_of_text(&self) -> u32 {
        self.starts.len() as u32 - 1
    }

    fn token(&self, character: char) -> Option<u32> {
        let found = self.starts[..self.starts.len() - 1]
            .binary_search_by(|&start| self.text[start..].chars().next().cmp(&Some(character)));
        found.ok().map(|place| place as u32)
    }

    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        text.chars().filter_map(|it| self.token(it)).collect()
    }

    pub(super) fn try_encode(&self, text: &str) -> Result<Vec<u32>> {
        let token = |character: char| {
            self.token(character).with_context(|| {
                let count = self.starts.len() - 1;
                let code = u32::from(character);
                format!("the character {character:?} (U+{code:04X}) is none of the {count} that the tokenizer knows")
            })
        };
        text.chars().map(token).collect()
    }

    pub(super) fn spelling(&self, token: u32) -> &[u8] {
        match self.starts.get(token as usize..token as usize + 2) {
            Some(&[start, end]) => &self.text.as_bytes()[start..end],
            _ => b"",
        }
    }

    pub(super) fn to_json(&self) -> String {
        json!({ "chainrule": "characters", "characters": self.text }).to_string()
    }

    pub(super) fn from_json(value: &Value) -> Result<Self> {
        let text = value.get("characters").and_then(Value::as_str);
        let text = text.context("characters is missing, but must be a text")?;
        let ascending = text.chars().zip(text.chars().skip(1)).all(|(a, b)| a < b);
        ensure!(ascending, "characters must be in ascending order, each once");
        Ok(Self::sorted(text.to_owned()))
    }

    /// A BPE without merges cuts text into characters.
    pub(super) fn to_hugging_face(&self) -> String {
        let end = self.end_of_text();
        let mut vocabulary: serde_json::Map<String, Value> =
            self.text.chars().zip(0u32..).map(|(it, token)| (it.into(), token.into())).collect();
        vocabulary.insert(END_OF_TEXT.into(), end.into());
        json!({
            "version": "1.0",
            "added_tokens": [super::scheme::special(end, END_OF_TEXT)],
            "decoder": { "type": "Fuse" },
            "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::super::Tokenizer;

    #[test]
    fn characters_are_numbered_in_order_and_others_are_refused() -> Result<()> {
        let tokenizer = Tokenizer::characters(["ban\u{e9}", "a\nb"]);
        assert_eq!(tokenizer.vocabulary(), 6);
        assert_eq!(tokenizer.try_encode("\nabn\u{e9}")?, [0, 1, 2, 3, 4]);
        assert_eq!((tokenizer.end_of_text(), tokenizer.bytes(5)), (5, Vec::new()));
        assert_eq!(tokenizer.decode(&[4, 5, 1]), "\u{e9}a");
        let line = tokenizer.try_encode("nab\u{fc}").unwrap_err().to_string();
        assert_eq!(
            line,
            "the character '\u{fc}' (U+00FC) is none of the 5 that the tokenizer knows"
        );
        assert!(tokenizer.encode_bytes(b"\xFF").is_err());
        for wrong in
            [r#"{"chainrule":"characters"}"#, r#"{"chainrule":"characters","characters":"ba"}"#]
        {
            assert!(Tokenizer::from_json(wrong).is_err());
        }
        Ok(())
    }
}
