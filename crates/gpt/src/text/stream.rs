//! Tokens as they come, to text that can be shown.

use super::Tokenizer;

/// Gives the text of tokens as soon as it is known, in whole characters only.
///
/// All pieces together are the text that [`String::from_utf8_lossy`] makes of the tokens' bytes: a character whose bytes
/// come with several tokens waits for the last of them, and bytes that begin none become U+FFFD.
#[derive(Debug, Clone)]
pub struct Stream {
    tokenizer: Tokenizer,
    waiting: Vec<u8>, // the first bytes of a character, at most 3
}

impl Stream {
    /// Nothing has come yet. What comes is taken to continue a text: a prefix (see [`Tokenizer::prefix`]) stays.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: tokenizer.clone(), waiting: Vec::new() }
    }

    /// The text that a token completes, often none.
    pub fn push(&mut self, token: u32) -> String {
        self.waiting.extend_from_slice(self.tokenizer.spelling(token));
        self.whole()
    }

    /// The same for bytes.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.waiting.extend_from_slice(bytes);
        self.whole()
    }

    fn whole(&mut self) -> String {
        let mut text = String::new();
        let mut done = 0;
        let mut chunks = self.waiting.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let rest = chunk.invalid();
            // bytes at the very end may become a character yet
            let may_go_on = chunks.peek().is_none()
                && std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
            if !rest.is_empty() && !may_go_on {
                text.push(char::REPLACEMENT_CHARACTER);
                done += rest.len();
            }
        }
        self.waiting.drain(..done);
        text
    }

    /// Whether bytes of an unfinished character wait.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What is left: U+FFFD for the beginning of a character that never ended.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.waiting).into_owned()
    }
}
