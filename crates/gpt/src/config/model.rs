//! One decoder, and what makes it GPT-2, GPT-3 or LLaMA.

use core_layers::{
    ConfigError,
    training::{Architecture, Part},
};
use serde::{Deserialize, Serialize};

/// A decoder: token embedding, layers of attention and feed-forward networks before whose inputs is a norm, a last norm,
/// and a head over the vocabulary.
///
/// Letters: V vocabulary, N context, L layers, D width, H heads, K key and value heads, E width of a head, F feed-forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Tokens V.
    pub vocabulary: i64,
    /// Positions N that it can see.
    pub context: i64,
    /// Layers L.
    pub layers: i64,
    /// Width D of the residual stream.
    pub d_model: i64,
    /// Query heads H.
    pub heads: i64,
    /// Key and value heads K, of which H is a multiple: K = H is multi-head, K = 1 multi-query attention
    /// (Ainslie et al., "GQA", 2023, <https://arxiv.org/abs/2305.13245>).
    pub kv_heads: i64,
    /// Width E of a head.
    pub d_head: i64,
    /// Width F within the feed-forward network.
    pub d_ff: i64,
    /// What stands before attention, feed-forward network and head.
    pub norm: Norm,
    /// What keeps the norm's division finite.
    pub norm_epsilon: f64,
    /// How a token knows where it stands.
    pub positions: Positions,
    /// The feed-forward network.
    pub feed_forward: FeedForward,
    /// What a position attends to.
    pub attention: Attention,
    /// Whether linear maps (the head excepted) have biases.
    pub biases: bool,
    /// Whether the head's weights are the token embedding's.
    pub tied: bool,
    /// Share of activations, and of the weights of attention, dropped in training.
    pub dropout: f64,
    /// Standard deviation of initial weights; those that write to the residual stream have it divided by `sqrt(2 L)`
    /// (Radford et al., "GPT-2", 2019, section 2.3).
    pub initial_std: f64,
    /// The token that stands before the first one of every text.
    pub start: u32,
}

/// A layer that evens out the sizes of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// `(x - mean) / sqrt(var + eps) * w + b` (Ba et al., 2016, <https://arxiv.org/abs/1607.06450>).
    LayerNorm,
    /// `x / sqrt(mean(x^2) + eps) * w` (Zhang and Sennrich, 2019, <https://arxiv.org/abs/1910.07467>).
    RmsNorm,
}

/// How a token knows where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Positions {
    /// A learnt vector a position, added to the token's.
    Learned,
    /// Queries and keys are turned by angles proportional to the position, halves of a head paired
    /// (Su et al., "RoFormer", 2021, <https://arxiv.org/abs/2104.09864>).
    Rope {
        /// The slowest angle's wavelength is `2 pi theta^(1 - 2/E)`.
        theta: f64,
        /// How angles are changed for contexts longer than those trained on.
        scaling: Scaling,
    },
}

/// How rotary angles are stretched beyond the context that was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All angles divided by `factor` (Chen et al., 2023, <https://arxiv.org/abs/2306.15595>).
    Linear {
        /// How many times longer the context becomes.
        factor: f64,
    },
    /// Slow angles divided by `factor`, fast ones kept, those between blended: LLaMA 3.1.
    Llama3 {
        /// How many times longer the context becomes.
        factor: f64,
        /// Wavelengths above `original_context / low_frequency_factor` are divided.
        low_frequency_factor: f64,
        /// Wavelengths below `original_context / high_frequency_factor` are kept.
        high_frequency_factor: f64,
        /// The context that was trained on.
        original_context: i64,
    },
}

/// The feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// `down(gelu(up(x)))` with the error function.
    Gelu,
    /// The same with GPT-2's approximation of it by tanh.
    GeluTanh,
    /// `down(silu(gate(x)) * up(x))` (Shazeer, 2020, <https://arxiv.org/abs/2002.05202>).
    SwiGlu,
}

/// What a position attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Attention {
    /// Every position up to its own.
    Dense,
    /// Every position in layers 0, 2, 4...; in the others the last `band` up to its own (Brown et al., "GPT-3", 2020,
    /// section 2.1, after Child et al., 2019, <https://arxiv.org/abs/1904.10509>).
    Alternating {
        /// Positions, its own included.
        band: i64,
    },
}

impl Attention {
    /// Positions that layer `layer` sees, its own included; none where it sees all.
    pub fn band(self, layer: i64) -> Option<i64> {
        match self {
            Self::Alternating { band } if layer % 2 == 1 => Some(band),
            _ => None,
        }
    }
}

impl DecoderConfig {
    /// Width of all queries, H E.
    pub const fn d_query(&self) -> i64 {
        self.heads * self.d_head
    }

