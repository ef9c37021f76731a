//! The Gated PixelCNN: its stacks, its attention, and what it makes of a context map.

use core_layers::ConfigError;
use serde::{Deserialize, Serialize};

use super::{
    ImageConfig,
    model::{bounded, channels_of, kernel, one, product},
};

/// Most pixels of an image with attention: every pair of them is compared, and keys and values of all are kept.
const MAX_ATTENDED: i64 = 65_536;

/// The Gated PixelCNN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatedConfig {
    /// The images.
    pub image: ImageConfig,
    /// Channels of each stack.
    pub channels: i64,
    /// Kernel of the first layer of each stack.
    pub first_kernel_size: i64,
    /// Kernel of the blocks.
    pub kernel_size: i64,
    /// The dilation of each block; as many blocks as numbers.
    pub dilations: Vec<i64>,
    /// Blocks from one layer of causal self-attention to the next; 0 for no attention.
    #[serde(default)]
    pub attention_every: i64,
    /// Heads of each layer of attention: a divisor of the channels, and a multiple of the colours.
    #[serde(default = "one")]
    pub attention_heads: i64,
    /// Classes that it is conditioned on; 0 for none.
    #[serde(default)]
    pub classes: i64,
    /// Channels of a spatial context map that it is conditioned on; 0 for none.
    #[serde(default)]
    pub context_channels: i64,
    /// Rows of the context map, a divisor of the image's; 0 for as many.
    #[serde(default)]
    pub context_height: i64,
    /// Columns of the context map, a divisor of the image's; 0 for as many.
    #[serde(default)]
    pub context_width: i64,
    /// Residual blocks that the context map goes through at its own size, as wide as a stack.
    #[serde(default)]
    pub context_blocks: i64,
    /// Probability with which features between blocks are dropped in training.
    #[serde(default)]
    pub dropout: f64,
}

impl GatedConfig {
    /// Four blocks of 32 channels and 3x3 kernels, conditioned on nothing.
    pub fn new(image: ImageConfig) -> Self {
        Self {
            image,
            channels: 32,
            first_kernel_size: 3,
            kernel_size: 3,
            dilations: vec![1, 2, 1, 2],
            attention_every: 0,
            attention_heads: 1,
            classes: 0,
            context_channels: 0,
            context_height: 0,
            context_width: 0,
            context_blocks: 0,
            dropout: 0.,
        }
    }

    /// Whether a layer of attention follows block `index`.
    pub fn has_attention_after(&self, index: usize) -> bool {
        self.attention_every > 0 && (index as i64 + 1) % self.attention_every == 0
    }

    /// Layers of attention.
    pub fn attention_layers(&self) -> i64 {
        (self.dilations.len() as i64).checked_div(self.attention_every).unwrap_or(0)
    }

    /// Rows and columns of the context map.
    pub fn context_size(&self) -> [i64; 2] {
        let or = |size, all| if size == 0 { all } else { size };
        [or(self.context_height, self.image.height), or(self.context_width, self.image.width)]
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        channels_of(&self.image, "model.channels", self.channels)?;
        kernel("model.first_kernel_size", self.first_kernel_size, 3)?;
        kernel("model.kernel_size", self.kernel_size, 3)?;
        self.dilations.iter().try_for_each(|&dilation| bounded("model.dilations", dilation))?;
        self.validate_attention()?;
        let classes = self.classes;
        let in_range = (0..=65_536).contains(&classes);
        ConfigError::ensure(in_range, "model.classes", classes, "0 to 65536")?;
        self.validate_context()?;
        let in_range = (0. ..1.).contains(&self.dropout);
        ConfigError::ensure(in_range, "model.dropout", self.dropout, "at least 0 and below 1")
    }

    fn validate_attention(&self) -> Result<(), ConfigError> {
        let (every, blocks) = (self.attention_every, self.dilations.len() as i64);
        let rule = format!("0 to {blocks}, the number of blocks");
        ConfigError::ensure((0..=blocks).contains(&every), "model.attention_every", every, &rule)?;
        let pixels = self.image.height * self.image.width;
        let rule = format!("0 for images of more than {MAX_ATTENDED} pixels");
        let fits = every == 0 || pixels <= MAX_ATTENDED;
        ConfigError::ensure(fits, "model.attention_every", every, &rule)?;
        let heads = self.attention_heads;
        bounded("model.attention_heads", heads)?;
        let (channels, colours) = (self.channels, self.image.colours);
        let rule = match colours {
            1 => format!("a divisor of the {channels} channels"),
            _ => format!(
                "a divisor of the {channels} channels and a multiple of the {colours} colours"
            ),
        };
        let fits = every == 0 || (channels % heads == 0 && heads % colours == 0);
        ConfigError::ensure(fits, "model.attention_heads", heads, &rule)
    }

