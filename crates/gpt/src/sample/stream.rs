//! Bytes of tokens as text that may be shown: whole characters, and no part of a stop string.

/// What of a text is not shown yet, and what would end it.
///
/// Tokens end anywhere: in the middle of a character, or of a stop string. Bytes are held back while they may turn out to
/// be the beginning of either. What comes out depends on the bytes, never on how tokens cut them.
#[derive(Debug, Clone)]
pub struct Stream {
    stops: Vec<Vec<u8>>,
    pending: Vec<u8>,
}

impl Stream {
    /// The beginning of a text that each of `stops` ends; none of them may be empty.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().map(|it| it.as_bytes().to_vec()).collect(), pending: Vec::new() }
    }

    /// Appends `bytes`, and adds to `out` what may be shown now. Returns whether a stop string is complete: it and what
    /// follows it are dropped. Of stop strings that end at the same byte the longest counts.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) -> bool {
        for &byte in bytes {
            self.pending.push(byte);
            let found = self.stops.iter().filter(|it| self.pending.ends_with(it));
            if let Some(length) = found.map(Vec::len).max() {
                self.pending.truncate(self.pending.len() - length);
                self.finish(out);
                return true;
            }
        }
        self.show(self.pending.len() - self.begun(), out);
        false
    }

    /// Adds to `out` what was held back: the text goes no further.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&String::from_utf8_lossy(&self.pending));
        self.pending.clear();
    }

    /// The length of the longest end of the pending bytes that a stop string begins with.
    fn begun(&self) -> usize {
        let begun = |stop: &Vec<u8>| {
            (1..stop.len()).rev().find(|&length| self.pending.ends_with(&stop[..length]))
        };
        self.stops.iter().filter_map(begun).max().unwrap_or(0)
    }

    /// Shows the characters that are whole among the first `count` pending bytes; what is no UTF-8 becomes U+FFFD, as
    /// [`String::from_utf8_lossy`] has it.
    fn show(&mut self, count: usize, out: &mut String) {
        let mut shown = 0;
        for chunk in self.pending[..count].utf8_chunks() {
            out.push_str(chunk.valid());
            shown += chunk.valid().len();
            let is_last = shown + chunk.invalid().len() == count;
            if is_last && may_go_on(chunk.invalid()) {
                break;
            }
            if !chunk.invalid().is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            shown += chunk.invalid().len();
        }
        self.pending.drain(..shown);
    }
}

/// Whether bytes are the beginning of a character, to which only further bytes are lacking.
fn may_go_on(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pieces that come out of chunks of bytes, and whether a stop string came.
    fn pieces(stops: &[&str], chunks: &[&[u8]]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|&it| it.to_owned()).collect();
        let mut stream = Stream::new(&stops);
        let mut all = Vec::new();
        for chunk in chunks {
            let mut piece = String::new();
            let stopped = stream.push(chunk, &mut piece);
            all.push(piece);
            if stopped {
                return (all, true);
            }
        }
        let mut piece = String::new();
        stream.finish(&mut piece);
        all.push(piece);
        (all, false)
    }

    #[test]
    fn a_character_is_shown_once_it_is_whole() {
        let bytes = "a\u{20ac}b".as_bytes(); // 61 e2 82 ac 62
        let chunks: Vec<&[u8]> = bytes.chunks(1).collect();
        let (shown, _) = pieces(&[], &chunks);
        assert_eq!(shown, ["a", "", "", "\u{20ac}", "b", ""]);
    }

    #[test]
    fn bytes_that_are_no_text_become_the_replacement_character() {
        assert_eq!(pieces(&[], &[b"\xe2\x82", b"a"]).0, ["", "\u{fffd}a", ""]);
        assert_eq!(pieces(&[], &[b"\xff", b"\xe2\x82"]).0, ["\u{fffd}", "", "\u{fffd}"]);
    }

    #[test]
    fn a_stop_string_is_found_across_tokens_and_no_part_of_it_is_shown() {
        let (shown, stopped) = pieces(&["\n\nUser:"], &[b"Yes.\n", b"\nUs", b"er: no"]);
        assert_eq!((shown.concat().as_str(), stopped), ("Yes.", true));
        assert_eq!(shown[0], "Yes.");
        let (shown, stopped) = pieces(&["\n\nUser:"], &[b"Yes.\n", b"\nUs", b" all"]);
        assert_eq!(shown, ["Yes.", "", "\n\nUs all", ""]);
        assert!(!stopped);
    }

    #[test]
    fn a_stop_string_is_found_inside_characters_cut_by_tokens() {
        let euro = "\u{20ac}".as_bytes();
        let (shown, stopped) = pieces(&["\u{20ac}"], &[b"5 ", &euro[..1], &euro[1..], b"more"]);
        assert_eq!((shown.concat().as_str(), stopped), ("5 ", true));
        // the stop string's first byte is also that of another character
        let other = "\u{20ad}".as_bytes();
        let (shown, stopped) = pieces(&["\u{20ac}"], &[&other[..2], &other[2..]]);
        assert_eq!((shown.concat().as_str(), stopped), ("\u{20ad}", false));
    }

    #[test]
    fn the_stop_string_that_ends_first_counts_and_then_the_longest() {
        assert_eq!(pieces(&["abcd", "bc"], &[b"xabcd"]).0.concat(), "xa");
        assert_eq!(pieces(&["bc", "abc"], &[b"xabc"]).0.concat(), "x");
    }

    #[test]
    fn what_was_held_back_is_shown_at_the_end() {
        assert_eq!(pieces(&["stop"], &[b"st"]).0, ["", "st"]);
    }

    proptest! {
        #[test]
        fn what_is_shown_depends_on_bytes_and_not_on_tokens(
            bytes in prop::collection::vec(prop::sample::select(&b"ab\xe2\x82\xac\xff"[..]), 0..40),
            cuts in prop::collection::vec(0usize..40, 0..10),
            stops in prop::collection::vec(prop::sample::select(&["ab", "aab", "b\u{20ac}", "\u{20ac}\u{20ac}", "ba"][..]), 0..3),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&it| it <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|it| &bytes[it[0]..it[1]]).collect();
            let (shown, stopped) = pieces(&stops, &chunks);
            // the definition: the text up to the stop string that ends first
            let longest = |end: usize| {
                let ends = stops.iter().filter(|it| bytes[..end].ends_with(it.as_bytes()));
                ends.map(|it| it.len()).max()
            };
            let end = (1..=bytes.len()).find(|&end| longest(end).is_some());
            let kept = end.map_or(bytes.len(), |end| end - longest(end).unwrap());
            prop_assert_eq!(stopped, end.is_some());
            prop_assert_eq!(shown.concat(), String::from_utf8_lossy(&bytes[..kept]).into_owned());
        }
    }
}
