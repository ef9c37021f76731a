//! Which documents train, which choose, which are reported.

use core_layers::{checkpoint::sha256, dataset::Split};

/// Fewer documents than this are each cut into three blocks, since by chance none of them might validate or test.
pub(super) const FEW: usize = 100;

/// The rule for many documents, in words.
pub(super) const BY_CONTENT: &str = "documents by the first 8 bytes of the sha256 of their bytes, big endian, mod 100: 0..=89 trains, 90..=94 validates, 95..=99 tests";
/// The rule for few, in words.
pub(super) const BY_POSITION: &str = "of each document the first 90 per cent train, the next 5 validate, the last 5 test, cut behind the next line";

/// The split of a document, which depends on its content only: equal ones are never on two sides.
pub(super) fn of_content(document: &[u8]) -> Split {
    let digest = sha256(document);
    let number = digest[..8].iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    match number % 100 {
        0..90 => Split::Train,
        90..95 => Split::Valid,
        _ => Split::Test,
    }
}

/// A document in three blocks, in the order of [`Split::ALL`]: each cut is behind the first line feed from there on, or
/// before the next character where no line ends.
pub(super) fn of_position(document: &[u8]) -> [&[u8]; 3] {
    let cut = |percent: usize| {
        let at = document.len() / 100 * percent + document.len() % 100 * percent / 100;
        let rest = &document[at..];
        let line = rest.iter().position(|&byte| byte == b'\n').map(|place| place + 1);
        let is_start = |byte: &u8| byte & 0xC0 != 0x80; // of a character
        let character = rest.iter().position(is_start).unwrap_or(rest.len());
        at + line.filter(|&it| it <= document.len() / 100).unwrap_or(character)
    };
    let (first, second) = (cut(90), cut(95));
    let second = second.max(first);
    [&document[..first], &document[first..second], &document[second..]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_of_a_hundred_documents_train() {
        let counts = Split::ALL
            .map(|split| (0..4000).filter(|i: &u32| of_content(&i.to_le_bytes()) == split).count());
        assert_eq!(counts.iter().sum::<usize>(), 4000);
        assert!(counts[0].abs_diff(3600) < 80 && counts[1].abs_diff(200) < 60, "{counts:?}");
    }

    #[test]
    fn blocks_make_up_the_document_and_are_cut_behind_lines() {
        let text = (0..2000).map(|i| format!("line {i} \u{e9}\n")).collect::<Vec<_>>().concat();
        let blocks = of_position(text.as_bytes());
        assert_eq!(blocks.concat(), text.as_bytes());
        assert!(blocks.iter().all(|it| it.ends_with(b"\n")));
        let shares = blocks.map(|it| it.len() as f64 / text.len() as f64);
        assert!((shares[0] - 0.9).abs() < 0.01 && (shares[1] - 0.05).abs() < 0.01, "{shares:?}");
        let one = "\u{e9}".repeat(333);
        assert!(of_position(one.as_bytes()).iter().all(|it| std::str::from_utf8(it).is_ok()));
        assert_eq!(of_position(b"").concat(), b"");
        assert_eq!(of_position(b"abc").concat(), b"abc");
    }
}
