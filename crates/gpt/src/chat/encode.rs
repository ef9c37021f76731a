//! Tokens of a rendered conversation.
//!
//! A template writes special tokens such as `<|im_end|>`; what a person typed must never become one, whatever it says. So
//! the spellings of special tokens within messages are broken by a mark before the template sees them, and the text between
//! the special tokens that the template wrote is put together again and encoded as text.

use crate::text::Tokenizer;

use super::Message;

/// Never a character of a text: the standard keeps it for such uses (Unicode 15, section 23.7).
const MARK: char = '\u{fdd0}';

/// The spellings of all special tokens; one of a single character could not be broken.
pub(super) fn specials(tokenizer: &Tokenizer) -> Vec<(String, u32)> {
    let named = |token| Some((tokenizer.special(token)?.to_owned(), token));
    (0..tokenizer.vocabulary() as u32)
        .filter_map(named)
        .filter(|it| it.0.chars().nth(1).is_some())
        .collect()
}

/// A message in which no special token is spelled.
pub(super) fn marked(message: &Message, specials: &[(String, u32)]) -> Message {
    let mut content = message.content.replace(MARK, "");
    for (name, _) in specials.iter().filter(|it| message.content.contains(&it.0)) {
        let first = name.chars().next().map_or(0, char::len_utf8);
        content = content.replace(name, &format!("{}{MARK}{}", &name[..first], &name[first..]));
    }
    Message { role: message.role, content }
}

/// The tokens of what a template made of marked messages.
pub(super) fn tokens(
    rendered: &str,
    tokenizer: &Tokenizer,
    specials: &[(String, u32)],
) -> Vec<u32> {
    if !rendered.contains(MARK) {
        return tokenizer.encode_special(rendered);
    }
    let mut tokens = Vec::new();
    let mut rest = rendered;
    let text = |part: &str| tokenizer.encode(&part.replace(MARK, ""));
    loop {
        let found = |(name, token): &(String, u32)| Some((rest.find(name)?, name.len(), *token));
        // the first, and of those that begin at one place the longest
        let next = specials.iter().filter_map(found).min_by_key(|it| (it.0, usize::MAX - it.1));
        let Some((at, length, token)) = next else { break };
        if at > 0 {
            tokens.extend(text(&rest[..at]));
        }
        tokens.push(token);
        rest = &rest[at + length..];
    }
    if !rest.is_empty() {
        tokens.extend(text(rest));
    }
    tokens
}
