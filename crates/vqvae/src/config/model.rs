//! Encoder, codebooks and decoder.

use core_layers::{ConfigError, quantise::QuantiserConfig};
use serde::{Deserialize, Serialize};

/// A VQ-VAE of one level or a hierarchy of several. Letters: H rows, W columns, L levels of a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqVaeConfig {
    /// Rows H of an image.
    pub height: i64,
    /// Columns W.
    pub width: i64,
    /// Colours: 1 or 3.
    pub colours: i64,
    /// Levels L of a value.
    pub levels: i64,
    /// Channels of the convolutions.
    pub channels: i64,
    /// Channels inside a residual block.
    pub residual_channels: i64,
    /// Residual blocks of each encoder and decoder.
    pub residual_blocks: i64,
    /// By how much each level of codes is smaller than what is below it, from the bottom up: `[4]` makes 7 x 7 codes of
    /// 28 x 28 pixels, `[4, 2]` makes 16 x 16 and 8 x 8 codes of 64 x 64 pixels. Powers of two.
    pub factors: Vec<i64>,
    /// The codebooks of each level.
    pub quantiser: QuantiserConfig,
    /// What the decoder says of an image.
    pub reconstruction: Reconstruction,
}

/// What the decoder says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reconstruction {
    /// Its mean; the loss is the squared error over the variance of the training images.
    Gaussian,
    /// A probability of each level of each value, from which a bound in bits per dimension follows.
    Softmax,
}

impl VqVaeConfig {
    /// Rows and columns of the codes of each level, from the bottom up.
    pub fn sizes(&self) -> Vec<(i64, i64)> {
        let mut size = (self.height, self.width);
        let smaller = |&factor: &i64| {
            size = (size.0 / factor, size.1 / factor);
            size
        };
        self.factors.iter().map(smaller).collect()
    }

    /// Values of an image: H W times its colours.
    pub fn dims(&self) -> i64 {
        self.height * self.width * self.colours
    }

    /// Codes of an image, all levels together.
    pub fn codes(&self) -> i64 {
        self.sizes().iter().map(|(h, w)| h * w).sum::<i64>() * self.quantiser.codebooks
    }

    /// Nats of an image's codes where all are equally likely: `ln K` each.
    pub fn even_prior_nats(&self) -> f64 {
        self.codes() as f64 * (self.quantiser.codes as f64).ln()
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field; for a size that does not divide, the nearest that do.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |field: &str, value: i64, least: i64, most: i64| {
            let rule = format!("{least} to {most}");
            ConfigError::ensure((least..=most).contains(&value), field, value, &rule)
        };
        ConfigError::ensure(
            [1, 3].contains(&self.colours),
            "model.colours",
            self.colours,
            "1 or 3",
        )?;
        within("model.levels", self.levels, 2, 65_536)?;
        within("model.channels", self.channels, 2, 65_536)?;
        within("model.residual_channels", self.residual_channels, 1, 65_536)?;
        within("model.residual_blocks", self.residual_blocks, 0, 64)?;
        within("model.factors", self.factors.len() as i64, 1, 4)?;
        for &factor in &self.factors {
            let fits = (2..=64).contains(&factor) && factor.count_ones() == 1;
            ConfigError::ensure(fits, "model.factors", factor, "powers of two from 2 to 64")?;
        }
        self.quantiser.validate()?;
        let whole: i64 = self.factors.iter().product();
        for (field, side) in [("model.height", self.height), ("model.width", self.width)] {
            within(field, side, 1, 4096)?;
            let below = side / whole * whole;
            let near = if below == 0 {
                format!("{whole}")
            } else {
                format!("{below} or {}", below + whole)
            };
            let rule = format!(
                "a multiple of {whole}, such as {near}, for model.factors {:?}",
                self.factors
            );
            ConfigError::ensure(side % whole == 0, field, side, &rule)?;
        }
        Ok(())
    }

    /// Numbers of its codebooks and its largest convolutions: a lower bound that costs nothing to compute.
    pub fn least_parameters(&self) -> i64 {
        let levels = self.factors.len() as i64;
        let codebooks = self.quantiser.width().saturating_mul(self.quantiser.codes);
        let convolution = self.channels.saturating_mul(self.channels).saturating_mul(9);
        codebooks.saturating_add(convolution).saturating_mul(levels)
    }
}
