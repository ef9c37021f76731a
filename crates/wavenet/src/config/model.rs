//! The network: widths, dilations, what it reads and predicts.

use core_layers::ConfigError;
use serde::{Deserialize, Serialize};

/// How levels enter the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A vector for each level, as if it were one-hot: the paper's.
    #[default]
    OneHot,
    /// One number, levels spread over `[-1, 1]`: for 16 bits.
    Scalar,
}

/// How levels are predicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Head {
    /// A free probability for each level.
    #[default]
    Softmax,
    /// A discretised mixture of logistics.
    Logistics {
        /// Components M.
        mixtures: i64,
    },
}

/// A WaveNet (van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016, <https://arxiv.org/abs/1609.03499>).
/// The paper gives no widths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveNetConfig {
    /// Samples per second, Hz: of what it was trained on.
    pub sample_rate: u32,
    /// Levels L of a sample.
    pub levels: i64,
    /// How they enter.
    #[serde(default)]
    pub input: Input,
    /// How they are predicted.
    #[serde(default)]
    pub head: Head,
    /// Taps k0 of the initial causal convolution.
    pub first_kernel_size: i64,
    /// Taps k of every dilated convolution.
    pub kernel_size: i64,
    /// Dilation of each layer; any list.
    pub dilations: Vec<i64>,
    /// Channels R of the residual path.
    pub residual_channels: i64,
    /// Channels G behind each gate.
    pub gate_channels: i64,
    /// Channels S of the skip path.
    pub skip_channels: i64,
    /// Channels A between the head's two layers.
    pub head_channels: i64,
    /// Speakers of the global condition; 0 for none.
    #[serde(default)]
    pub speakers: i64,
    /// Features F of a frame of the local condition; 0 for none.
    #[serde(default)]
    pub features: i64,
    /// Samples that a frame describes; 0 without a local condition.
    #[serde(default)]
    pub hop: i64,
    /// Channels C of the condition once it is upsampled.
    #[serde(default)]
    pub condition_channels: i64,
    /// Share of the features that training drops before each layer.
    #[serde(default)]
    pub dropout: f64,
}

impl WaveNetConfig {
    /// Samples that a prediction sees: `(k - 1) sum d + 1 + (k0 - 1)`.
    pub fn receptive_field(&self) -> i64 {
        (self.kernel_size - 1) * self.dilations.iter().sum::<i64>() + self.first_kernel_size
    }

    /// Numbers that the head gives for a sample: L, or 3 M.
    pub fn outputs(&self) -> i64 {
        match self.head {
            Head::Softmax => self.levels,
            Head::Logistics { mixtures } => 3 * mixtures,
        }
    }

    /// Numbers that a level becomes before the first layer: a vector of R for each of its taps, or itself.
    pub fn embedding(&self) -> i64 {
        match self.input {
            Input::OneHot => self.first_kernel_size * self.residual_channels,
            Input::Scalar => 1,
        }
    }

