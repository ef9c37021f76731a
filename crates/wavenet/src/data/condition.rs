//! What a model is told about a clip, frame by frame: features `[F, features]`.
//!
//! Frame f stands for samples `f * hop .. (f + 1) * hop`, so T samples have `F = ceil(T / hop)` frames.

use ndarray::Array2;

/// Letters, a space, an apostrophe and anything else.
pub const NUM_CHARACTERS: usize = 29;
const SPACE: usize = 26;
const APOSTROPHE: usize = 27;
const OTHER: usize = 28;

/// Frames of so many samples.
pub fn num_frames(num_samples: usize, hop: usize) -> usize {
    num_samples.div_ceil(hop)
}

/// A transcript as features `[frames, NUM_CHARACTERS]`: in each frame the character that is spoken, one of them 1.
///
/// The alignment is the simplest there is: n characters take equal shares of the clip, character `floor(f n / F)` being
/// spoken in frame f. It is right on average and off by some tenths of a second in places; the model's own convolutions over
/// sound have to find out. Letters are a to z without case or accents, blanks are one space, and digits, signs and other
/// scripts are all the same "other".
pub fn characters(text: &str, frames: usize) -> Array2<f32> {
    let symbols = symbols(text);
    let mut features = Array2::zeros((frames, NUM_CHARACTERS));
    for f in 0..frames {
        let symbol = symbols.get(f * symbols.len() / frames).copied().unwrap_or(SPACE);
        features[[f, symbol]] = 1.0;
    }
    features
}

fn symbols(text: &str) -> Vec<usize> {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().flat_map(char::to_lowercase).map(symbol).collect()
}

fn symbol(character: char) -> usize {
    match plain(character) {
        letter @ 'a'..='z' => letter as usize - 'a' as usize,
        ' ' => SPACE,
        '\'' | '\u{2019}' => APOSTROPHE,
        _ => OTHER,
    }
}

/// A lower-case Latin letter without its accent.
fn plain(letter: char) -> char {
    match letter {
        '\u{e0}'..='\u{e5}' => 'a',
        '\u{e7}' => 'c',
        '\u{e8}'..='\u{eb}' => 'e',
        '\u{ec}'..='\u{ef}' => 'i',
        '\u{f1}' => 'n',
        '\u{f2}'..='\u{f6}' => 'o',
        '\u{f9}'..='\u{fc}' => 'u',
        _ => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(text: &str, frames: usize) -> Vec<usize> {
        let features = characters(text, frames);
        assert!(features.rows().into_iter().all(|row| row.sum() == 1.0));
        features.rows().into_iter().map(|row| row.iter().position(|&x| x == 1.0).unwrap()).collect()
    }

    #[test]
    fn characters_take_equal_shares_of_the_clip() {
        assert_eq!(spoken("Ab", 6), [0, 0, 0, 1, 1, 1]);
        assert_eq!(spoken("abc", 4), [0, 0, 1, 2]);
        assert_eq!(spoken("abc", 2), [0, 1], "fewer frames than characters skip some");
        assert_eq!(spoken("", 2), [SPACE, SPACE]);
        assert_eq!(characters("a", 0).dim(), (0, NUM_CHARACTERS));
    }

    #[test]
    fn the_vocabulary_is_fixed() {
        assert_eq!(
            symbols(" z'\t \u{c9}\u{f1} 7?"),
            [25, APOSTROPHE, SPACE, 4, 13, SPACE, OTHER, OTHER]
        );
        assert_eq!(symbols("\u{414}\u{430}"), [OTHER, OTHER]);
    }

    #[test]
    fn the_last_frame_may_be_a_part_of_one() {
        assert_eq!([0, 1, 80, 81].map(|samples| num_frames(samples, 80)), [0, 1, 1, 2]);
    }
}
