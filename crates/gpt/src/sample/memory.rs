//! What engines have read, so that nothing is read twice.

use super::{Decode, Session};

/// A session, and the tokens that its rows hold.
pub(super) struct Held<'e> {
    session: Box<dyn Session + 'e>,
    tokens: Vec<Vec<u32>>,
}

impl<'e> Held<'e> {
    fn new(engine: &'e dyn Decode, rows: usize) -> Self {
        Self { session: engine.session(rows), tokens: vec![Vec::new(); rows] }
    }

    /// Makes a row hold `tokens`, whatever it held, and writes the logits after each of the last `wanted` of them.
    /// Returns how many tokens were read for it: those that it held in their places already are not read again.
    pub(super) fn read(
        &mut self,
        row: usize,
        tokens: &[u32],
        wanted: usize,
        logits: &mut Vec<f32>,
    ) -> usize {
        let held = &mut self.tokens[row];
        let same = held.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let same = same.min(tokens.len() - wanted);
        if same < held.len() {
            self.session.truncate(row, same);
            held.truncate(same);
        }
        self.session.feed(row, &tokens[same..], wanted, logits);
        held.extend(&tokens[same..]);
        tokens.len() - same
    }

    /// Appends one token to each of some rows, and writes the logits after each.
    pub(super) fn step(&mut self, rows: &[usize], tokens: &[u32], logits: &mut Vec<f32>) {
        self.session.step(rows, tokens, logits);
        for (&row, &token) in rows.iter().zip(tokens) {
            self.tokens[row].push(token);
        }
    }

    fn gather(&mut self, rows: &[usize]) {
        self.session.gather(rows);
        self.tokens = rows.iter().map(|&row| self.tokens[row].clone()).collect();
    }
}

/// What the engines of a [`Writer`](super::Writer) have read. Kept from one text to the next, only what is new in a prompt
/// is read: a conversation grows at its end.
pub struct Memory<'e> {
    pub(super) target: Held<'e>,
    pub(super) draft: Option<Held<'e>>,
}

impl<'e> Memory<'e> {
    /// Of `rows` texts of which nothing was read.
    pub(super) fn new(engine: &'e dyn Decode, draft: Option<&'e dyn Decode>, rows: usize) -> Self {
        let draft = draft.map(|it| Held::new(it, rows));
        Self { target: Held::new(engine, rows), draft }
    }

    /// Texts side by side.
    pub fn rows(&self) -> usize {
        self.target.tokens.len()
    }

    /// Makes row i what row `rows[i]` was.
    pub(super) fn gather(&mut self, rows: &[usize]) {
        self.target.gather(rows);
        self.draft.iter_mut().for_each(|it| it.gather(rows));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::sample::table::Table;

    #[test]
    fn only_what_is_new_is_read() {
        let table = Table::new(5, 1);
        let mut held = Held::new(&table, 2);
        let mut logits = Vec::new();
        assert_eq!(held.read(0, &[1, 2, 3], 1, &mut logits), 3);
        assert_eq!(logits, table.logits(&[1, 2, 3]));
        held.step(&[0], &[4], &mut logits);
        // the same beginning, another end
        assert_eq!(held.read(0, &[1, 2, 0, 0], 1, &mut logits), 2);
        assert_eq!(logits, table.logits(&[1, 2, 0, 0]));
        // logits of what was read before have to be made again
        assert_eq!(held.read(0, &[1, 2, 0], 2, &mut logits), 2);
        assert_eq!(logits, [table.logits(&[1, 2]), table.logits(&[1, 2, 0])].concat());
        held.gather(&[0, 0]);
        assert_eq!(held.read(1, &[1, 2, 0, 1], 1, &mut logits), 1);
        assert_eq!(table.read.load(Ordering::Relaxed), 3 + 1 + 2 + 2 + 1);
    }
}
