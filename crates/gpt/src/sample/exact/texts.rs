//! Texts in lockstep, as long as one likes: beyond the context, the window is begun anew from its last half.

use core_layers::{Conditional, Stepper};

use super::{pass::Item, session::ExactSession};
use crate::sample::Session;

/// Tokens that a decoder sees when it predicts the k-th of a text, the start token included: the start token, then the
/// newest of the text.
///
/// `k + 1` while the context holds them. When it is full, the window is begun anew with the start token and the last
/// `context / 2` tokens of the text, at positions from 0 on, and grows again. So what is seen depends on the place in the text
/// alone, the same for who encodes and who decodes; after the first window it is 3/4 of the context on average, and every
/// token passes through the decoder about twice.
pub fn window(context: usize, k: usize) -> usize {
    if k < context {
        return k + 1;
    }
    let least = (1 + context / 2).min(context);
    least + (k - context) % (context - least + 1)
}

/// Draws texts token by token.
#[derive(Debug)]
pub(super) struct TextStepper<'e> {
    session: ExactSession<'e>,
    context: usize,
    start: u32,
    texts: Vec<Vec<u32>>, // the newest tokens of each row, at least as many as a window may need
    position: usize,      // tokens of each row so far
    begun: usize,         // which token the session's window begins with, after the start token
    logits: Vec<f32>,     // [rows, V] of the next position, where they are known
}

impl<'e> TextStepper<'e> {
    /// Of each row of `session`, which holds nothing.
    pub(super) fn new(session: ExactSession<'e>, context: usize, start: u32) -> Self {
        let texts = vec![Vec::new(); session.rows()];
        Self { session, context, start, texts, position: 0, begun: 0, logits: Vec::new() }
    }

    /// Logits `[rows, V]` of the next position.
    fn look(&mut self) {
        let rows = self.session.rows();
        let begin = self.position + 1 - window(self.context, self.position);
        let mut held = if rows == 0 { 0 } else { self.session.len(0) };
        if held > 1 && begin != self.begun {
            (0..rows).for_each(|row| self.session.truncate(row, 1)); // the start token
            held = 1;
        }
        self.begun = begin;
        let mut items = Vec::new();
        if held == 0 {
            items.extend((0..rows).map(|row| Item { row, token: self.start }));
            held = 1;
        }
        let new = self.position - (begin + held - 1);
        for back in (1..=new).rev() {
            let token = |text: &Vec<u32>| text[text.len() - back];
            let column = self.texts.iter().map(token).enumerate();
            items.extend(column.map(|(row, token)| Item { row, token }));
        }
        let last: Vec<usize> = (items.len() - rows..items.len()).collect();
        self.logits.resize(rows * self.session.vocabulary(), 0.);
        self.session.extend(&items, &last, &mut self.logits);
    }
}

impl Stepper for TextStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        if self.logits.is_empty() {
            self.look();
        }
        let to = out.reset(self.session.rows(), self.session.vocabulary());
        to.copy_from_slice(&self.logits);
    }

    fn feed(&mut self, symbols: &[u32]) {
        assert_eq!(symbols.len(), self.texts.len(), "a token for each row");
        for (text, &token) in self.texts.iter_mut().zip(symbols) {
            if text.len() >= 2 * self.context {
                text.drain(..self.context);
            }
            text.push(token);
        }
        self.position += 1;
        self.logits.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_grows_to_the_context_and_begins_anew_at_half() {
        let windows: Vec<usize> = (0..13).map(|k| window(6, k)).collect();
        assert_eq!(windows, [1, 2, 3, 4, 5, 6, 4, 5, 6, 4, 5, 6, 4]);
        let windows: Vec<usize> = (0..7).map(|k| window(5, k)).collect();
        assert_eq!(windows, [1, 2, 3, 4, 5, 3, 4]);
        assert_eq!((0..4).map(|k| window(1, k)).collect::<Vec<_>>(), [1; 4]);
        assert_eq!((0..4).map(|k| window(2, k)).collect::<Vec<_>>(), [1, 2, 2, 2]);
    }

    #[test]
    fn a_window_is_never_longer_than_the_context_and_moves_by_half_of_it() {
        for context in 1..40 {
            let mut begin = 0;
            for k in 0..200 {
                let window = window(context, k);
                assert!((1..=context).contains(&window));
                let begins = k + 1 - window;
                assert!(begins == begin || begins > begin && begins - begin >= context / 2);
                begin = begins;
            }
        }
    }
}
