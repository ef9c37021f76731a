//! A classifier of images, for rejection sampling and for judging samples. Letters: B batch, M channels.

use core_layers::{
    ConfigError,
    training::{Architecture, Part},
};
use serde::{Deserialize, Serialize};
use tch::{
    Kind, Tensor,
    nn::{self, Module},
};

/// A small convolutional classifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Colours of an image.
    pub colours: i64,
    /// Levels of a value.
    pub levels: i64,
    /// Classes.
    pub classes: i64,
    /// Channels M after the first convolution; twice as many after the second.
    pub channels: i64,
}

impl Part for ClassifierConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in
            [("classes", self.classes), ("channels", self.channels), ("levels", self.levels)]
        {
            let rule = "1 to 65536";
            ConfigError::ensure((1..=65_536).contains(&value), field, value, rule)?;
        }
        ConfigError::ensure([1, 3].contains(&self.colours), "colours", self.colours, "1 or 3")
    }
}

impl Architecture for ClassifierConfig {
    const NAME: &'static str = "classifier";

    fn least_parameters(&self) -> i64 {
        18 * self.channels * self.channels
    }
}

/// Three convolutions of 3 x 3 taps, the last two of stride 2, the mean over places, and a linear layer.
#[derive(Debug)]
pub struct Classifier {
    levels: i64,
    convolutions: [nn::Conv2D; 3],
    to_classes: nn::Linear,
}

impl Classifier {
    /// Creates the weights under `vs`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn new(vs: &nn::Path<'_>, config: &ClassifierConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let conv = |name: &str, ins, outs, stride| {
            let config = nn::ConvConfig { stride, padding: 1, ..nn::ConvConfig::default() };
            nn::conv2d(vs / name, ins, outs, 3, config)
        };
        let wide = 2 * config.channels;
        Ok(Self {
            levels: config.levels,
            convolutions: [
                conv("first", config.colours, config.channels, 1),
                conv("second", config.channels, wide, 2),
                conv("third", wide, wide, 2),
            ],
            to_classes: nn::linear(
                vs / "to_classes",
                wide,
                config.classes,
                nn::LinearConfig::default(),
            ),
        })
    }

    /// Log-probabilities of the classes `[B, classes]` of levels `[B, C, H, W]`; `train` lets dropout act.
    pub fn log_probs(&self, levels: &Tensor, train: bool) -> Tensor {
        let xs = levels.to_kind(Kind::Float) / (self.levels - 1) as f64 - 0.5;
        let features = self.convolutions.iter().fold(xs, |xs, conv| conv.forward(&xs).relu());
        let pooled =
            features.mean_dim([2i64, 3].as_slice(), false, Kind::Float).dropout(0.2, train);
        self.to_classes.forward(&pooled).log_softmax(1, Kind::Float)
    }
}