    /// Width of all keys, K E, and of all values.
    pub const fn d_key(&self) -> i64 {
        self.kv_heads * self.d_head
    }

    /// Trained parameters, a tied head counted once; saturates.
    pub fn parameters(&self) -> i64 {
        let tables = if self.tied { 1 } else { 2 } * wide(self.vocabulary) * wide(self.d_model);
        let positions = match self.positions {
            Positions::Learned => wide(self.context) * wide(self.d_model),
            Positions::Rope { .. } => 0,
        };
        narrow(tables + positions + self.wide_body())
    }

    /// Parameters but those of embeddings, positions and head: of the layers and the last norm; saturates.
    pub fn body_parameters(&self) -> i64 {
        narrow(self.wide_body())
    }

    fn wide_body(&self) -> i128 {
        let d = wide(self.d_model);
        let norm = if self.norm == Norm::LayerNorm { 2 * d } else { d };
        let linear = |outs: i128, inputs: i128| outs * inputs + if self.biases { outs } else { 0 };
        let (queries, keys) = (wide(self.d_query()), wide(self.d_key()));
        let attention = linear(queries, d) + 2 * linear(keys, d) + linear(d, queries);
        let inner = linear(wide(self.d_ff), d);
        let inners = if self.feed_forward == FeedForward::SwiGlu { 2 * inner } else { inner };
        let feed_forward = inners + linear(d, wide(self.d_ff));
        wide(self.layers) * (2 * norm + attention + feed_forward) + norm
    }
}

/// Sizes are at most 2^24, so products of four of them fit.
const fn wide(size: i64) -> i128 {
    size as i128
}

fn narrow(count: i128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Part for DecoderConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("model.vocabulary", self.vocabulary),
            ("model.context", self.context),
            ("model.layers", self.layers),
            ("model.d_model", self.d_model),
            ("model.heads", self.heads),
            ("model.kv_heads", self.kv_heads),
            ("model.d_head", self.d_head),
            ("model.d_ff", self.d_ff),
        ];
        for (field, size) in sizes {
            let rule = "between 1 and 16777216";
            ConfigError::ensure((1..=1 << 24).contains(&size), field, size, rule)?;
        }
        let shares = self.heads % self.kv_heads == 0;
        ConfigError::ensure(shares, "model.kv_heads", self.kv_heads, "a divisor of model.heads")?;
        let positive = |x: f64| x > 0. && x.is_finite();
        let epsilon = self.norm_epsilon;
        ConfigError::ensure(positive(epsilon), "model.norm_epsilon", epsilon, "a positive number")?;
        let std = self.initial_std;
        ConfigError::ensure(positive(std), "model.initial_std", std, "a positive number")?;
        let drops = (0. ..1.).contains(&self.dropout);
        ConfigError::ensure(drops, "model.dropout", self.dropout, "at least 0 and below 1")?;
        let start = i64::from(self.start) < self.vocabulary;
        ConfigError::ensure(start, "model.start", self.start, "below model.vocabulary")?;
        if let Positions::Rope { theta, scaling } = self.positions {
            let even = self.d_head % 2 == 0;
            ConfigError::ensure(
                even,
                "model.d_head",
                self.d_head,
                "even, since rotations pair its halves",
            )?;
            ConfigError::ensure(
                positive(theta),
                "model.positions.theta",
                theta,
                "a positive number",
            )?;
            scaling.validate()?;
        }
        if let Attention::Alternating { band } = self.attention {
            ConfigError::at_least_one("model.attention.band", band)?;
        }
        Ok(())
    }
}

impl Scaling {
    fn validate(self) -> Result<(), ConfigError> {
        let at_least_one = |field: &str, value: f64| {
            let holds = value >= 1. && value.is_finite();
            ConfigError::ensure(holds, field, value, "a number of at least 1")
        };
        match self {
            Self::None => Ok(()),
            Self::Linear { factor } => at_least_one("model.positions.scaling.factor", factor),
            Self::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                at_least_one("model.positions.scaling.factor", factor)?;
                let field = "model.positions.scaling.low_frequency_factor";
                ConfigError::ensure(low > 0. && low.is_finite(), field, low, "above 0")?;
                let field = "model.positions.scaling.high_frequency_factor";
                let holds = high > low && high.is_finite();
                ConfigError::ensure(holds, field, high, "above low_frequency_factor")?;
                let field = "model.positions.scaling.original_context";
                ConfigError::at_least_one(field, original_context)
            }
        }
    }
}

impl Architecture for DecoderConfig {
    const NAME: &'static str = "gpt";
    const IS_TEXT: bool = true;

    fn least_parameters(&self) -> i64 {
        self.parameters()
    }
}
