//! Tokens cut into windows.
//!
//! Training windows lie side by side from an offset that each epoch draws anew, so that no token is always the first of its
//! window. Windows for measuring are fixed, and every token is predicted in exactly one of them.

use core_layers::random::{generator, uniform};

use super::Tokens;

/// Windows of an epoch: context T inputs each, and the T targets that follow them by one.
#[derive(Debug, Clone)]
pub struct Training<'a> {
    tokens: &'a Tokens,
    context: usize,
    seed: u64,
}

impl<'a> Training<'a> {
    /// Windows of `context` inputs.
    ///
    /// # Panics
    /// If `context` is 0, or there is no document.
    pub fn new(tokens: &'a Tokens, context: usize, seed: u64) -> Self {
        assert!(context > 0 && tokens.targets() > 0, "windows need tokens");
        Self { tokens, context, seed }
    }

    /// Windows of every epoch, at least 1: what [`core_layers::dataset::Batches`] is to be made with.
    pub fn count(&self) -> usize {
        (self.tokens.targets() / self.context).max(1)
    }

    /// Writes the `context + 1` tokens of a window behind `out`: the first `context` are inputs, the last `context` targets.
    ///
    /// Windows go round: the text's last token is the end that stands before its first. A text shorter than a window is
    /// read again.
    pub fn window(&self, epoch: u64, index: usize, out: &mut Vec<i64>) {
        let round = self.tokens.targets();
        let mut generator = generator(self.seed, "data.offset", epoch);
        let offset = (uniform(&mut generator) * round as f64) as usize;
        let first = offset + index * self.context;
        out.extend((first..=first + self.context).map(|i| i64::from(self.tokens.get(i % round))));
    }
}

/// A window for measuring: tokens `start..to` are read, and of those that follow them by one, `from + 1..=to` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First token that is read.
    pub start: usize,
    /// First token whose prediction of the next counts.
    pub from: usize,
    /// End of both.
    pub to: usize,
}

/// Cuts `len` tokens into windows of at most `context` inputs, such that every token but the first is predicted once.
///
/// Windows begin `stride` apart. With `stride` = `context` they lie side by side, and the first prediction of each sees one
/// token; with less, each prediction but those of the first window sees more than `context - stride`.
///
/// # Panics
/// Unless `1 <= stride <= context`.
pub fn windows(len: usize, context: usize, stride: usize) -> Vec<Window> {
    assert!((1..=context).contains(&stride), "windows go on, and leave no gap");
    let targets = len.saturating_sub(1);
    let mut all = Vec::new();
    let (mut start, mut from) = (0, 0);
    while from < targets {
        let to = (start + context).min(targets);
        all.push(Window { start, from, to });
        (start, from) = (start + stride, to);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(count: usize) -> Tokens {
        let bytes: Vec<u8> = (0..count as u32).flat_map(u32::to_le_bytes).collect();
        Tokens::new(true, bytes.into(), Vec::new().into())
    }

    #[test]
    fn every_token_but_the_first_is_predicted_once() {
        for (len, context, stride) in
            [(1, 4, 4), (2, 4, 4), (10, 4, 4), (9, 4, 2), (23, 7, 3), (5, 1, 1), (0, 3, 1)]
        {
            let all = windows(len, context, stride);
            let counted: Vec<usize> = all.iter().flat_map(|it| it.from + 1..it.to + 1).collect();
            assert_eq!(counted, (1..len).collect::<Vec<_>>());
            assert!(all.iter().all(|it| it.to - it.start <= context && it.start <= it.from));
            let later = all.iter().skip(1);
            assert!(later.into_iter().all(|it| it.from - it.start >= context - stride));
        }
    }

    #[test]
    fn targets_follow_inputs_by_one_and_an_epoch_shows_each_once() {
        let tokens = tokens(41);
        let training = Training::new(&tokens, 8, 3);
        assert_eq!(training.count(), 5);
        let epoch = |epoch: u64| {
            let mut out = Vec::new();
            (0..training.count()).for_each(|index| training.window(epoch, index, &mut out));
            out
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first[..9], second[..9], "another offset");
        assert_eq!(epoch(0), first);
        for windows in [first, second] {
            let mut targets: Vec<i64> = Vec::new();
            for window in windows.chunks(9) {
                assert!(window.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 40));
                targets.extend(&window[1..]);
            }
            targets.sort_unstable();
            assert_eq!(targets, (0..40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_short_text_is_read_again() {
        let tokens = tokens(4);
        let training = Training::new(&tokens, 8, 0);
        let mut out = Vec::new();
        training.window(0, 0, &mut out);
        assert_eq!((training.count(), out.len()), (1, 9));
        assert!(out.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3), "{out:?}");
    }
}
