//! Texts side by side on a [`FusedEngine`].

use core_layers::kernels::decode::Cache;

use super::{
    FusedEngine,
    pass::{Pass, Stretch},
};
use crate::sample::{Decode, Session};

/// Columns of one pass: what is read of the weights serves so many tokens.
const COLUMNS: usize = 64;

/// Texts, with the keys and values of what they hold. Memory is set aside when it is made, and given by the system as
/// positions are filled.
pub(super) struct FusedSession<'a> {
    engine: &'a FusedEngine,
    pass: Pass<'a>,
    caches: Vec<Vec<Cache>>, // [row][layer]
    lens: Vec<usize>,
}

impl<'a> FusedSession<'a> {
    pub(super) fn new(engine: &'a FusedEngine, rows: usize) -> Self {
        Self {
            engine,
            pass: Pass::new(engine, COLUMNS),
            caches: (0..rows).map(|_| caches(engine)).collect(),
            lens: vec![0; rows],
        }
    }

    fn check(&self, row: usize, tokens: &[u32]) {
        let (len, context) = (self.lens[row] + tokens.len(), self.engine.context());
        assert!(len <= context, "row {row} would hold {len} tokens of a context of {context}");
        let vocabulary = self.engine.vocabulary();
        let wrong = tokens.iter().find(|&&token| token as usize >= vocabulary);
        assert!(wrong.is_none(), "token {wrong:?} of a vocabulary of {vocabulary}");
    }
}

fn caches(engine: &FusedEngine) -> Vec<Cache> {
    let config = engine.config();
    let (heads, d_head) = (config.kv_heads as usize, config.d_head as usize);
    let cache = |_| Cache::new(engine.numbers, engine.context(), heads, d_head);
    (0..config.layers).map(cache).collect()
}

impl Session for FusedSession<'_> {
    fn rows(&self) -> usize {
        self.lens.len()
    }

    fn len(&self, row: usize) -> usize {
        self.lens[row]
    }

    fn feed(&mut self, row: usize, tokens: &[u32], wanted: usize, logits: &mut Vec<f32>) {
        self.check(row, tokens);
        assert!(wanted <= tokens.len(), "logits after {wanted} of {} tokens", tokens.len());
        logits.clear();
        for (part, at) in tokens.chunks(COLUMNS).zip((0..).step_by(COLUMNS)) {
            let stretch = Stretch { row, first: self.lens[row], columns: 0..part.len() };
            self.pass.read(part, &[stretch], &mut self.caches);
            self.lens[row] += part.len();
            let unwanted = (tokens.len() - wanted).clamp(at, at + part.len()) - at;
            if unwanted < part.len() {
                self.pass.logits(unwanted..part.len(), logits);
            }
        }
    }

    fn step(&mut self, rows: &[usize], tokens: &[u32], logits: &mut Vec<f32>) {
        assert_eq!(rows.len(), tokens.len(), "a token for each row");
        for (i, (&row, token)) in rows.iter().zip(tokens).enumerate() {
            assert!(!rows[..i].contains(&row), "row {row} stands twice");
            self.check(row, std::slice::from_ref(token));
        }
        logits.clear();
        for (rows, tokens) in rows.chunks(COLUMNS).zip(tokens.chunks(COLUMNS)) {
            let stretch = |(i, &row)| Stretch { row, first: self.lens[row], columns: i..i + 1 };
            let stretches: Vec<Stretch> = rows.iter().enumerate().map(stretch).collect();
            self.pass.read(tokens, &stretches, &mut self.caches);
            for &row in rows {
                self.lens[row] += 1;
            }
            self.pass.logits(0..rows.len(), logits);
        }
    }

    fn truncate(&mut self, row: usize, len: usize) {
        let held = self.lens[row];
        assert!(len <= held, "row {row} holds {held} tokens, fewer than {len}");
        self.lens[row] = len;
    }

    fn gather(&mut self, rows: &[usize]) {
        let lens = rows.iter().map(|&row| self.lens[row]).collect();
        let mut old: Vec<Option<Vec<Cache>>> = self.caches.drain(..).map(Some).collect();
        let mut free: Vec<Vec<Cache>> = (0..old.len())
            .filter(|row| !rows.contains(row))
            .filter_map(|row| old[row].take())
            .collect();
        // the last that wants a row gets it, those before it copies, in the memory of rows that nobody wants
        let mut new = Vec::with_capacity(rows.len());
        for (i, &row) in rows.iter().enumerate() {
            if rows[i + 1..].contains(&row) {
                let mut copy = free.pop().unwrap_or_else(|| caches(self.engine));
                let from = old[row].as_ref().expect("it is taken by the last only");
                for (to, from) in copy.iter_mut().zip(from) {
                    to.copy_from(from, self.lens[row]);
                }
                new.push(copy);
            } else {
                new.push(old[row].take().expect("it is taken by the last only"));
            }
        }
        (self.caches, self.lens) = (new, lens);
    }
}
