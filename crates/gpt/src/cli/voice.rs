//! A model that is ready to write.

use anyhow::Result;

use crate::{
    formats::Delivered,
    sample::{Decode, Draft, GenerationConfig, Writer},
    text::Tokenizer,
};

/// A model that is ready to write.
pub(super) struct Voice<'a> {
    pub(super) name: &'a str,
    pub(super) engine: &'a dyn Decode,
    pub(super) draft: Option<Draft<'a>>,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) ends: Vec<u32>,
    /// The token before the first, and whether it stands before prompts too.
    pub(super) start: (u32, bool),
    pub(super) chat_template: Option<&'a str>,
}

impl<'a> Voice<'a> {
    /// What was delivered, with an engine of it.
    pub(super) fn new(
        delivered: &'a Delivered,
        engine: &'a dyn Decode,
        draft: Option<Draft<'a>>,
    ) -> Self {
        let mut ends = delivered.stops.clone();
        ends.push(delivered.tokenizer.end_of_text());
        Self {
            name: &delivered.name,
            engine,
            draft,
            tokenizer: &delivered.tokenizer,
            ends,
            start: (delivered.config.start, delivered.starts),
            chat_template: delivered.chat_template.as_deref(),
        }
    }

    /// The tokens of a prompt: the start token where the model was taught so, and where there is nothing else.
    pub(super) fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.try_encode(text)?;
        let (start, stands) = self.start;
        if stands || tokens.is_empty() {
            tokens.insert(0, start);
        }
        Ok(tokens)
    }

    /// What writes by a configuration.
    pub(super) fn writer(&'a self, config: &'a GenerationConfig) -> Writer<'a> {
        Writer {
            engine: self.engine,
            draft: self.draft,
            tokenizer: self.tokenizer,
            ends: &self.ends,
            config,
            explain: false,
        }
    }
}
