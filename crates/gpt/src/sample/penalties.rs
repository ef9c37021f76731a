//! What has been said already, and what that takes off the logits.

use std::collections::HashMap;

use super::GenerationConfig;

/// How often a text holds a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    anywhere: u32,
    written: u32, // the prompt aside
}

/// The tokens of one text, and what its logits are changed by before anything else, in this order:
///
/// 1. the bias of a token is added;
/// 2. of tokens that prompt or text hold, positive logits are divided by the repetition penalty and negative ones
///    multiplied (Keskar et al., "CTRL", 2019, section 4.1, <https://arxiv.org/abs/1909.05858>; the signs as in
///    Hugging Face's, where a penalty never makes a token likelier);
/// 3. of tokens that the text holds c > 0 times, `presence + c * frequency` is taken off.
#[derive(Debug, Clone, PartialEq)]
pub struct Penalties {
    repetition: f32,
    presence: f32,
    frequency: f32,
    bias: Vec<(u32, f32)>,
    counts: HashMap<u32, Counts>,
}

impl Penalties {
    /// Those of a text that is not begun, after `prompt`.
    pub fn new(config: &GenerationConfig, prompt: &[u32]) -> Self {
        let mut penalties = Self {
            repetition: config.repetition_penalty as f32,
            presence: config.presence_penalty as f32,
            frequency: config.frequency_penalty as f32,
            bias: config.logit_bias.iter().map(|it| (it.token, it.bias as f32)).collect(),
            counts: HashMap::new(),
        };
        if penalties.remembers() {
            for &token in prompt {
                penalties.counts.entry(token).or_default().anywhere += 1;
            }
        }
        penalties
    }

    /// Takes notice of a token that was written.
    pub fn push(&mut self, token: u32) {
        if self.remembers() {
            let counts = self.counts.entry(token).or_default();
            counts.anywhere += 1;
            counts.written += 1;
        }
    }

    /// Whether logits change at all.
    pub fn is_active(&self) -> bool {
        self.remembers() || !self.bias.is_empty()
    }

    /// Changes the logits of one position.
    pub fn apply(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        for (&token, counts) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            if *logit > 0. {
                *logit /= self.repetition;
            } else {
                *logit *= self.repetition;
            }
            if counts.written > 0 {
                *logit -= self.presence + self.frequency * counts.written as f32;
            }
        }
    }

    fn remembers(&self) -> bool {
        self.repetition != 1. || self.presence != 0. || self.frequency != 0.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::LogitBias;

    fn after(config: &GenerationConfig, prompt: &[u32], written: &[u32]) -> [f32; 4] {
        let mut penalties = Penalties::new(config, prompt);
        for &token in written {
            penalties.push(token);
        }
        let mut logits = [2., -2., 0.5, 1.];
        penalties.apply(&mut logits);
        logits
    }

    #[test]
    fn repetition_divides_positive_logits_and_multiplies_negative_ones() {
        let config = GenerationConfig { repetition_penalty: 2., ..Default::default() };
        assert_eq!(after(&config, &[0, 0, 0], &[1]), [1., -4., 0.5, 1.]);
    }

    #[test]
    fn presence_and_frequency_count_what_was_written_and_not_the_prompt() {
        let config = GenerationConfig { presence_penalty: 0.5, ..Default::default() };
        assert_eq!(after(&config, &[0], &[3, 3]), [2., -2., 0.5, 0.5]);
        let config = GenerationConfig { frequency_penalty: 0.5, ..Default::default() };
        assert_eq!(after(&config, &[0], &[3, 3]), [2., -2., 0.5, 0.]);
    }

    #[test]
    fn bias_comes_before_the_penalty() {
        let logit_bias = vec![LogitBias { token: 1, bias: 6. }];
        let config = GenerationConfig { repetition_penalty: 2., logit_bias, ..Default::default() };
        assert_eq!(after(&config, &[1], &[]), [2., 2., 0.5, 1.]);
    }

    #[test]
    fn nothing_changes_unless_something_was_asked_for() {
        let config = GenerationConfig::default();
        assert_eq!(after(&config, &[0, 1], &[2]), [2., -2., 0.5, 1.]);
        assert!(!Penalties::new(&config, &[0]).is_active());
    }
}
