//! Tokens cut into windows to train on.
//!
//! They lie side by side from an offset that each epoch draws anew, so that no token is always the first of its window, and
//! each is predicted once an epoch, but for a rest that is shorter than a window.

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

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(count: usize) -> Tokens {
        let bytes: Vec<u8> = (0..count as u32).flat_map(u32::to_le_bytes).collect();
        Tokens::new(true, bytes.into(), Vec::new().into())
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
