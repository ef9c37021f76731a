//! Tokens of many documents, one after the other.

use std::ops::Range;

use core_layers::encoded::Bytes;

use crate::text::Tokenizer;

/// The tokens of a split: the token that ends a text, then each document with that token behind it.
///
/// So every token of a document, and its end, has something before it that it can be predicted from. The bytes may be those
/// of a mapped file.
#[derive(Debug, Clone)]
pub struct Tokens {
    wide: bool,       // 4 bytes a token, or 2
    bytes: Bytes,     // little endian
    documents: Bytes, // the first token of each document, u64
}

impl Tokens {
    /// Tokens as they lie in memory; a byte count that is no multiple of their width is cut.
    pub(super) fn new(wide: bool, bytes: Bytes, documents: Bytes) -> Self {
        Self { wide, bytes, documents }
    }

    /// How many there are, ends included.
    pub fn len(&self) -> usize {
        self.bytes.len() / if self.wide { 4 } else { 2 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that are predicted: all but the first.
    pub fn targets(&self) -> usize {
        self.len().saturating_sub(1)
    }

    /// The token at a place.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, place: usize) -> u32 {
        if self.wide {
            let bytes = &self.bytes[4 * place..4 * place + 4];
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        } else {
            u16::from_le_bytes([self.bytes[2 * place], self.bytes[2 * place + 1]]).into()
        }
    }

    /// The tokens of a range.
    ///
    /// # Panics
    /// If it reaches beyond the end.
    pub fn range(&self, range: Range<usize>) -> impl Iterator<Item = u32> {
        range.map(|place| self.get(place))
    }

    /// How many documents there are.
    pub fn documents(&self) -> usize {
        self.documents.len() / 8
    }

    /// Where a document's tokens stand, and the token that ends it.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn document(&self, index: usize) -> Range<usize> {
        let end = if index + 1 < self.documents() { self.start(index + 1) } else { self.len() };
        self.start(index)..end
    }

    fn start(&self, index: usize) -> usize {
        let bytes = &self.documents[8 * index..8 * index + 8];
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
    }

    /// Bytes of text that the tokens of a range stand for.
    pub fn bytes(&self, tokenizer: &Tokenizer, range: Range<usize>) -> usize {
        self.range(range).map(|token| tokenizer.spelling(token).len()).sum()
    }
}
