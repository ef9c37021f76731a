//! The images that a network models.

use core_layers::ConfigError;
use serde::{Deserialize, Serialize};

use super::model::bounded;

/// What an image is: its shape, its levels, how they are read and predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Rows H.
    pub height: i64,
    /// Columns W.
    pub width: i64,
    /// Colours: 1, or 3 for red, green and blue, conditioned in turn; for codes, how many stand at a place, up to 16.
    pub colours: i64,
    /// Levels L of a value.
    pub levels: i64,
    /// How levels enter the network.
    #[serde(default)]
    pub input: Input,
    /// How they are predicted.
    #[serde(default)]
    pub head: Head,
}

/// How levels enter the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Input {
    /// Grey levels: one number, 0 to L-1 spread over `[-1, 1]`.
    #[default]
    Ordinal,
    /// Codes without an order: a learnt vector each.
    Categorical {
        /// Numbers in the vector of a code.
        embedding: i64,
    },
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

impl ImageConfig {
    /// Grey images of ordinal levels, predicted by a softmax.
    pub const fn grey(height: i64, width: i64, levels: i64) -> Self {
        Self { height, width, colours: 1, levels, input: Input::Ordinal, head: Head::Softmax }
    }

    /// Positions N = H W C of an image.
    pub fn dims(&self) -> i64 {
        self.height * self.width * self.colours
    }

    /// Numbers that a value becomes before the first layer.
    pub fn features(&self) -> i64 {
        match self.input {
            Input::Ordinal => 1,
            Input::Categorical { embedding } => embedding,
        }
    }

    /// Numbers that the head gives for each value: L, or 3 M.
    pub fn outputs(&self) -> i64 {
        match self.head {
            Head::Softmax => self.levels,
            Head::Logistics { mixtures } => 3 * mixtures,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (field, side) in
            [("model.image.height", self.height), ("model.image.width", self.width)]
        {
            ConfigError::ensure((1..=4096).contains(&side), field, side, "1 to 4096")?;
        }
        let (fit, rule) = match self.input {
            Input::Ordinal => ([1, 3].contains(&self.colours), "1 or 3"),
            Input::Categorical { .. } => ((1..=16).contains(&self.colours), "1 to 16 for codes"),
        };
        ConfigError::ensure(fit, "model.image.colours", self.colours, rule)?;
        let levels_fit = (2..=65_536).contains(&self.levels);
        ConfigError::ensure(levels_fit, "model.image.levels", self.levels, "2 to 65536")?;
        if let Input::Categorical { embedding } = self.input {
            bounded("model.image.input.embedding", embedding)?;
        }
        if let Head::Logistics { mixtures } = self.head {
            bounded("model.image.head.mixtures", mixtures)?;
        }
        Ok(())
    }
}
