//! Writing faster with a second, faster model: it proposes tokens, and the model reads several of them at once.
//!
//! The distribution of what is written is the model's own (Leviathan et al., "Fast Inference from Transformers via
//! Speculative Decoding", 2023, algorithm 1, <https://arxiv.org/abs/2211.17192>): with p the model's distribution and q the
//! draft's, both after penalties and filters, a proposed token x is accepted with probability `min(1, p(x) / q(x))`, and in
//! the place of the first that is not, a token is drawn from `max(0, p - q)`, renormalised. Where all are accepted, the
//! model's next distribution is there already, and one more token is drawn from it.

use std::ops::AddAssign;

use anyhow::Result;
use core_layers::ConfigError;

use super::{
    Decode, Distribution, Memory,
    generate::Pen,
    row::{Listener, Row},
};

/// A model that proposes tokens.
#[derive(Clone, Copy)]
pub struct Draft<'a> {
    /// The model; it has the tokens of that which it proposes to.
    pub engine: &'a dyn Decode,
    /// Tokens proposed at a time.
    pub tokens: usize,
}

/// What became of proposals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drafted {
    /// Times that the model read proposals.
    pub rounds: usize,
    /// Tokens proposed.
    pub proposed: usize,
    /// Tokens accepted.
    pub accepted: usize,
}

impl AddAssign for Drafted {
    fn add_assign(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.proposed += other.proposed;
        self.accepted += other.accepted;
    }
}

impl Draft<'_> {
    pub(super) fn validate(&self, model: &dyn Decode) -> Result<(), ConfigError> {
        let (own, models) = (self.engine.vocabulary(), model.vocabulary());
        let rule = format!("one of {models} tokens, as the model it proposes to");
        ConfigError::ensure(own == models, "draft", format!("a model of {own} tokens"), &rule)?;
        let fits = (1..=64).contains(&self.tokens);
        ConfigError::ensure(fits, "draft_tokens", self.tokens, "between 1 and 64")
    }

    /// Proposes tokens after those of a row, and writes what the model makes of them: at least one token.
    pub(super) fn round(
        &self,
        memory: &mut Memory<'_>,
        row: &mut Row<'_>,
        pen: &mut Pen,
        listener: &mut Listener<'_>,
    ) -> Result<Drafted> {
        let (proposed, proposals) = self.propose(memory, row, pen)?;
        let count = proposed.len();
        let mut drafted = Drafted { rounds: 1, proposed: count, accepted: 0 };
        let tokens = [row.tokens.as_slice(), &proposed].concat();
        let mut logits = Vec::new(); // [count + 1, V]
        memory.target.read(row.index, &tokens, count + 1, &mut logits);
        let width = logits.len() / (count + 1);
        let mut logits = logits.chunks_mut(width);

        for ((token, proposal), logits) in proposed.into_iter().zip(&proposals).zip(&mut logits) {
            pen.weigh(row, logits)?;
            let (wanted, given) =
                (pen.distribution.probability(token), proposal.probability(token));
            if row.uniform("accept") * given >= wanted {
                let token = rest(&pen.distribution, proposal).quantile(row.uniform("rest"));
                let _ = row.push(token, listener);
                return Ok(drafted);
            }
            drafted.accepted += 1;
            if row.push(token, listener).is_break() || !row.is_open() {
                return Ok(drafted);
            }
        }
        if let Some(logits) = logits.next() {
            let _ = pen.draw(row, logits, listener)?;
        }
        Ok(drafted)
    }

    /// Tokens drawn from the draft one after the other, and the distributions that they were drawn from.
    fn propose(
        &self,
        memory: &mut Memory<'_>,
        row: &Row<'_>,
        pen: &mut Pen,
    ) -> Result<(Vec<u32>, Vec<Distribution>)> {
        let (mut proposed, mut proposals) = (Vec::new(), Vec::new());
        let held = row.tokens.len();
        let room = (self.engine.context() + 1).saturating_sub(held);
        let count = self.tokens.min(row.room() - 1).min(room);
        let Some(draft) = memory.draft.as_mut().filter(|_| count > 0) else {
            return Ok((proposed, proposals));
        };
        let mut penalties = row.penalties.clone();
        let mut logits = Vec::new();
        draft.read(row.index, &row.tokens, 1, &mut logits);
        loop {
            let logits_left = &mut logits[..pen.vocabulary];
            penalties.apply(logits_left);
            let mut proposal = Distribution::default();
            pen.filters.apply(logits_left, &mut proposal)?;
            let token = proposal.quantile(row.uniform_after(proposed.len(), "draft"));
            proposed.push(token);
            proposals.push(proposal);
            if proposed.len() == count || row.ends(token) {
                return Ok((proposed, proposals));
            }
            penalties.push(token);
            draft.step(&[row.index], &[token], &mut logits);
        }
    }
}

/// `max(0, p - q)`, up to a factor; p where rounding leaves nothing of that.
fn rest(p: &Distribution, q: &Distribution) -> Distribution {
    let mut rest = Distribution::default();
    let left =
        |(token, wanted): (u32, f64)| (token, (wanted - q.probability(token)).max(0.) as f32);
    rest.set_listed(p.iter().map(left).filter(|it| it.1 > 0.));
    if rest.is_empty() { p.clone() } else { rest }
}