    fn validate_context(&self) -> Result<(), ConfigError> {
        let map = self.context_channels;
        let in_range = (0..=65_536).contains(&map);
        ConfigError::ensure(in_range, "model.context_channels", map, "0 to 65536")?;
        for (field, side, of) in [
            ("model.context_height", self.context_height, self.image.height),
            ("model.context_width", self.context_width, self.image.width),
        ] {
            let rule = format!("0 or a divisor of the image's {of}");
            ConfigError::ensure(side == 0 || (side > 0 && of % side == 0), field, side, &rule)?;
        }
        let blocks = self.context_blocks;
        let in_range = (0..=65_536).contains(&blocks);
        ConfigError::ensure(in_range, "model.context_blocks", blocks, "0 to 65536")?;
        let is_used = map > 0 || [blocks, self.context_height, self.context_width] == [0; 3];
        let rule = "at least 1 where the size or the blocks of a context map are given";
        ConfigError::ensure(is_used, "model.context_channels", map, rule)
    }

    /// Weights of its largest layers: a lower bound that costs nothing to compute.
    pub(super) fn least_parameters(&self) -> i64 {
        let square = product(&[self.channels, self.channels]);
        let vertical =
            product(&[2 * self.dilations.len() as i64, square, self.kernel_size, self.kernel_size]);
        let attention = product(&[3, self.attention_layers(), square]);
        let context = product(&[10, self.context_blocks, square]);
        vertical.saturating_add(attention).saturating_add(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn refusal(edit: fn(&mut GatedConfig)) -> Option<String> {
        let mut config = GatedConfig::new(ImageConfig::grey(8, 8, 17));
        edit(&mut config);
        ModelConfig::Gated(config).validate().err().map(|error| error.to_string())
    }

    #[test]
    fn bad_numbers_are_named() {
        assert_eq!(refusal(|_| {}), None);
        assert_eq!(
            refusal(|config| config.kernel_size = 4).as_deref(),
            Some("model.kernel_size is 4, but must be odd, from 3 to 63")
        );
        assert_eq!(
            refusal(|config| config.image.colours = 3).as_deref(),
            Some("model.channels is 32, but must be a multiple of the 3 colours")
        );
        assert!(refusal(|config| config.image.levels = 1).is_some());
        assert!(refusal(|config| config.dilations.push(0)).is_some());
        assert!(refusal(|config| config.dropout = 1.).is_some());
        assert!(refusal(|config| config.channels = i64::MAX).is_some());
    }

    #[test]
    fn attention_that_does_not_fit_is_refused_in_one_line() {
        assert_eq!(
            refusal(|config| config.attention_every = 5).as_deref(),
            Some("model.attention_every is 5, but must be 0 to 4, the number of blocks")
        );
        assert!(refusal(|config| config.attention_every = -1).is_some());
        let large = |config: &mut GatedConfig| {
            (config.attention_every, config.image.width) = (2, 4096);
            config.image.height = 17;
        };
        assert_eq!(
            refusal(large).as_deref(),
            Some("model.attention_every is 2, but must be 0 for images of more than 65536 pixels")
        );
        let heads = |config: &mut GatedConfig| {
            (config.attention_every, config.attention_heads) = (2, 5);
        };
        assert_eq!(
            refusal(heads).as_deref(),
            Some("model.attention_heads is 5, but must be a divisor of the 32 channels")
        );
        assert!(refusal(|config| config.attention_heads = 0).is_some());
        assert_eq!(refusal(|config| config.attention_heads = 5), None, "there is no attention");
        let colours = |config: &mut GatedConfig| {
            config.image.colours = 3;
            (config.channels, config.attention_every, config.attention_heads) = (24, 2, 4);
        };
        assert_eq!(
            refusal(colours).as_deref(),
            Some(
                "model.attention_heads is 4, but must be a divisor of the 24 channels and a multiple of the 3 colours"
            )
        );
    }

    #[test]
    fn a_context_map_that_does_not_fit_is_refused_in_one_line() {
        let height = |config: &mut GatedConfig| {
            (config.context_channels, config.context_height) = (2, 3);
        };
        assert_eq!(
            refusal(height).as_deref(),
            Some("model.context_height is 3, but must be 0 or a divisor of the image's 8")
        );
        assert_eq!(
            refusal(|config| config.context_blocks = 2).as_deref(),
            Some(
                "model.context_channels is 0, but must be at least 1 where the size or the blocks of a context map are given"
            )
        );
    }

    #[test]
    fn what_an_older_configuration_does_not_say_changes_nothing() -> serde_json::Result<()> {
        let wanted = GatedConfig::new(ImageConfig::grey(8, 8, 17));
        let mut json = serde_json::to_value(&wanted)?;
        let fields = json.as_object_mut().expect("a structure is an object");
        for field in [
            "attention_every",
            "attention_heads",
            "context_height",
            "context_width",
            "context_blocks",
        ] {
            assert!(fields.remove(field).is_some(), "{field}");
        }
        assert_eq!(serde_json::from_value::<GatedConfig>(json)?, wanted);
        Ok(())
    }
}
