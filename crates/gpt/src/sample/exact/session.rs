//! Texts side by side, each with its own past.

use core_layers::kernels::exact::{Kernel, TextPast, Variant};

use super::{
    pass::{Item, Pass, Row},
    plan::Plan,
};
use crate::sample::Session;

/// Tokens that pass through the layers together: enough for weights to be read once for many.
const CHUNK: usize = 64;

/// Texts that an exact engine reads.
#[derive(Debug)]
pub(super) struct ExactSession<'p> {
    plan: &'p Plan,
    kernel: Kernel,
    rows: Vec<Row>,
    pass: Pass,
}

impl<'p> ExactSession<'p> {
    pub(super) fn new(plan: &'p Plan, variant: Variant, rows: usize) -> Self {
        let config = &plan.config;
        let past = || TextPast::new(config.kv_heads as usize, config.d_head as usize);
        let row = || (0..config.layers).map(|_| past()).collect();
        Self {
            plan,
            kernel: Kernel::new(variant, 1),
            rows: (0..rows).map(|_| row()).collect(),
            pass: Pass::default(),
        }
    }

    /// Tokens V.
    pub(super) fn vocabulary(&self) -> usize {
        self.plan.head.outs
    }

    /// Appends the tokens to their rows, in order, and writes the logits after those of them that `wanted` lists, in
    /// ascending order: `[wanted.len(), V]`.
    pub(super) fn extend(&mut self, items: &[Item], wanted: &[usize], logits: &mut [f32]) {
        let mut lens: Vec<usize> = (0..self.rows.len()).map(|row| self.len(row)).collect();
        for item in items {
            lens[item.row] += 1;
            let (context, len) = (self.plan.config.context as usize, lens[item.row]);
            assert!(len <= context, "a row of {len} tokens is longer than the context, {context}");
            let (token, vocabulary) = (item.token, self.plan.embedding.rows());
            assert!((token as usize) < vocabulary, "token {token} of {vocabulary}");
        }
        let (mut start, mut wanted, mut logits) = (0, wanted, logits);
        for chunk in items.chunks(CHUNK) {
            self.pass.run(self.plan, &self.kernel, &mut self.rows, chunk);
            let count = wanted.iter().take_while(|&&it| it < start + chunk.len()).count();
            let (here, later) = wanted.split_at(count);
            let (to, rest) = logits.split_at_mut(count * self.vocabulary());
            self.pass.logits(self.plan, &self.kernel, here.iter().map(|it| it - start), to);
            (start, wanted, logits) = (start + chunk.len(), later, rest);
        }
    }

    fn sized<'l>(&self, logits: &'l mut Vec<f32>, count: usize) -> &'l mut [f32] {
        logits.resize(count * self.vocabulary(), 0.);
        logits
    }
}

impl Session for ExactSession<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn len(&self, row: usize) -> usize {
        self.rows[row].first().map_or(0, TextPast::len)
    }

    fn feed(&mut self, row: usize, tokens: &[u32], wanted: usize, logits: &mut Vec<f32>) {
        let count = tokens.len();
        assert!(wanted <= count, "{wanted} of {count} logits");
        let items: Vec<Item> = tokens.iter().map(|&token| Item { row, token }).collect();
        let wanted: Vec<usize> = (count - wanted..count).collect();
        let logits = self.sized(logits, wanted.len());
        self.extend(&items, &wanted, logits);
    }

    fn step(&mut self, rows: &[usize], tokens: &[u32], logits: &mut Vec<f32>) {
        assert_eq!(rows.len(), tokens.len(), "a token for each row");
        let twice = (0..rows.len()).find(|&i| rows[..i].contains(&rows[i]));
        assert!(twice.is_none(), "a row stands twice");
        let items = rows.iter().zip(tokens).map(|(&row, &token)| Item { row, token });
        let items: Vec<Item> = items.collect();
        let wanted: Vec<usize> = (0..items.len()).collect();
        let logits = self.sized(logits, wanted.len());
        self.extend(&items, &wanted, logits);
    }

    fn truncate(&mut self, row: usize, len: usize) {
        self.rows[row].iter_mut().for_each(|past| past.truncate(len));
    }

    fn gather(&mut self, rows: &[usize]) {
        self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
    }
}
