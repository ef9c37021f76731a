//! What a run can be told about its sound.

use clap::{Args, ValueEnum};
use core_layers::ConfigError;
use serde::{Deserialize, Serialize};

use super::{Encoding, Quantizer};

/// What a model is told about a clip besides its speaker, frame by frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The transcript, its characters spread evenly over the clip.
    Characters,
    /// The clip's own log-mel spectrogram: the model becomes a vocoder.
    Mel,
    /// Features from an .npy file beside each WAV file.
    Npy,
}

/// The sound of a run.
///
/// Every flag takes a value, so that a flag left out keeps what a preset says.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// voice, speech, noise, harmonic or a folder of WAV files (its sub-folders are speakers).
    #[arg(long, value_name = "NAME|PATH")]
    pub data: String,
    /// Samples per second, Hz; 0 is 8000, or for a folder the rate of its first file by name.
    #[arg(long)]
    pub sample_rate: u32,
    /// How samples become levels.
    #[arg(long, value_enum)]
    pub encoding: Encoding,
    /// Levels of a sample; 0 is 256 for mu-law and 65536 for linear.
    #[arg(long)]
    pub levels: u32,
    /// Names of the speakers to keep, with commas between them; all of them when empty.
    #[arg(long, value_name = "NAMES")]
    pub speakers: String,
    /// Silence at either end is what lies so many dB below the clip's loudest 10 ms; 50 ms of it stay; 0 trims nothing.
    #[arg(long)]
    pub trim_db: f64,
    /// Shorter clips are left out, seconds after trimming.
    #[arg(long)]
    pub min_seconds: f64,
    /// Longer clips are left out, seconds after trimming; 0 keeps them.
    #[arg(long)]
    pub max_seconds: f64,
    /// Only the first clips of each split; 0 takes all.
    #[arg(long)]
    pub limit: usize,
    /// What the model is told about a clip, frame by frame.
    #[arg(long, value_enum)]
    pub condition: Condition,
    /// Samples per frame of the condition; 0 is 10 ms, but for npy it must be given.
    #[arg(long)]
    pub hop: u32,
    /// Bands of a mel spectrogram.
    #[arg(long)]
    pub mel_bands: u32,
    /// Samples of a training window whose predictions count, about; what they see comes on top.
    #[arg(long)]
    pub window: u32,
}

impl Default for DataConfig {
    /// The embedded voices in 256 levels of mu-law, silence trimmed.
    fn default() -> Self {
        Self {
            data: "voice".into(),
            sample_rate: 0,
            encoding: Encoding::MuLaw,
            levels: 0,
            speakers: String::new(),
            trim_db: 40.0,
            min_seconds: 0.25,
            max_seconds: 0.0,
            limit: 0,
            condition: Condition::None,
            hop: 0,
            mel_bands: 40,
            window: 8192,
        }
    }
}

impl DataConfig {
    /// Rates that can be asked for, Hz.
    pub const RATES: std::ops::RangeInclusive<u32> = 1000..=192_000;
    /// Most samples per frame of a condition.
    pub const MAX_HOP: u32 = 65_536;

