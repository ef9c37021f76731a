//! Conversations: what was said, laid out as a model was taught to read it.
//!
//! A model's chat [`Template`] is a text in Jinja's language that makes one string of many messages; the string's tokens are
//! the prompt. Rendering follows Hugging Face's `apply_chat_template`, whose strings the tests hold it to.

mod conversation;
mod date;
mod encode;
mod json;
mod template;

pub use conversation::{Conversation, Fitted};
pub use template::{Message, Role, Template};
