//! A text as the pieces it was cut into, and figures about them.

use std::collections::BTreeMap;

use crate::text::Tokenizer;

/// Backgrounds of neighbours, of the terminal's 256 colours; all go with black.
const COLOURS: [u8; 6] = [153, 157, 223, 217, 183, 229];

/// One token of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) token: u32,
    pub(super) bytes: Vec<u8>,
    /// What is shown for it: its text, `\xF0` for bytes that are part of a character, `<|name|>` for a special one.
    pub(super) shown: String,
    pub(super) special: bool,
}

/// A text as pieces.
#[derive(Debug)]
pub(super) struct Cutting {
    pub(super) pieces: Vec<Piece>,
    /// Bytes of the text.
    pub(super) bytes: usize,
    pub(super) characters: usize,
    pub(super) vocabulary: usize,
}

impl Cutting {
    pub(super) fn new(tokenizer: &Tokenizer, tokens: &[u32], text: &[u8]) -> Self {
        let piece = |&token: &u32| {
            let bytes = tokenizer.bytes(token);
            let special = tokenizer.special(token);
            let shown = special.map_or_else(|| shown(&bytes), str::to_owned);
            Piece { token, bytes, shown, special: special.is_some() }
        };
        Self {
            pieces: tokens.iter().map(piece).collect(),
            bytes: text.len(),
            characters: String::from_utf8_lossy(text).chars().count(),
            vocabulary: tokenizer.vocabulary(),
        }
    }

    /// Bytes of text for each token; 0 where there is none.
    pub(super) fn bytes_per_token(&self) -> f64 {
        self.bytes as f64 / self.pieces.len().max(1) as f64
    }

    /// How many different tokens there are.
    pub(super) fn distinct(&self) -> usize {
        self.counts().len()
    }

    /// How often each token stands here.
    pub(super) fn counts(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        self.pieces.iter().for_each(|piece| *counts.entry(piece.token).or_insert(0) += 1);
        counts
    }

    /// The first pieces, in colours or with bars between them; line feeds stay what they are.
    pub(super) fn text(&self, first: usize, colours: bool) -> String {
        let mut text = String::new();
        for (i, piece) in self.pieces.iter().take(first).enumerate() {
            let safe = controls_shown(&piece.shown);
            if !colours {
                text.push_str(if i == 0 { "" } else { "|" });
                text.push_str(&safe);
                continue;
            }
            let start = format!("\x1b[30;48;5;{}m", COLOURS[i % COLOURS.len()]);
            let broken = safe.replace('\n', &format!("\u{21b5}\x1b[0m\n{start}")); // no line is filled to its end
            text += &start;
            text += &broken;
            text += "\x1b[0m";
        }
        text
    }
}

/// Text of bytes, and `\xF0` for those that are none.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    text
}

/// Characters that move the cursor or change colours, as pictures; line feeds and tabs excepted.
fn controls_shown(text: &str) -> String {
    let show = |it: char| match u32::from(it) {
        0x0A | 0x09 => it,
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or(it),
        0x7F => '\u{2421}',
        0x80..0xA0 | 0x202A..=0x202E | 0x2066..=0x2069 => char::REPLACEMENT_CHARACTER,
        _ => it,
    };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_text_bytes_or_names() {
        let text = "a\u{e9}".as_bytes();
        let cutting = Cutting::new(&Tokenizer::Bytes, &[97, 0xC3, 0xA9, 256], text);
        let shown: Vec<&str> = cutting.pieces.iter().map(|it| it.shown.as_str()).collect();
        assert_eq!(shown, ["a", "\\xC3", "\\xA9", "<|endoftext|>"]);
        assert_eq!((cutting.bytes, cutting.characters, cutting.distinct()), (3, 2, 4));
        assert_eq!(cutting.bytes_per_token(), 0.75);
        assert_eq!(cutting.text(3, false), "a|\\xC3|\\xA9");
    }

    #[test]
    fn a_terminal_gets_colours_and_no_controls_of_the_text() {
        let text = "a\x1b[2J\n";
        let tokens = Tokenizer::Bytes.encode(text);
        let cutting = Cutting::new(&Tokenizer::Bytes, &tokens, text.as_bytes());
        assert_eq!(cutting.text(9, false), "a|\u{241b}|[|2|J|\n");
        let coloured = cutting.text(9, true);
        assert!(coloured.starts_with("\x1b[30;48;5;153ma\x1b[0m\x1b[30;48;5;157m\u{241b}\x1b[0m"));
        assert!(coloured.contains("m\u{21b5}\x1b[0m\n"), "{coloured:?}");
    }
}
