//! Texts, one token at a time.

use std::{ops::ControlFlow, time::Instant};

use anyhow::{Context as _, Result};
use core_layers::ConfigError;

use super::{
    Decode, Distribution, Draft, Drafted, Filters, GenerationConfig, Memory,
    row::{Listener, Row, Text},
};
use crate::text::Tokenizer;

/// Everything that writing needs but a prompt.
pub struct Writer<'a> {
    /// The model.
    pub engine: &'a dyn Decode,
    /// A faster model that proposes what the model then accepts or not: the distribution stays the model's.
    pub draft: Option<Draft<'a>>,
    /// How its text is cut.
    pub tokenizer: &'a Tokenizer,
    /// Tokens that end a text.
    pub ends: &'a [u32],
    /// How tokens are drawn, and when a text ends.
    pub config: &'a GenerationConfig,
    /// Whether to say why each token was drawn.
    pub explain: bool,
}

/// Texts, and how long they took.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Sample s of prompt p is `p * count + s`.
    pub texts: Vec<Text>,
    /// Reading of prompts, what a memory held already aside.
    pub prefill: Pace,
    /// Steps after it: the first token of a text comes from reading its prompt.
    pub decode: Pace,
    /// What became of drafts.
    pub drafted: Drafted,
}

/// So many tokens in so much time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    /// Tokens.
    pub tokens: usize,
    /// Seconds.
    pub seconds: f64,
}

impl Pace {
    /// None where there is nothing to measure.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.tokens > 0 && self.seconds > 0.).then(|| self.tokens as f64 / self.seconds)
    }
}

