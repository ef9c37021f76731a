//! The networks.

use core_layers::ConfigError;
use serde::{Deserialize, Serialize};

use super::{GatedConfig, Head, ImageConfig, Input};

/// Widths and counts: at least 1, and small enough that their products are numbers.
pub(super) fn bounded(field: &str, value: i64) -> Result<(), ConfigError> {
    ConfigError::ensure((1..=65_536).contains(&value), field, value, "1 to 65536")
}

/// The order in which the pixels of a NADE or MADE are drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Row by row, from the left.
    #[default]
    Raster,
    /// The raster order backwards.
    Reversed,
    /// A permutation.
    Shuffled {
        /// Its seed.
        seed: u64,
    },
}

/// NADE: one hidden layer whose weights are shared by all conditionals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NadeConfig {
    /// The images.
    pub image: ImageConfig,
    /// Hidden units; 500 in the paper.
    pub hidden: i64,
    /// The order.
    #[serde(default)]
    pub order: Order,
}

/// MADE: a masked autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeConfig {
    /// The images.
    pub image: ImageConfig,
    /// Units of each hidden layer.
    pub hidden: Vec<i64>,
    /// The order.
    #[serde(default)]
    pub order: Order,
    /// Orders K that training cycles through: the given one, then permutations. More than one makes the average over
    /// orders an evaluation.
    #[serde(default = "one")]
    pub num_orders: i64,
}

pub(super) fn one() -> i64 {
    1
}

/// The simple stack: masked A, then masked B layers, all of one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimpleConfig {
    /// The images.
    pub image: ImageConfig,
    /// Channels of a layer.
    pub channels: i64,
    /// Masked layers, the first of type A.
    pub layers: i64,
    /// Height and width of their kernels.
    pub kernel_size: i64,
}

/// The residual PixelCNN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelCnnConfig {
    /// The images.
    pub image: ImageConfig,
    /// Channels h inside a block; 2 h between blocks; 128 in the paper.
    pub channels: i64,
    /// Residual blocks; 15 in the paper.
    pub blocks: i64,
    /// Kernel of the first layer; 7 in the paper.
    pub first_kernel_size: i64,
    /// Kernel of the blocks; 3 in the paper.
    pub kernel_size: i64,
    /// Channels of the two layers of the head.
    pub head_channels: i64,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Neural autoregressive distribution estimator.
    Nade(NadeConfig),
    /// Masked autoencoder for distribution estimation.
    Made(MadeConfig),
    /// The simple masked stack.
    Simple(SimpleConfig),
    /// The residual PixelCNN.
    Pixelcnn(PixelCnnConfig),
    /// The Gated PixelCNN.
    Gated(GatedConfig),
}

impl ModelConfig {
    /// The tag under which it is stored.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nade(_) => "nade",
            Self::Made(_) => "made",
            Self::Simple(_) => "simple",
            Self::Pixelcnn(_) => "pixelcnn",
            Self::Gated(_) => "gated",
        }
    }

    /// The images that it models.
    pub fn image(&self) -> &ImageConfig {
        match self {
            Self::Nade(config) => &config.image,
            Self::Made(config) => &config.image,
            Self::Simple(config) => &config.image,
            Self::Pixelcnn(config) => &config.image,
            Self::Gated(config) => &config.image,
        }
    }

    /// The images that it models, to be changed.
    pub fn image_mut(&mut self) -> &mut ImageConfig {
        match self {
            Self::Nade(config) => &mut config.image,
            Self::Made(config) => &mut config.image,
            Self::Simple(config) => &mut config.image,
            Self::Pixelcnn(config) => &mut config.image,
            Self::Gated(config) => &mut config.image,
        }
    }

    /// Classes that it is conditioned on; 0 for none.
    pub fn classes(&self) -> i64 {
        if let Self::Gated(config) = self { config.classes } else { 0 }
    }

    /// Channels of the spatial context map that it is conditioned on; 0 for none.
    pub fn context_channels(&self) -> i64 {
        if let Self::Gated(config) = self { config.context_channels } else { 0 }
    }

    /// Layers of attention.
    pub fn attention_layers(&self) -> i64 {
        if let Self::Gated(config) = self { config.attention_layers() } else { 0 }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.image().validate()?;
        match self {
            Self::Nade(config) => bounded("model.hidden", config.hidden)?,
            Self::Made(config) => {
                ConfigError::ensure(
                    !config.hidden.is_empty(),
                    "model.hidden",
                    "empty",
                    "a width for each layer",
                )?;
                bounded("model.num_orders", config.num_orders)?;
                config.hidden.iter().try_for_each(|&width| bounded("model.hidden", width))?;
            }
            Self::Simple(config) => {
                self.ensure_channels("model.channels", config.channels)?;
                bounded("model.layers", config.layers)?;
                kernel("model.kernel_size", config.kernel_size, 3)?;
            }
            Self::Pixelcnn(config) => {
                self.ensure_channels("model.channels", config.channels)?;
                self.ensure_channels("model.head_channels", config.head_channels)?;
                bounded("model.blocks", config.blocks)?;
                kernel("model.first_kernel_size", config.first_kernel_size, 3)?;
                kernel("model.kernel_size", config.kernel_size, 1)?;
            }
            Self::Gated(config) => config.validate()?,
        }
        if matches!(self, Self::Nade(_) | Self::Made(_)) {
            let softmax =
                self.image().head == Head::Softmax && self.image().input == Input::Ordinal;
            let rule = "a softmax over ordinal levels for nade and made";
            ConfigError::ensure(softmax, "model.image", "another head or input", rule)?;
        }
        Ok(())
    }

    /// Weights of its largest layer: a lower bound that costs nothing to compute.
    pub fn least_parameters(&self) -> i64 {
        let image = self.image();
        match self {
            Self::Nade(config) => product(&[image.dims(), config.hidden, image.levels]),
            Self::Made(config) => {
                product(&[image.dims(), image.levels, config.hidden.last().copied().unwrap_or(1)])
            }
            Self::Simple(config) => {
                let layer = product(&[
                    config.channels,
                    config.channels,
                    config.kernel_size,
                    config.kernel_size,
                ]);
                layer.saturating_mul(config.layers - 1)
            }
            Self::Pixelcnn(config) => {
                let conv = product(&[
                    config.channels,
                    config.channels,
                    config.kernel_size,
                    config.kernel_size,
                ]);
                conv.saturating_mul(config.blocks)
            }
            Self::Gated(config) => config.least_parameters(),
        }
    }

    fn ensure_channels(&self, field: &str, channels: i64) -> Result<(), ConfigError> {
        channels_of(self.image(), field, channels)
    }
}

/// Channels that split into the image's colours.
pub(super) fn channels_of(
    image: &ImageConfig,
    field: &str,
    channels: i64,
) -> Result<(), ConfigError> {
    bounded(field, channels)?;
    let colours = image.colours;
    let rule = format!("a multiple of the {colours} colours");
    ConfigError::ensure(channels % colours == 0, field, channels, &rule)
}

pub(super) fn kernel(field: &str, size: i64, least: i64) -> Result<(), ConfigError> {
    let rule = format!("odd, from {least} to 63");
    ConfigError::ensure((least..=63).contains(&size) && size % 2 == 1, field, size, &rule)
}

/// The product of sizes, as large as a number can be where it is larger.
pub(super) fn product(sizes: &[i64]) -> i64 {
    sizes.iter().fold(1i64, |product, &size| product.saturating_mul(size))
}