    /// Checks what can be known before the sound is read.
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
        let rate = self.sample_rate;
        let rate_fits = rate == 0 || Self::RATES.contains(&rate);
        ConfigError::ensure(rate_fits, "data.sample_rate", rate, "0 or 1000..=192000")?;
        match self.encoding {
            Encoding::MuLaw => {
                let fits = self.levels == 0 || (2..=65_536).contains(&self.levels);
                ConfigError::ensure(fits, "data.levels", self.levels, "0 or 2..=65536")?;
            }
            Encoding::Linear => {
                let fits = self.levels == 0
                    || (2..=65_536).contains(&self.levels) && self.levels.is_power_of_two();
                let rule = "0 or a power of two of 2..=65536 where data.encoding is linear";
                ConfigError::ensure(fits, "data.levels", self.levels, rule)?;
            }
        }
        let db = self.trim_db;
        ConfigError::ensure((0.0..=120.0).contains(&db), "data.trim_db", db, "0..=120")?;
        for (name, seconds) in
            [("data.min_seconds", self.min_seconds), ("data.max_seconds", self.max_seconds)]
        {
            ConfigError::ensure((0.0..=86_400.0).contains(&seconds), name, seconds, "0..=86400")?;
        }
        let ordered = self.max_seconds == 0.0 || self.max_seconds >= self.min_seconds;
        ConfigError::ensure(
            ordered,
            "data.max_seconds",
            self.max_seconds,
            "0 or at least data.min_seconds",
        )?;
        let hop_fits = self.hop <= Self::MAX_HOP;
        ConfigError::ensure(hop_fits, "data.hop", self.hop, &format!("0..={}", Self::MAX_HOP))?;
        let hop_known = self.condition != Condition::Npy || self.hop > 0;
        ConfigError::ensure(
            hop_known,
            "data.hop",
            self.hop,
            "at least 1 where data.condition is npy",
        )?;
        ConfigError::at_least_one("data.window", self.window.into())?;
        ConfigError::ensure(
            (1..=256).contains(&self.mel_bands),
            "data.mel_bands",
            self.mel_bands,
            "1..=256",
        )
    }

    /// How samples become levels.
    pub fn quantizer(&self) -> Quantizer {
        Quantizer::new(self.encoding, self.levels)
    }

    /// The speakers that are kept, in the order given; none means all.
    pub(super) fn speaker_names(&self) -> Vec<&str> {
        self.speakers.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
    }

    /// Samples per frame at a rate; 0 where there is no condition.
    pub(super) fn hop_at(&self, sample_rate: u32) -> usize {
        match (self.condition, self.hop) {
            (Condition::None, _) => 0,
            (_, 0) => (sample_rate / 100) as usize,
            (_, hop) => hop as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};
    use core_layers::overrides::Overrides;

    use super::*;

    #[test]
    fn flags_left_out_keep_the_preset() -> anyhow::Result<()> {
        let preset = DataConfig { trim_db: 30.0, hop: 64, ..DataConfig::default() };
        let command = Overrides::<DataConfig>::augment_args(Command::new("x"));
        let flags = ["x", "--encoding", "linear", "--condition", "mel"];
        let given: Overrides<DataConfig> =
            clap::FromArgMatches::from_arg_matches(&command.get_matches_from(flags))?;
        let config = given.apply(preset.clone())?;
        let wanted = DataConfig { encoding: Encoding::Linear, condition: Condition::Mel, ..preset };
        assert_eq!(config, wanted);
        Ok(())
    }

    #[test]
    fn a_wrong_field_is_named_with_its_rule() {
        let refusal = |config: DataConfig| config.validate().unwrap_err().to_string();
        let plain = DataConfig::default;
        assert!(plain().validate().is_ok());
        assert_eq!(
            refusal(DataConfig { levels: 1, ..plain() }),
            "data.levels is 1, but must be 0 or 2..=65536"
        );
        let odd = DataConfig { encoding: Encoding::Linear, levels: 100, ..plain() };
        assert!(refusal(odd).contains("a power of two"));
        assert!(refusal(DataConfig { trim_db: f64::NAN, ..plain() }).starts_with("data.trim_db"));
        let crossed = DataConfig { min_seconds: 2.0, max_seconds: 1.0, ..plain() };
        assert!(refusal(crossed).starts_with("data.max_seconds is 1"));
        let no_hop = DataConfig { condition: Condition::Npy, ..plain() };
        assert!(refusal(no_hop).starts_with("data.hop is 0"));
        assert!(serde_json::from_str::<DataConfig>(r#"{"sample_rates": 8000}"#).is_err());
    }

    #[test]
    fn a_configuration_survives_a_file() -> anyhow::Result<()> {
        let config =
            DataConfig { speakers: "a, b".into(), trim_db: 0.1 + 0.2, ..DataConfig::default() };
        let text = serde_json::to_string(&config)?;
        assert!(text.contains(r#""encoding":"mu-law""#), "{text}");
        assert_eq!(serde_json::from_str::<DataConfig>(&text)?, config);
        assert_eq!(config.speaker_names(), ["a", "b"]);
        Ok(())
    }
}
