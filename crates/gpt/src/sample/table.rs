//! Models so small that everything about them is known: what the tests of writing run on.

use std::sync::atomic::{AtomicUsize, Ordering};

use core_layers::random;

use super::{Decode, Session};

/// A Markov chain: the logits follow from the last `memory` tokens of a row, and from nothing else.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) vocabulary: usize,
    pub(crate) context: usize,
    pub(crate) memory: usize,
    pub(crate) seed: u64,
    /// Logits lie between minus and plus this.
    pub(crate) range: f32,
    /// Rows of this length get NaN.
    pub(crate) broken_at: Option<usize>,
    /// Rows of this length or longer continue with these tokens, which is all but certain.
    pub(crate) script: Option<(usize, Vec<u32>)>,
    /// Tokens that were read, by all sessions.
    pub(crate) read: AtomicUsize,
}

impl Table {
    pub(crate) fn new(vocabulary: usize, seed: u64) -> Self {
        Self {
            vocabulary,
            context: 64,
            memory: 2,
            seed,
            range: 2.,
            broken_at: None,
            script: None,
            read: AtomicUsize::new(0),
        }
    }

    /// What writes `text` in bytes after `length` tokens, and then the token 256.
    pub(crate) fn script(length: usize, text: &[u8]) -> Self {
        let tokens = text.iter().map(|&it| u32::from(it)).chain([256]).collect();
        Self { context: 1024, script: Some((length, tokens)), ..Self::new(257, 0) }
    }

    pub(crate) fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let base = self.vocabulary as u64 + 1;
        let last = &tokens[tokens.len().saturating_sub(self.memory)..];
        let index = last.iter().fold(0, |sum, &token| sum * base + u64::from(token) + 1);
        let mut uniforms = random::generator(self.seed, "table", index);
        let mut logit = || self.range * (2. * random::uniform(&mut uniforms) - 1.) as f32;
        let mut logits: Vec<f32> = (0..self.vocabulary).map(|_| logit()).collect();
        if self.broken_at == Some(tokens.len()) {
            logits[self.vocabulary / 2] = f32::NAN;
        }
        if let Some((length, script)) = &self.script {
            let next = tokens.len().checked_sub(*length).and_then(|at| script.get(at));
            let next = next.copied().unwrap_or(256);
            logits[next as usize] += 100.;
        }
        logits
    }
}

impl Decode for Table {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn context(&self) -> usize {
        self.context
    }

    fn session<'a>(&'a self, rows: usize) -> Box<dyn Session + 'a> {
        Box::new(Rows { table: self, rows: vec![Vec::new(); rows] })
    }
}

struct Rows<'t> {
    table: &'t Table,
    rows: Vec<Vec<u32>>,
}

impl Session for Rows<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn len(&self, row: usize) -> usize {
        self.rows[row].len()
    }

    fn feed(&mut self, row: usize, tokens: &[u32], wanted: usize, logits: &mut Vec<f32>) {
        assert!(wanted <= tokens.len(), "logits of tokens that were not fed");
        logits.clear();
        for (index, &token) in tokens.iter().enumerate() {
            assert!((token as usize) < self.table.vocabulary, "no token");
            self.rows[row].push(token);
            assert!(self.rows[row].len() <= self.table.context, "beyond the context");
            if index + wanted >= tokens.len() {
                logits.extend(self.table.logits(&self.rows[row]));
            }
        }
        self.table.read.fetch_add(tokens.len(), Ordering::Relaxed);
    }

    fn step(&mut self, rows: &[usize], tokens: &[u32], logits: &mut Vec<f32>) {
        let mut all = Vec::new();
        for (index, (&row, &token)) in rows.iter().zip(tokens).enumerate() {
            assert!(!rows[..index].contains(&row), "a row stands twice");
            self.feed(row, &[token], 1, logits);
            all.append(logits);
        }
        *logits = all;
    }

    fn truncate(&mut self, row: usize, len: usize) {
        assert!(len <= self.rows[row].len(), "holds fewer");
        self.rows[row].truncate(len);
    }

    fn gather(&mut self, rows: &[usize]) {
        self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
    }
}
