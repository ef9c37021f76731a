//! How probable texts are. Letters: B windows, T tokens.

mod batch;
mod predictor;
mod windows;

use std::{f64::consts::LN_2, ops::Range};

use core_layers::likelihood::{Likelihood, Tally};

pub use batch::Batch;
pub use predictor::{Engine, Predictor};
pub use windows::{Window, windows};

use crate::{data::Tokens, text::Tokenizer};

/// Texts as tokens, read where they are wanted, by any thread.
pub trait Documents: Sync {
    /// Tokens of each.
    fn lengths(&self) -> Vec<usize>;

    /// Some of the tokens of one.
    fn read(&self, document: usize, range: Range<usize>) -> Vec<u32>;
}

impl Documents for Vec<Vec<u32>> {
    fn lengths(&self) -> Vec<usize> {
        self.iter().map(Vec::len).collect()
    }

    fn read(&self, document: usize, range: Range<usize>) -> Vec<u32> {
        self[document][range].to_vec()
    }
}

impl Documents for Tokens {
    fn lengths(&self) -> Vec<usize> {
        (0..self.documents()).map(|index| self.document(index).len()).collect()
    }

    fn read(&self, document: usize, range: Range<usize>) -> Vec<u32> {
        let first = self.document(document).start;
        self.range(first + range.start..first + range.end).collect()
    }
}

/// From so many documents on, they are the examples over which a standard error is taken; else windows are.
const DOCUMENTS: usize = 16;

/// What texts come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Nats of an example, and its tokens as dimensions.
    pub likelihood: Likelihood,
    /// What an example is: `document` or `window`.
    pub example: &'static str,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Bytes that they stand for.
    pub bytes: usize,
}

impl Score {
    /// Mean `-log p` of a token.
    pub fn nats_per_token(&self) -> f64 {
        self.likelihood.bits_per_dim * LN_2
    }

    /// Its standard error over examples; unknown of a single one.
    pub fn nats_per_token_se(&self) -> Option<f64> {
        self.likelihood.bits_per_dim_se.map(|it| it * LN_2)
    }

    /// `exp` of the mean: as many equally likely tokens would surprise as much.
    pub fn perplexity(&self) -> f64 {
        self.nats_per_token().exp()
    }

    /// `-log2 p` of all tokens over the bytes that they stand for: comparable between tokenizers.
    pub fn bits_per_byte(&self) -> f64 {
        self.likelihood.bits_per_dim * self.tokens as f64 / self.bytes as f64
    }
}

/// Predictions of windows side by side, at the most but for [`Predictor::lanes`].
const PREDICTIONS: usize = 4096;

/// Scores windows over documents; every token of a window that counts counts once. `tick` hears of the tokens passed.
pub fn score(
    predictor: &dyn Predictor,
    tokenizer: &Tokenizer,
    documents: &dyn Documents,
    windows: &[Window],
    tick: &mut dyn FnMut(usize),
) -> Score {
    let (mut nats, mut tokens, mut bytes) = (Vec::new(), Vec::new(), 0);
    let longest = windows.iter().map(|it| it.to - it.start).max().unwrap_or(1);
    for windows in windows.chunks((PREDICTIONS / longest).max(predictor.lanes())) {
        nats.extend(predictor.nats(documents, windows));
        for it in windows {
            let read = documents.read(it.document, it.from..it.to);
            bytes += read.iter().map(|&token| tokenizer.spelling(token).len()).sum::<usize>();
            tokens.push(read.len());
        }
        tick(windows.iter().map(|it| it.to - it.from).sum());
    }
    let count = windows.iter().map(|it| it.document + 1).max().unwrap_or(0);
    let example = if count < DOCUMENTS { "window" } else { "document" };
    let total = tokens.iter().sum();
    if example == "document" {
        let mut by_document = vec![(0., 0); count];
        for (it, (nats, tokens)) in windows.iter().zip(nats.iter().zip(&tokens)) {
            by_document[it.document].0 += nats;
            by_document[it.document].1 += tokens;
        }
        by_document.retain(|it| it.1 > 0);
        (nats, tokens) = by_document.into_iter().unzip();
    }
    let mut tally = Tally::default();
    tally.add(nats);
    Score { likelihood: tally.likelihood_of(&tokens), example, tokens: total, bytes }
}

#[cfg(test)]
mod tests;
