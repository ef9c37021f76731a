//! Conversations: what was said, laid out as a model was taught to read it.
//!
//! A model's chat [`Template`] is a text in Jinja's language that makes one string of many messages; the string's tokens are
//! the prompt. Rendering follows Hugging Face's `apply_chat_template`, whose strings the tests hold it to.

mod conversation;
mod date;
mod encode;
mod json;
mod template;
#[cfg(test)]
mod tests;

use crate::text::Tokenizer;

pub use conversation::{Conversation, Fitted};
pub use template::{Message, Role, Template};

/// Tokens by which the models of well-known templates end their turns.
const ENDS: [&str; 6] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"];

/// Those of them that a tokenizer has: they end an answer whatever else does.
pub fn ends(tokenizer: &Tokenizer) -> Vec<u32> {
    ENDS.iter().filter_map(|name| tokenizer.special_token(name)).collect()
}
