//! One symbol between a conditional and the range coder.

use std::{borrow::Borrow, num::NonZeroU32};

use anyhow::{Context as _, Result, anyhow, ensure};
use constriction::stream::{
    Decode, Encode,
    model::{DecoderModel, EncoderModel, EntropyModel},
};

use super::{Decoder, Encoder};
use crate::{
    autoregressive::Conditional,
    categorical::{Categorical, PRECISION as OF_TABLES, WIDE_PRECISION as OF_WIDE_TABLES},
    logistics::{DiscretisedMixture, MAX_TABLE_LEVELS, Mixture, PRECISION as OF_MIXTURES},
};

/// Codes symbols by whatever a stepper wrote; holds the scratch space.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    table: Table<OF_TABLES>,
    wide_table: Table<OF_WIDE_TABLES>,
    mixture: DiscretisedMixture,
    logits: Vec<f32>,
}

impl Symbols {
    /// Encodes a symbol of example `row`.
    ///
    /// # Errors
    /// A probability that is not a number, or a symbol beyond the levels.
    pub(super) fn encode(
        &mut self,
        symbol: u32,
        conditional: &Conditional,
        row: usize,
        coder: &mut Encoder,
    ) -> Result<()> {
        let coded = if let Some(mixture) = conditional.wide_mixture(row) {
            self.set_mixture(mixture)?;
            coder.encode_symbol(symbol, &self.mixture).is_ok()
        } else if conditional.levels() > MAX_TABLE_LEVELS {
            self.wide_table.set(conditional.logits(row, &mut self.logits))?;
            coder.encode_symbol(symbol, &self.wide_table).is_ok()
        } else {
            self.table.set(conditional.logits(row, &mut self.logits))?;
            coder.encode_symbol(symbol, &self.table).is_ok()
        };
        ensure!(coded, "level {symbol} is beyond the model's {}", conditional.levels());
        Ok(())
    }

    /// Decodes the next symbol, one of example `row`.
    ///
    /// # Errors
    /// A probability that is not a number, or a stream that no symbols give.
    pub(super) fn decode(
        &mut self,
        conditional: &Conditional,
        row: usize,
        coder: &mut Decoder,
    ) -> Result<u32> {
        let symbol = if let Some(mixture) = conditional.wide_mixture(row) {
            self.set_mixture(mixture)?;
            coder.decode_symbol(&self.mixture).ok()
        } else if conditional.levels() > MAX_TABLE_LEVELS {
            self.wide_table.set(conditional.logits(row, &mut self.logits))?;
            coder.decode_symbol(&self.wide_table).ok()
        } else {
            self.table.set(conditional.logits(row, &mut self.logits))?;
            coder.decode_symbol(&self.table).ok()
        };
        symbol.context("the stream is corrupt")
    }

    fn set_mixture(&mut self, mixture: Mixture<'_>) -> Result<()> {
        self.mixture.set(mixture);
        if self.mixture.is_finite() { Ok(()) } else { Err(not_a_number()) }
    }
}

fn not_a_number() -> anyhow::Error {
    anyhow!("the model gives a probability that is not a number")
}

/// Integer frequencies of every level, `2^P` in all.
#[derive(Debug, Default)]
struct Table<const P: usize> {
    categorical: Categorical,
    counts: Vec<u32>,
}

impl<const P: usize> Table<P> {
    fn set(&mut self, logits: &[f32]) -> Result<()> {
        self.categorical.set(logits);
        if !self.categorical.is_finite() {
            return Err(not_a_number());
        }
        self.categorical.frequencies(P, &mut self.counts);
        Ok(())
    }
}

impl<const P: usize> EntropyModel<P> for Table<P> {
    type Symbol = u32;
    type Probability = u32;
}

impl<const P: usize> EncoderModel<P> for Table<P> {
    fn left_cumulative_and_probability(
        &self,
        symbol: impl Borrow<u32>,
    ) -> Option<(u32, NonZeroU32)> {
        let symbol = *symbol.borrow() as usize;
        let count = NonZeroU32::new(*self.counts.get(symbol)?)?;
        Some((self.counts[..symbol].iter().sum(), count))
    }
}

impl<const P: usize> DecoderModel<P> for Table<P> {
    fn quantile_function(&self, quantile: u32) -> (u32, u32, NonZeroU32) {
        let mut left = 0;
        for (symbol, &count) in self.counts.iter().enumerate() {
            if quantile - left < count {
                return (
                    symbol as u32,
                    left,
                    NonZeroU32::new(count).expect("every frequency is at least 1"),
                );
            }
            left += count;
        }
        unreachable!("frequencies sum to 2^P, which a quantile is below")
    }
}

impl EntropyModel<OF_MIXTURES> for DiscretisedMixture {
    type Symbol = u32;
    type Probability = u32;
}

impl EncoderModel<OF_MIXTURES> for DiscretisedMixture {
    fn left_cumulative_and_probability(
        &self,
        symbol: impl Borrow<u32>,
    ) -> Option<(u32, NonZeroU32)> {
        let level = *symbol.borrow() as usize;
        if level >= self.levels() {
            return None;
        }
        let left = self.cumulated(level);
        Some((left, NonZeroU32::new(self.cumulated(level + 1) - left)?))
    }
}

impl DecoderModel<OF_MIXTURES> for DiscretisedMixture {
    fn quantile_function(&self, quantile: u32) -> (u32, u32, NonZeroU32) {
        let symbol = self.symbol_at(quantile);
        let left = self.cumulated(symbol as usize);
        let count = self.cumulated(symbol as usize + 1) - left;
        (symbol, left, NonZeroU32::new(count).expect("cumulated frequencies rise"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_levels_take_next_to_nothing_from_the_likely_one() -> Result<()> {
        let mut logits = vec![0.; 50_000];
        logits[7] = 50_000f32.ln(); // half of all
        let mut table = Table::<OF_WIDE_TABLES>::default();
        table.set(&logits)?;
        let (left, count) = table.left_cumulative_and_probability(7).context("level 7")?;
        let share = f64::from(count.get()) / f64::from(1 << OF_WIDE_TABLES);
        assert!((share - 0.5).abs() < 1e-4, "{share}");
        for quantile in [left, left + count.get() - 1] {
            assert_eq!(table.quantile_function(quantile), (7, left, count));
        }
        Ok(())
    }

    #[test]
    fn symbols_of_very_many_levels_come_back() -> Result<()> {
        let mut conditional = Conditional::default();
        for (level, logit) in conditional.reset(1, 5000).iter_mut().enumerate() {
            *logit = (level % 13) as f32;
        }
        let (mut coder, mut symbols) = (Encoder::new(), Symbols::default());
        let text = [4999, 0, 4096, 12, 12];
        for symbol in text {
            symbols.encode(symbol, &conditional, 0, &mut coder)?;
        }
        let words = coder.into_compressed().expect("a vector takes every word");
        let mut coder = Decoder::from_compressed(words).expect("a vector can be read");
        for symbol in text {
            assert_eq!(symbols.decode(&conditional, 0, &mut coder)?, symbol);
        }
        Ok(())
    }
}
