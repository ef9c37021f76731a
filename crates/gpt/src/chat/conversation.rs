//! Who said what, and how much of it a model still sees.

use anyhow::Result;
use core_layers::ConfigError;

use super::{Message, Role, Template, encode};
use crate::text::Tokenizer;

/// A conversation with a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// What the model is told beforehand.
    pub system: Option<String>,
    said: Vec<Message>,
    forgotten: usize, // messages that the model sees no more
}

/// A conversation as a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Messages that had to be dropped for it just now.
    pub dropped: usize,
}

impl Conversation {
    /// One in which nothing was said yet.
    pub fn new(system: Option<String>) -> Self {
        Self { system, ..Self::default() }
    }

    /// Appends a message.
    pub fn say(&mut self, role: Role, content: impl Into<String>) {
        self.said.push(Message::new(role, content));
    }

    /// Takes the last message back.
    pub fn unsay(&mut self) {
        self.said.pop();
        self.forgotten = self.forgotten.min(self.said.len());
    }

    /// Forgets everything but the system's message.
    pub fn reset(&mut self) {
        self.said.clear();
        self.forgotten = 0;
    }

    /// All that was said, also what the model sees no more; the system's message comes first.
    pub fn messages(&self) -> Vec<Message> {
        self.system
            .iter()
            .map(|it| Message::new(Role::System, it))
            .chain(self.said.clone())
            .collect()
    }

    /// What the model sees.
    fn seen(&self) -> Vec<Message> {
        let mut messages = self.messages();
        let first = messages.len() - self.said.len();
        messages.drain(first..first + self.forgotten);
        messages
    }

    /// The prompt for the model's next answer, of at most `most` tokens: until it fits, the oldest messages are dropped,
    /// up to the next of the user. The template alone says whether a start token comes first, so it is never doubled.
    ///
    /// # Errors
    /// Where the template fails, or what was said last is too long by itself.
    pub fn fit(
        &mut self,
        template: &Template,
        tokenizer: &Tokenizer,
        most: usize,
    ) -> Result<Fitted> {
        let specials = encode::specials(tokenizer);
        let before = self.forgotten;
        loop {
            let messages: Vec<Message> =
                self.seen().iter().map(|it| encode::marked(it, &specials)).collect();
            let tokens = encode::tokens(&template.render(&messages)?, tokenizer, &specials);
            if tokens.len() <= most {
                return Ok(Fitted { tokens, dropped: self.forgotten - before });
            }
            let later =
                self.said.iter().skip(self.forgotten + 1).position(|it| it.role == Role::User);
            let Some(later) = later else {
                self.forgotten = before;
                let told = format!("{} tokens long", tokens.len());
                let rule = format!("at most {most} with the system's, so that an answer has room");
                return Err(ConfigError::new("the message", told, rule).into());
            };
            self.forgotten += later + 1;
        }
    }
}
