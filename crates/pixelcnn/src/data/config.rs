//! What a run can be told about its images.

use clap::{ArgAction, Args, ValueEnum};
use core_layers::ConfigError;
use serde::{Deserialize, Serialize};

/// How grey levels become two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binarize {
    /// They stay as they are.
    #[default]
    None,
    /// Level v of L becomes 1 where 2 v >= L - 1.
    Threshold,
    /// Level v of L becomes 1 with probability v / (L - 1): the training images anew each epoch, the others once.
    Dynamic,
}

/// The images of a run.
///
/// Every flag takes a value, so that a flag left out keeps what a preset says.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// digits, mnist, emoji, photos, noise, markov, ising, a folder of images or an .npy file.
    #[arg(long, value_name = "NAME|PATH")]
    pub data: String,
    /// Levels of a value; 0 keeps those of the source, fewer re-quantise it by floor(v * levels / source levels).
    #[arg(long)]
    pub levels: u32,
    /// How grey levels become two.
    #[arg(long, value_enum)]
    pub binarize: Binarize,
    /// Rows and columns of an image; 0 is the usual size of the source.
    #[arg(long)]
    pub side: u32,
    /// Whether colours become grey: --grey or --grey=false.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub grey: bool,
    /// Only the first images of each split; 0 takes all.
    #[arg(long)]
    pub limit: usize,
}

impl Default for DataConfig {
    /// The embedded 8 x 8 digits, all of them, as they are.
    fn default() -> Self {
        Self {
            data: "digits".into(),
            levels: 0,
            binarize: Binarize::None,
            side: 0,
            grey: false,
            limit: 0,
        }
    }
}

impl DataConfig {
    /// Most rows and columns of an image.
    pub const MAX_SIDE: u32 = 1024;

    /// Checks what can be known before the images are read.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::ensure(
            !self.data.is_empty(),
            "data.data",
            "empty",
            "the name of a set or a path",
        )?;
        let levels_fit = self.levels == 0 || (2..=65_536).contains(&self.levels);
        ConfigError::ensure(levels_fit, "data.levels", self.levels, "0 or 2..=65536")?;
        let side_fits = self.side <= Self::MAX_SIDE;
        ConfigError::ensure(side_fits, "data.side", self.side, &format!("0..={}", Self::MAX_SIDE))?;
        let one_way = self.binarize == Binarize::None || matches!(self.levels, 0 | 2);
        ConfigError::ensure(
            one_way,
            "data.levels",
            self.levels,
            "0 or 2 where data.binarize is not none",
        )
    }

    /// The side, or `usual` where it is 0.
    pub(super) fn side_or(&self, usual: u32) -> usize {
        (if self.side == 0 { usual } else { self.side }) as usize
    }

    /// Refuses a side other than the one that a source of a fixed size has.
    pub(super) fn ensure_side(&self, fixed: u32) -> Result<(), ConfigError> {
        let rule = format!("0 or {fixed} for {}", self.data);
        ConfigError::ensure(self.side == 0 || self.side == fixed, "data.side", self.side, &rule)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};
    use core_layers::overrides::Overrides;

    use super::*;

    fn overridden(flags: &[&str]) -> anyhow::Result<DataConfig> {
        let preset = DataConfig { grey: true, limit: 7, ..DataConfig::default() };
        let command = Overrides::<DataConfig>::augment_args(Command::new("x"));
        let given: Overrides<DataConfig> =
            clap::FromArgMatches::from_arg_matches(&command.get_matches_from(flags))?;
        Ok(given.apply(preset)?)
    }

    #[test]
    fn flags_left_out_keep_the_preset() -> anyhow::Result<()> {
        let config = overridden(&["x", "--binarize", "dynamic"])?;
        assert_eq!(config.binarize, Binarize::Dynamic);
        assert!(config.grey);
        assert_eq!(config.limit, 7);
        assert!(!overridden(&["x", "--grey=false"])?.grey);
        Ok(())
    }

    #[test]
    fn a_wrong_field_is_named_with_its_rule() {
        let refusal = |config: DataConfig| config.validate().unwrap_err().to_string();
        let levels = refusal(DataConfig { levels: 1, ..DataConfig::default() });
        assert_eq!(levels, "data.levels is 1, but must be 0 or 2..=65536");
        let both = refusal(DataConfig {
            levels: 4,
            binarize: Binarize::Threshold,
            ..DataConfig::default()
        });
        assert!(both.contains("data.binarize"), "{both}");
        assert!(serde_json::from_str::<DataConfig>(r#"{"date": "mnist"}"#).is_err());
    }

    #[test]
    fn missing_fields_of_a_file_are_the_defaults() -> anyhow::Result<()> {
        let config: DataConfig =
            serde_json::from_str(r#"{"data": "mnist", "binarize": "threshold"}"#)?;
        let wanted = DataConfig {
            data: "mnist".into(),
            binarize: Binarize::Threshold,
            ..DataConfig::default()
        };
        assert_eq!(config, wanted);
        Ok(())
    }
}
