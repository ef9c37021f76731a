//! What a text is conditioned on: nothing but its length.

use core_layers::Context;

/// The length of each text, in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextContext {
    /// Tokens of each text; one that is not said fills the layout.
    pub lengths: Vec<Option<usize>>,
}

impl TextContext {
    /// `rows` texts that fill the layout.
    pub fn full(rows: usize) -> Self {
        Self { lengths: vec![None; rows] }
    }

    /// Texts of the given lengths.
    pub fn of(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self { lengths: lengths.into_iter().map(Some).collect() }
    }
}

impl Context for TextContext {
    fn rows(&self) -> usize {
        self.lengths.len()
    }

    fn select(&self, rows: &[usize]) -> Self {
        Self { lengths: rows.iter().map(|&row| self.lengths[row]).collect() }
    }

    fn length(&self, row: usize) -> Option<usize> {
        self.lengths[row]
    }
}