impl<'a> Writer<'a> {
    /// A memory in which nothing was read yet, for `prompts` prompts.
    pub fn memory(&self, prompts: usize) -> Memory<'a> {
        Memory::new(self.engine, self.draft.map(|it| it.engine), prompts)
    }

    /// Writes `count` texts after each prompt. Texts do not depend on what else is written beside them, nor on what
    /// `memory` held: that makes it faster only.
    ///
    /// `listener` hears of every token as soon as it is there, and may break off: then all texts end where they are.
    ///
    /// # Errors
    /// [`ConfigError`] where the configuration asks for what the model cannot do, or a prompt is empty or leaves no room
    /// in the context; also where the model's logits are no distribution.
    ///
    /// # Panics
    /// If `memory` has not a row for each prompt.
    pub fn write(
        &self,
        memory: &mut Memory<'a>,
        prompts: &[Vec<u32>],
        listener: &mut Listener<'_>,
    ) -> Result<Written> {
        self.validate(prompts)?;
        assert_eq!(memory.rows(), prompts.len(), "a memory has a row for each prompt");
        let start = Instant::now();
        let mut logits = Vec::new(); // [prompts or rows, V]
        let read = self.prefill(memory, prompts, &mut logits);
        let prefill = Pace { tokens: read, seconds: start.elapsed().as_secs_f64() };

        let start = Instant::now();
        let (count, width) = (self.config.count, self.engine.vocabulary());
        let of_prompt = |row: usize| row / count;
        let mut rows: Vec<Row<'_>> = (0..prompts.len() * count)
            .map(|row| Row::new(self, &prompts[of_prompt(row)], row, (row % count) as u64))
            .collect();
        if count > 1 {
            memory.gather(&(0..rows.len()).map(of_prompt).collect::<Vec<_>>());
        }
        let mut pen = Pen::new(self);
        for (index, row) in rows.iter_mut().enumerate() {
            let mut own = logits[of_prompt(index) * width..][..width].to_vec();
            if pen.draw(row, &mut own, listener)?.is_break() {
                break;
            }
        }
        let mut drafted = Drafted::default();
        while !rows.iter().any(Row::is_interrupted) {
            let open: Vec<usize> = (0..rows.len()).filter(|&it| rows[it].is_open()).collect();
            if open.is_empty() {
                break;
            }
            if let Some(draft) = self.draft {
                for &index in &open {
                    drafted += draft.round(memory, &mut rows[index], &mut pen, listener)?;
                }
                continue;
            }
            let last: Vec<u32> = open.iter().map(|&index| rows[index].last()).collect();
            memory.target.step(&open, &last, &mut logits);
            for (&index, own) in open.iter().zip(logits.chunks_mut(width)) {
                if pen.draw(&mut rows[index], own, listener)?.is_break() {
                    break;
                }
            }
        }
        let texts: Vec<Text> = rows.into_iter().map(Row::into_text).collect();
        let firsts = texts.iter().filter(|it| !it.tokens.is_empty()).count();
        let tokens = texts.iter().map(|it| it.tokens.len()).sum::<usize>() - firsts;
        let decode = Pace { tokens, seconds: start.elapsed().as_secs_f64() };
        Ok(Written { texts, prefill, decode, drafted })
    }

    /// Reads the prompts, and writes the logits after each: `[prompts, V]`. Returns how many tokens were read.
    fn prefill(&self, memory: &mut Memory<'_>, prompts: &[Vec<u32>], all: &mut Vec<f32>) -> usize {
        let (mut read, mut logits) = (0, Vec::new());
        for (row, prompt) in prompts.iter().enumerate() {
            if let (Some(held), Some(draft)) = (&mut memory.draft, self.draft)
                && prompt.len() <= draft.engine.context()
            {
                held.read(row, prompt, 1, &mut logits);
            }
            read += memory.target.read(row, prompt, 1, &mut logits);
            all.extend_from_slice(&logits);
        }
        read
    }

    fn validate(&self, prompts: &[Vec<u32>]) -> Result<(), ConfigError> {
        self.config.validate_for(self.vocabulary())?;
        let context = self.engine.context();
        for prompt in prompts {
            let told = format!("{} tokens", prompt.len());
            let rule = format!("at most {}, one less than the model's context", context - 1);
            ConfigError::ensure(!prompt.is_empty(), "prompt", &told, "at least one token")?;
            ConfigError::ensure(prompt.len() < context, "prompt", &told, &rule)?;
            let unknown = prompt.iter().find(|&&it| it as usize >= self.engine.vocabulary());
            let rule = format!("of tokens below {}", self.engine.vocabulary());
            ConfigError::ensure(unknown.is_none(), "prompt", unknown.unwrap_or(&0), &rule)?;
        }
        self.draft.map_or(Ok(()), |it| it.validate(self.engine))
    }

    /// Tokens that may be written: a model may have rows for more than the tokenizer knows.
    pub(super) fn vocabulary(&self) -> usize {
        self.engine.vocabulary().min(self.tokenizer.vocabulary())
    }

    /// Whether a token ends the text.
    pub(super) fn ends(&self, token: u32) -> bool {
        !self.config.ignore_eos && self.ends.contains(&token)
    }
}

/// What draws tokens, and the room that it needs.
pub(super) struct Pen {
    pub(super) filters: Filters,
    pub(super) distribution: Distribution,
    pub(super) vocabulary: usize,
}

impl Pen {
    fn new(writer: &Writer<'_>) -> Self {
        let filters = Filters::new(writer.config.sampling());
        Self { filters, distribution: Distribution::default(), vocabulary: writer.vocabulary() }
    }

    /// Makes `self.distribution` that of the next token of a row.
    pub(super) fn weigh(&mut self, row: &mut Row<'_>, logits: &mut [f32]) -> Result<()> {
        let logits = &mut logits[..self.vocabulary];
        let at = row.tokens.len();
        row.distribution(logits, &mut self.filters, &mut self.distribution)
            .with_context(|| format!("position {at}"))
    }

    /// Draws the next token of a row, by the model's logits of it.
    pub(super) fn draw(
        &mut self,
        row: &mut Row<'_>,
        logits: &mut [f32],
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>> {
        self.weigh(row, logits)?;
        Ok(row.push(self.distribution.quantile(row.uniform("token")), listener))
    }
}
