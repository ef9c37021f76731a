//! Which weights are adapted by how much.

use clap::ValueEnum;
use core_layers::ConfigError;
use serde::{Deserialize, Serialize};

/// Low-rank adapters: `W + alpha / rank * up down`, where only `down` `[rank, inputs]` and `up` `[outputs, rank]` are
/// trained (Hu et al., "LoRA", 2021, section 4.1, <https://arxiv.org/abs/2106.09685>).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the change.
    pub rank: i64,
    /// Its scale, times the rank.
    pub alpha: f64,
    /// The weights that are changed, in every layer.
    pub targets: Vec<Target>,
}

/// A matrix of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Queries of attention.
    Query,
    /// Keys of attention.
    Key,
    /// Values of attention.
    Value,
    /// What attention writes.
    Output,
    /// The gate of a `SwiGlu`.
    Gate,
    /// Into the feed-forward network.
    Up,
    /// Out of it.
    Down,
}

impl Default for LoraConfig {
    /// Queries and values at rank 8, as in the paper's section 4.2 and 7.1.
    fn default() -> Self {
        Self { rank: 8, alpha: 16., targets: vec![Target::Query, Target::Value] }
    }
}

impl LoraConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rank = self.rank;
        ConfigError::ensure((1..=4096).contains(&rank), "lora.rank", rank, "from 1 to 4096")?;
        let holds = self.alpha > 0. && self.alpha.is_finite();
        ConfigError::ensure(holds, "lora.alpha", self.alpha, "a positive number")?;
        let some = !self.targets.is_empty();
        ConfigError::ensure(some, "lora.targets", "empty", "one weight at least")
    }

    /// What the change is multiplied by.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Whether it changes the weight of that name.
    pub fn changes(&self, name: &str) -> bool {
        self.targets.iter().any(|target| name.ends_with(target.ending()))
    }
}

impl Target {
    /// How the names of its weights end.
    const fn ending(self) -> &'static str {
        match self {
            Self::Query => ".attention.query.weight",
            Self::Key => ".attention.key.weight",
            Self::Value => ".attention.value.weight",
            Self::Output => ".attention.output.weight",
            Self::Gate => ".feed_forward.gate.weight",
            Self::Up => ".feed_forward.up.weight",
            Self::Down => ".feed_forward.down.weight",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_matrices_of_layers_and_nothing_else() {
        let config =
            LoraConfig { targets: vec![Target::Query, Target::Down], ..LoraConfig::default() };
        assert!(config.changes("layers.3.attention.query.weight"));
        assert!(config.changes("layers.0.feed_forward.down.weight"));
        for other in
            ["layers.0.attention.query.bias", "layers.0.attention.key.weight", "head.weight"]
        {
            assert!(!config.changes(other), "{other}");
        }
    }

    #[test]
    fn numbers_that_adapt_nothing_are_refused_by_name() {
        let refusal = |config: LoraConfig| config.validate().unwrap_err().to_string();
        let config = LoraConfig::default();
        assert_eq!((config.validate(), config.scale()), (Ok(()), 2.));
        let message = refusal(LoraConfig { rank: 0, ..config.clone() });
        assert_eq!(message, "lora.rank is 0, but must be from 1 to 4096");
        assert!(
            refusal(LoraConfig { alpha: f64::NAN, ..config.clone() }).contains("lora.alpha is NaN")
        );
        assert!(
            refusal(LoraConfig { targets: Vec::new(), ..config }).contains("lora.targets is empty")
        );
    }
}
