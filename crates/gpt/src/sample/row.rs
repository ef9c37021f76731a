//! One text while it is written.

use std::ops::ControlFlow;

use anyhow::Result;
use core_layers::{
    kernels::exact::{Kernel, Variant},
    random,
};
use serde::Serialize;

use super::{
    Distribution, Explanation, Filters, Penalties, Stream, Writer,
    ranking::{Ranked, Ranking},
};

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// By a token that ends texts, or a stop string.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
    /// The model's context is full.
    Context,
    /// Whoever listened had enough.
    Interrupted,
}

/// The log-probability of a token as the model has it, before penalties and filters, and of the likeliest in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// The token that was written.
    pub token: u32,
    /// In nats.
    pub logprob: f64,
    /// The likeliest tokens with theirs, by rank.
    pub likeliest: Vec<(u32, f64)>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// All tokens, that which ended the text and those of a stop string included.
    pub tokens: Vec<u32>,
    /// As text, up to the stop string.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Of each token, where they were asked for.
    pub logprobs: Vec<Logprob>,
    /// Of each token, where they were asked for.
    pub explanations: Vec<Explanation>,
}

/// One token, as soon as it is there.
#[derive(Debug)]
pub struct Event<'a> {
    /// Which text: sample s of prompt p is `p * count + s`.
    pub row: usize,
    /// The token.
    pub token: u32,
    /// What can be shown now: nothing while a character is not whole, or a stop string may have begun.
    pub text: &'a str,
    /// Why the token was drawn, where that was asked for.
    pub explanation: Option<&'a Explanation>,
    /// Why the text ends with it, if it does.
    pub finish: Option<Finish>,
}

/// Whoever hears of tokens as they come, and may break off.
pub type Listener<'l> = dyn FnMut(&Event<'_>) -> ControlFlow<()> + 'l;

/// One text while it is written.
pub(super) struct Row<'w> {
    writer: &'w Writer<'w>,
    /// Which row of the sessions.
    pub(super) index: usize,
    sample: u64,
    /// The prompt, and what was written.
    pub(super) tokens: Vec<u32>,
    prompt: usize,
    pub(super) penalties: Penalties,
    stream: Stream,
    model: Vec<f32>, // the model's logits of the next token, where they are asked for
    text: String,
    finish: Option<Finish>,
    heard: ControlFlow<()>,
    logprobs: Vec<Logprob>,
    explanations: Vec<Explanation>,
}

impl<'w> Row<'w> {
    /// Row `index`, which is sample `sample` of its prompt.
    pub(super) fn new(writer: &'w Writer<'w>, prompt: &[u32], index: usize, sample: u64) -> Self {
        Self {
            writer,
            index,
            sample,
            tokens: prompt.to_vec(),
            prompt: prompt.len(),
            penalties: Penalties::new(writer.config, prompt),
            stream: Stream::new(&writer.config.stop),
            model: Vec::new(),
            text: String::new(),
            finish: None,
            heard: ControlFlow::Continue(()),
            logprobs: Vec::new(),
            explanations: Vec::new(),
        }
    }

    /// The distribution of the next token, by the model's logits of it, which are changed by the penalties.
    pub(super) fn distribution(
        &mut self,
        logits: &mut [f32],
        filters: &mut Filters,
        out: &mut Distribution,
    ) -> Result<()> {
        if self.writer.explain || self.writer.config.logprobs.is_some() {
            self.model.clear();
            self.model.extend_from_slice(logits);
        }
        self.penalties.apply(logits);
        filters.apply(logits, out)
    }

    /// The uniform number of the next token: a function of seed, purpose, sample and position.
    pub(super) fn uniform(&self, purpose: &str) -> f64 {
        self.uniform_after(0, purpose)
    }

    /// The uniform number of the token that comes `ahead` after the next.
    pub(super) fn uniform_after(&self, ahead: usize, purpose: &str) -> f64 {
        let position = (self.tokens.len() + ahead) as u64;
        random::uniform_at(self.writer.config.seed, purpose, self.sample, position)
    }

    /// Whether a token would end it.
    pub(super) fn ends(&self, token: u32) -> bool {
        self.writer.ends(token)
    }

    /// Tokens that may still be written.
    pub(super) fn room(&self) -> usize {
        let written = self.tokens.len() - self.prompt;
        let context = self.writer.engine.context();
        (self.writer.config.max_tokens - written).min(context - self.tokens.len())
    }

    /// Appends a token, and tells the listener; breaks where that breaks off.
    pub(super) fn push(&mut self, token: u32, listener: &mut Listener<'_>) -> ControlFlow<()> {
        let config = self.writer.config;
        self.record(token);
        self.penalties.push(token);
        self.tokens.push(token);
        let mut piece = String::new();
        let ends = self.writer.ends(token)
            || self.stream.push(self.writer.tokenizer.spelling(token), &mut piece);
        self.finish = if ends {
            Some(Finish::Stop)
        } else if self.tokens.len() - self.prompt >= config.max_tokens {
            Some(Finish::Length)
        } else if self.tokens.len() >= self.writer.engine.context() {
            Some(Finish::Context)
        } else {
            None
        };
        if self.finish.is_some() {
            self.stream.finish(&mut piece);
        }
        self.text.push_str(&piece);
        let explanation = self.explanations.last();
        let event =
            Event { row: self.index, token, text: &piece, explanation, finish: self.finish };
        self.heard = listener(&event);
        if self.heard.is_break() {
            self.interrupt();
        }
        self.heard
    }

    /// The last token.
    pub(super) fn last(&self) -> u32 {
        self.tokens[self.tokens.len() - 1]
    }

    /// Whether it goes on.
    pub(super) fn is_open(&self) -> bool {
        self.finish.is_none()
    }

    /// Whether the listener broke off here.
    pub(super) fn is_interrupted(&self) -> bool {
        self.heard.is_break()
    }

    /// Ends the text where it is, if it has no end yet.
    pub(super) fn interrupt(&mut self) {
        if self.finish.is_none() {
            self.stream.finish(&mut self.text);
            self.finish = Some(Finish::Interrupted);
        }
    }

    /// Notes why `token` comes next, and how probable it was.
    fn record(&mut self, token: u32) {
        let config = self.writer.config;
        if self.writer.explain {
            let sampling = config.sampling();
            let explanation = Explanation::new(&self.model, &self.penalties, sampling, token);
            self.explanations.push(explanation);
        }
        if let Some(count) = config.logprobs {
            let kernel = Kernel::new(Variant::available()[0], 1);
            let total = f64::from(kernel.log_sum_exp(&self.model));
            let (mut ranking, mut ranked) = (Ranking::default(), Vec::new());
            if count > 0 && ranking.set(&self.model).is_ok() {
                ranking.likeliest(&self.model, count, &mut ranked);
            }
            let log_prob = |&(logit, token): &Ranked| (token, f64::from(logit) - total);
            self.logprobs.push(Logprob {
                token,
                logprob: f64::from(self.model[token as usize]) - total,
                likeliest: ranked.iter().map(log_prob).collect(),
            });
        }
    }

    /// The text.
    pub(super) fn into_text(mut self) -> Text {
        self.interrupt();
        Text {
            tokens: self.tokens.split_off(self.prompt),
            text: self.text,
            finish: self.finish.unwrap_or(Finish::Interrupted),
            logprobs: self.logprobs,
            explanations: self.explanations,
        }
    }
}
