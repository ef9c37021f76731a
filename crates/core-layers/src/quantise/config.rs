//! How a quantiser is made and moved.

use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// A vector quantiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantiserConfig {
    /// Codes K of each codebook.
    pub codes: i64,
    /// Numbers D of a code.
    pub dim: i64,
    /// Codebooks G: a vector is cut into as many parts, each with codes of its own.
    pub codebooks: i64,
    /// Weight beta of the commitment.
    pub beta: f64,
    /// What moves the codes.
    pub update: CodebookUpdate,
    /// A code whose running count is below this share of an even one is put where a vector is; 0 never does.
    pub restart_below: f64,
}

/// What moves the codes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CodebookUpdate {
    /// Running means of the vectors that chose them (the paper's appendix A.1).
    Ema {
        /// Decay gamma of the means, a step.
        decay: f64,
    },
    /// A term of the loss (the paper's main text).
    Gradient,
}

impl Default for QuantiserConfig {
    /// 512 codes of 64 numbers, beta 0.25, gamma 0.99.
    fn default() -> Self {
        Self {
            codes: 512,
            dim: 64,
            codebooks: 1,
            beta: 0.25,
            update: CodebookUpdate::Ema { decay: 0.99 },
            restart_below: 0.03,
        }
    }
}

impl QuantiserConfig {
    /// Numbers of a vector: G D.
    pub fn width(&self) -> i64 {
        self.codebooks * self.dim
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let field = |name: &str| format!("model.quantiser.{name}");
        for (name, value, most) in [
            ("codes", self.codes, 65_536),
            ("dim", self.dim, 4096),
            ("codebooks", self.codebooks, 16),
        ] {
            let least = if name == "codes" { 2 } else { 1 };
            let rule = format!("{least} to {most}");
            ConfigError::ensure((least..=most).contains(&value), &field(name), value, &rule)?;
        }
        let positive = |x: f64| x >= 0. && x.is_finite();
        ConfigError::ensure(
            positive(self.beta),
            &field("beta"),
            self.beta,
            "0 or a positive number",
        )?;
        let share = self.restart_below;
        ConfigError::ensure(
            (0. ..1.).contains(&share),
            &field("restart_below"),
            share,
            "at least 0 and below 1",
        )?;
        if let CodebookUpdate::Ema { decay } = self.update {
            let rule = "at least 0 and below 1";
            ConfigError::ensure((0. ..1.).contains(&decay), &field("update.decay"), decay, rule)?;
        }
        Ok(())
    }
}