    /// Its parameters, before they are allocated; saturates.
    pub fn parameters(&self) -> i64 {
        let product =
            |factors: &[i64]| factors.iter().fold(1i64, |all, &it| all.saturating_mul(it));
        let sum = |terms: &[i64]| terms.iter().fold(0i64, |all, &it| all.saturating_add(it));
        let linear = |inputs: i64, outs: i64| sum(&[product(&[inputs, outs]), outs]);
        let (r, g) = (self.residual_channels, self.gate_channels);
        let layers = self.dilations.len() as i64;
        let enter = match self.input {
            Input::OneHot => product(&[self.levels, self.embedding()]),
            Input::Scalar => linear(self.first_kernel_size, r),
        };
        let (mut condition, mut upsampler) = (0, 0);
        if self.features > 0 {
            let c = self.condition_channels;
            condition = product(&[c, 2 * g]);
            upsampler = sum(&[linear(3 * self.features, c), product(&[c, 2 * self.hop])]);
        }
        let layer = sum(&[
            linear(product(&[self.kernel_size, r]), 2 * g),
            product(&[self.speakers, 2 * g]),
            condition,
        ]);
        sum(&[
            enter,
            upsampler,
            product(&[layers, layer]),
            product(&[layers - 1, linear(g, r)]),
            linear(product(&[layers, g]), self.skip_channels),
            linear(self.skip_channels, self.head_channels),
            linear(self.head_channels, self.outputs()),
        ])
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ensure = |holds: bool, field: &str, value: i64, rule: &str| {
            ConfigError::ensure(holds, field, value, rule)
        };
        ensure((2..=65_536).contains(&self.levels), "model.levels", self.levels, "2 to 65536")?;
        let small = self.input == Input::Scalar || self.levels <= 4096;
        ensure(small, "model.levels", self.levels, "at most 4096 for a one_hot input")?;
        let one_number_each = self.head != Head::Softmax || self.levels <= 4096;
        ensure(one_number_each, "model.levels", self.levels, "at most 4096 for a softmax")?;
        for (field, size) in [
            ("model.first_kernel_size", self.first_kernel_size),
            ("model.kernel_size", self.kernel_size),
        ] {
            ensure((1..=1024).contains(&size), field, size, "1 to 1024")?;
        }
        let count = self.dilations.len() as i64;
        ensure((1..=512).contains(&count), "model.dilations", count, "1 to 512 layers")?;
        for &dilation in &self.dilations {
            ensure((1..=1 << 20).contains(&dilation), "model.dilations", dilation, "1 to 1048576")?;
        }
        let field = self.receptive_field();
        let rule = "a receptive field of at most 16777216 samples";
        ensure(field <= 1 << 24, "model.dilations", field, rule)?;
        for (field, channels) in [
            ("model.residual_channels", self.residual_channels),
            ("model.gate_channels", self.gate_channels),
            ("model.skip_channels", self.skip_channels),
            ("model.head_channels", self.head_channels),
        ] {
            ensure((1..=8192).contains(&channels), field, channels, "1 to 8192")?;
        }
        if let Head::Logistics { mixtures } = self.head {
            ensure((1..=256).contains(&mixtures), "model.head.mixtures", mixtures, "1 to 256")?;
        }
        ensure(
            (0..=65_536).contains(&self.speakers),
            "model.speakers",
            self.speakers,
            "0 to 65536",
        )?;
        ensure((0..=4096).contains(&self.features), "model.features", self.features, "0 to 4096")?;
        if self.features > 0 {
            ensure((1..=65_536).contains(&self.hop), "model.hop", self.hop, "1 to 65536")?;
            let channels = self.condition_channels;
            ensure(
                (1..=8192).contains(&channels),
                "model.condition_channels",
                channels,
                "1 to 8192",
            )?;
        }
        let dropout = self.dropout;
        ConfigError::ensure(
            (0. ..1.).contains(&dropout),
            "model.dropout",
            dropout,
            "at least 0 and below 1",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(
        kernel_size: i64,
        first_kernel_size: i64,
        stacks: usize,
        longest: u32,
    ) -> WaveNetConfig {
        let stack = (0..longest).map(|i| 1 << i);
        WaveNetConfig {
            sample_rate: 16_000,
            levels: 256,
            input: Input::OneHot,
            head: Head::Softmax,
            first_kernel_size,
            kernel_size,
            dilations: (0..stacks).flat_map(|_| stack.clone()).collect(),
            residual_channels: 64,
            gate_channels: 64,
            skip_channels: 256,
            head_channels: 256,
            speakers: 0,
            features: 0,
            hop: 0,
            condition_channels: 0,
            dropout: 0.,
        }
    }

    #[test]
    fn receptive_fields_are_the_published_ones() {
        assert_eq!(config(2, 1, 1, 10).receptive_field(), 1024); // the paper's block
        assert_eq!(config(2, 1, 3, 10).receptive_field(), 3070);
        assert_eq!(config(2, 2, 5, 10).receptive_field(), 5117); // ibab/tensorflow-wavenet
        assert_eq!(config(3, 1, 4, 6).receptive_field(), 505); // r9y9/wavenet_vocoder
    }

    #[test]
    fn bad_numbers_are_named() {
        let good = config(2, 1, 1, 3);
        assert!(good.validate().is_ok());
        for (bad, field) in [
            (WaveNetConfig { levels: 65_536, ..good.clone() }, "model.levels"),
            (WaveNetConfig { dilations: vec![], ..good.clone() }, "model.dilations"),
            (WaveNetConfig { dilations: vec![0], ..good.clone() }, "model.dilations"),
            (WaveNetConfig { features: 3, ..good.clone() }, "model.hop"),
            (WaveNetConfig { dropout: 1., ..good.clone() }, "model.dropout"),
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
