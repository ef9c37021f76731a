//! The priors over codes.

use core_layers::{ConfigError, training::Part};
use pixelcnn::config::{GatedConfig, Head, ImageConfig, Input, ModelConfig};
use serde::{Deserialize, Serialize};

use super::VqVaeConfig;

/// A Gated `PixelCNN` over the codes of one level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorConfig {
    /// Channels of each stack.
    pub channels: i64,
    /// Numbers that a code becomes before the first layer.
    pub embedding: i64,
    /// Dilation of each gated block.
    pub dilations: Vec<i64>,
    /// Rows and columns of the kernels.
    pub kernel_size: i64,
    /// Whether it is told the class of an image.
    pub class_conditional: bool,
    /// A block of attention after every so many gated blocks; 0 for none.
    pub attention_every: i64,
    /// Heads of the attention.
    pub attention_heads: i64,
    /// Residual blocks over the codes of the level above.
    pub context_blocks: i64,
    /// Share of features that are dropped in training.
    pub dropout: f64,
}

impl PriorConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let rule = "1 to 65536";
        ConfigError::ensure(
            (1..=65_536).contains(&self.embedding),
            "priors.embedding",
            self.embedding,
            rule,
        )
    }

    /// The model of level `level`, from the bottom up, of the codes of `model`, for images of `classes` classes.
    pub fn model(&self, model: &VqVaeConfig, level: usize, classes: i64) -> ModelConfig {
        let sizes = model.sizes();
        let (height, width) = sizes[level];
        let above = sizes.get(level + 1).copied();
        let (context_height, context_width) = above.unwrap_or_default();
        ModelConfig::Gated(GatedConfig {
            image: ImageConfig {
                height,
                width,
                colours: model.quantiser.codebooks,
                levels: model.quantiser.codes,
                input: Input::Categorical { embedding: self.embedding },
                head: Head::Softmax,
            },
            channels: self.channels,
            first_kernel_size: self.kernel_size,
            kernel_size: self.kernel_size,
            dilations: self.dilations.clone(),
            classes: if self.class_conditional { classes } else { 0 },
            context_channels: if above.is_some() { model.quantiser.width() } else { 0 },
            context_height,
            context_width,
            context_blocks: if above.is_some() { self.context_blocks } else { 0 },
            attention_every: self.attention_every,
            attention_heads: self.attention_heads,
            dropout: self.dropout,
        })
    }
}

/// The codes that a prior learnt: what ties it to its autoencoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodesConfig {
    /// Level of the codes, from the bottom up.
    pub level: usize,
    /// Hash of the weights that made them.
    pub autoencoder: String,
    /// Hash of the codes of all levels.
    pub codes: String,
}

impl Part for CodesConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let is_hash = |text: &str| text.len() == 64;
        ConfigError::ensure(
            is_hash(&self.autoencoder) && is_hash(&self.codes),
            "data",
            &self.autoencoder,
            "hashes of 64 digits",
        )
    }
}
