//! What writing can be told.

use std::{collections::BTreeSet, fmt, str::FromStr};

use clap::Args;
use core_layers::{ConfigError, sampling::SamplingConfig};
use serde::{Deserialize, Serialize};

/// How text is drawn from a model, and when it ends.
///
/// Each step: logit bias, repetition, presence and frequency penalties, temperature, top-k, top-p, min-p, one draw.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// Tokens to write at the most.
    #[arg(long, default_value_t = 256)]
    pub max_tokens: usize,
    /// Divides the logits: 1 draws from the model, 0 takes the likeliest token.
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// Only the K likeliest tokens (0: all).
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Only the likeliest tokens that together reach probability P, the one that reaches it included (1: all).
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Only tokens at least this share as probable as the likeliest (0: all).
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub min_p: f64,
    /// Divides positive logits, and multiplies negative ones, of tokens that the prompt or the text holds (1: none).
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Taken off the logits of tokens that the text holds, the prompt aside.
    #[arg(long, value_name = "NATS", default_value_t = 0.0)]
    pub presence_penalty: f64,
    /// Taken off the logits of tokens as often as the text holds them, the prompt aside.
    #[arg(long, value_name = "NATS", default_value_t = 0.0)]
    pub frequency_penalty: f64,
    /// Added to the logit of a token, by its number; -100 in effect forbids it. May be given several times.
    #[arg(long, value_name = "TOKEN=BIAS")]
    pub logit_bias: Vec<LogitBias>,
    /// Text that ends the writing and is not part of it. May be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Seed; one gives the same text alone and in a batch.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Texts to write for a prompt.
    #[arg(long, default_value_t = 1)]
    pub count: usize,
    /// Log-probabilities, of the model itself, of every token written and of the K likeliest in its place.
    #[arg(long, value_name = "K")]
    pub logprobs: Option<usize>,
    /// Go on after tokens that end a text.
    #[arg(long)]
    pub ignore_eos: bool,
}

impl Default for GenerationConfig {
    /// One text from the model's own distribution.
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 1.,
            top_k: 0,
            top_p: 1.,
            min_p: 0.,
            repetition_penalty: 1.,
            presence_penalty: 0.,
            frequency_penalty: 0.,
            logit_bias: Vec::new(),
            stop: Vec::new(),
            seed: 0,
            count: 1,
            logprobs: None,
            ignore_eos: false,
        }
    }
}

/// What is added to the logit of one token; as text `TOKEN=BIAS`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogitBias {
    /// The token's number.
    pub token: u32,
    /// What is added.
    pub bias: f64,
}

impl FromStr for LogitBias {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let read = |(token, bias): (&str, &str)| {
            Some(Self { token: token.trim().parse().ok()?, bias: bias.trim().parse().ok()? })
        };
        let rule = "TOKEN=BIAS, a token's number and what is added to its logit";
        text.split_once('=')
            .and_then(read)
            .ok_or_else(|| ConfigError::new("logit_bias", text, rule))
    }
}

impl fmt::Display for LogitBias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.token, self.bias)
    }
}

