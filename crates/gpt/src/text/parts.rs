//! Long text in parts that can be cut into tokens one by one.

/// Cuts text into parts of about `size` bytes (no part is shorter but the last), each but the first of which begins with a
/// space after an ASCII letter.
///
/// Byte-level and SentencePiece tokenizers never join what stands before such a space with it, so the tokens of the parts
/// are the tokens of the text.
pub fn parts(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.as_bytes();
        let is_cut = |&at: &usize| bytes[at] == b' ' && bytes[at - 1].is_ascii_alphabetic();
        let cut = (size.max(1)..bytes.len()).find(is_cut).unwrap_or(bytes.len());
        let (part, other) = rest.split_at(cut);
        rest = other;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_with_a_space_and_make_up_the_text() {
        let text = "One two,  three four\n five \u{e9}t\u{e9} six ";
        for size in 0..40 {
            let all: Vec<&str> = parts(text, size).collect();
            assert_eq!(all.concat(), text);
            assert!(all.iter().skip(1).all(|it| it.starts_with(' ')), "{all:?}");
            assert!(all.iter().rev().skip(1).all(|it| it.len() >= size), "{all:?}");
        }
        let some: Vec<&str> = parts(text, 2).collect();
        assert_eq!(some[..3], ["One", " two,  three", " four\n five"]);
    }
}
