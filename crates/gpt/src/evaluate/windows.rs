//! How a text that is longer than the context is read so that each token is predicted once.

/// A part of a document: the tokens `start..to` are read, of which `from..to` are predicted for the count.
///
/// What is read before `start` is the token before it, or the start token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Which document.
    pub document: usize,
    /// The first token whose prediction is computed.
    pub start: usize,
    /// The first one that counts.
    pub from: usize,
    /// Behind the last one that counts.
    pub to: usize,
}

/// Windows over documents of these lengths, of `context` predictions at most. The first of a document counts all of
/// them, each later one the next `stride`, which so see `context - stride` tokens at least.
///
/// # Panics
/// If the stride is none of 1 to `context`.
pub fn windows(lengths: &[usize], context: usize, stride: usize) -> Vec<Window> {
    assert!((1..=context).contains(&stride), "a stride of {stride} in a context of {context}");
    let mut windows = Vec::new();
    for (document, &len) in lengths.iter().enumerate() {
        let (mut from, mut to) = (0, len.min(context));
        while from < to {
            windows.push(Window { document, start: to.saturating_sub(context), from, to });
            (from, to) = (to, len.min(to + stride));
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stride_is_what_later_windows_count() {
        let of = |len, stride| -> Vec<_> {
            windows(&[len], 4, stride).iter().map(|it| (it.start, it.from, it.to)).collect()
        };
        assert_eq!(of(3, 2), [(0, 0, 3)]);
        assert_eq!(of(9, 4), [(0, 0, 4), (4, 4, 8), (5, 8, 9)]);
        assert_eq!(of(7, 2), [(0, 0, 4), (2, 4, 6), (3, 6, 7)]);
    }

    proptest! {
        #[test]
        fn every_token_counts_once_and_sees_what_it_should(
            lengths in prop::collection::vec(0usize..50, 1..4), context in 1usize..12, share in 0usize..12,
        ) {
            let stride = 1 + share % context;
            let mut seen: Vec<Vec<usize>> = lengths.iter().map(|&len| vec![0; len]).collect();
            for it in windows(&lengths, context, stride) {
                prop_assert!(it.start <= it.from && it.from < it.to && it.to - it.start <= context);
                for (token, count) in seen[it.document].iter_mut().enumerate().take(it.to).skip(it.from) {
                    *count += 1;
                    prop_assert!(token - it.start >= token.min(context - stride), "it sees too little");
                }
            }
            prop_assert!(seen.iter().flatten().all(|&count| count == 1));
        }
    }
}