impl GenerationConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::ensure(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")?;
        self.sampling().validate()?;
        let factor = self.repetition_penalty;
        let divides = factor > 0. && factor.is_finite();
        ConfigError::ensure(divides, "repetition_penalty", factor, "a positive number")?;
        for (field, nats) in [
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ] {
            ConfigError::ensure(
                (-100. ..=100.).contains(&nats),
                field,
                nats,
                "between -100 and 100",
            )?;
        }
        let mut biased = BTreeSet::new();
        for it in &self.logit_bias {
            let fits = (-100. ..=100.).contains(&it.bias);
            ConfigError::ensure(
                fits,
                "logit_bias",
                it,
                "TOKEN=BIAS with a bias between -100 and 100",
            )?;
            ConfigError::ensure(
                biased.insert(it.token),
                "logit_bias",
                it,
                "given once for a token",
            )?;
        }
        let all_end = self.stop.iter().all(|it| !it.is_empty());
        ConfigError::ensure(all_end, "stop", "empty", "a text of at least one character")?;
        ConfigError::ensure(
            (1..=1024).contains(&self.count),
            "count",
            self.count,
            "between 1 and 1024",
        )?;
        let differ = self.count == 1 || self.temperature > 0.;
        ConfigError::ensure(
            differ,
            "count",
            self.count,
            "1 at temperature 0, where all would be the same",
        )
    }

    /// Checks what depends on the number of tokens V of a model.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate_for(&self, vocabulary: usize) -> Result<(), ConfigError> {
        self.validate()?;
        let rule = format!("at most {vocabulary}, the tokens of the model");
        ConfigError::ensure(self.top_k <= vocabulary, "top_k", self.top_k, &rule)?;
        let likeliest = self.logprobs.unwrap_or(0);
        ConfigError::ensure(likeliest <= vocabulary, "logprobs", likeliest, &rule)?;
        self.logit_bias.iter().try_for_each(|it| {
            let rule = format!("of a token below {vocabulary}");
            ConfigError::ensure((it.token as usize) < vocabulary, "logit_bias", it, &rule)
        })
    }

    /// What is asked of a distribution once the logits are penalised.
    pub const fn sampling(&self) -> SamplingConfig {
        SamplingConfig {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        config: GenerationConfig,
    }

    fn parsed(flags: &str) -> GenerationConfig {
        let flags = std::iter::once("x").chain(flags.split_whitespace());
        Cli::try_parse_from(flags).unwrap().config
    }

    #[test]
    fn flags_file_and_default_are_one_configuration() {
        assert_eq!(parsed(""), GenerationConfig::default());
        assert_eq!(
            serde_json::from_str::<GenerationConfig>("{}").unwrap(),
            GenerationConfig::default()
        );
        let given = parsed("--top-k 40 --logit-bias 5=-1.5 --logit-bias 7=2 --stop a --logprobs 3");
        assert_eq!(given.logit_bias[0], LogitBias { token: 5, bias: -1.5 });
        let text = serde_json::to_string(&given).unwrap();
        assert_eq!(serde_json::from_str::<GenerationConfig>(&text).unwrap(), given);
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let error = serde_json::from_str::<GenerationConfig>(r#"{"top_n": 3}"#).unwrap_err();
        assert!(error.to_string().contains("top_n"), "{error}");
        assert!(Cli::try_parse_from(["x", "--top-n", "3"]).is_err());
        assert!(Cli::try_parse_from(["x", "--logit-bias", "cat"]).is_err());
    }

    #[test]
    fn an_impossible_setting_is_refused_by_name() {
        let plain = GenerationConfig::default();
        let bias = |token, bias| LogitBias { token, bias };
        let cases = [
            ("max_tokens", GenerationConfig { max_tokens: 0, ..plain.clone() }),
            ("temperature", GenerationConfig { temperature: -1., ..plain.clone() }),
            ("temperature", GenerationConfig { temperature: f64::NAN, ..plain.clone() }),
            ("top_k", GenerationConfig { top_k: 11, ..plain.clone() }),
            ("top_p", GenerationConfig { top_p: 0., ..plain.clone() }),
            ("min_p", GenerationConfig { min_p: 1.5, ..plain.clone() }),
            ("repetition_penalty", GenerationConfig { repetition_penalty: 0., ..plain.clone() }),
            ("presence_penalty", GenerationConfig { presence_penalty: f64::NAN, ..plain.clone() }),
            ("frequency_penalty", GenerationConfig { frequency_penalty: 101., ..plain.clone() }),
            ("logit_bias", GenerationConfig { logit_bias: vec![bias(10, 1.)], ..plain.clone() }),
            ("logit_bias", GenerationConfig { logit_bias: vec![bias(1, 101.)], ..plain.clone() }),
            ("logit_bias", GenerationConfig { logit_bias: vec![bias(1, 1.); 2], ..plain.clone() }),
            ("stop", GenerationConfig { stop: vec![String::new()], ..plain.clone() }),
            ("count", GenerationConfig { count: 0, ..plain.clone() }),
            ("count", GenerationConfig { count: 2, temperature: 0., ..plain.clone() }),
            ("logprobs", GenerationConfig { logprobs: Some(11), ..plain.clone() }),
        ];
        for (field, config) in cases {
            let line = config.validate_for(10).unwrap_err().to_string();
            assert!(line.starts_with(&format!("{field} is ")), "{line}");
        }
        assert_eq!(plain.validate_for(10), Ok(()));
    }
}
