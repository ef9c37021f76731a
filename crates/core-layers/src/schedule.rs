//! The learning rate as a function of the step.

use std::{f64::consts::PI, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// A linear rise to the peak, then a [`Decay`].
///
/// At step `s` of `n` (the first is 1) with warm-up `w`, the rate is `peak * s / w` for `s <= w`, and
/// `peak * decay(s - w, n - w)` after. Steps beyond `n` keep the last rate.
///
/// ```
/// use core_layers::schedule::{Decay, Schedule};
/// let schedule = Schedule { warmup_steps: 100, decay: Decay::Cosine { floor: 0.1 } };
/// assert_eq!(schedule.rate(50, 1000, 1e-3), 0.5e-3);
/// assert!((schedule.rate(1000, 1000, 1e-3) - 0.1e-3).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Steps of the rise; 0 starts at the peak.
    pub warmup_steps: u64,
    /// What follows the rise.
    pub decay: Decay,
}

/// How the rate falls from the peak: a factor for step `s` of the `n` that follow the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Decay {
    /// `1`.
    #[default]
    Constant,
    /// `floor + (1 - floor) (1 + cos(pi s / n)) / 2` (Loshchilov and Hutter, "SGDR", 2017, equation 5,
    /// <https://arxiv.org/abs/1608.03983>).
    Cosine {
        /// The last rate, as a fraction of the peak.
        floor: f64,
    },
    /// `1 - (1 - floor) s / n`.
    Linear {
        /// The last rate, as a fraction of the peak.
        floor: f64,
    },
    /// `factor^s`.
    Exponential {
        /// What each step multiplies the rate by.
        factor: f64,
    },
    /// Warm-up, stable, decay: `1`, and over the last `fraction` of all `n` steps linearly down to 0, `(n - s) / (fraction n)`
    /// (Hu et al., 2024, section 4, <https://arxiv.org/abs/2404.06395>).
    Wsd {
        /// The part of the steps that decays.
        fraction: f64,
    },
}

impl Schedule {
    /// The learning rate of step `step`, 1 to `num_steps`, when the greatest is `peak`.
    pub fn rate(&self, step: u64, num_steps: u64, peak: f64) -> f64 {
        if step < self.warmup_steps {
            return peak * step as f64 / self.warmup_steps as f64;
        }
        let last = num_steps.saturating_sub(self.warmup_steps);
        peak * self.decay.factor((step - self.warmup_steps).min(last), last)
    }

    /// Refuses a decay with a number outside its range.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] that names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (field, value, zero_is_fine) = match self.decay {
            Decay::Constant => return Ok(()),
            Decay::Cosine { floor } | Decay::Linear { floor } => {
                ("schedule.decay.floor", floor, true)
            }
            Decay::Exponential { factor } => ("schedule.decay.factor", factor, false),
            Decay::Wsd { fraction } => ("schedule.decay.fraction", fraction, false),
        };
        let holds = value <= 1.0 && (value > 0.0 || (zero_is_fine && value == 0.0));
        let rule = if zero_is_fine { "from 0 to 1" } else { "above 0 and at most 1" };
        ConfigError::ensure(holds, field, value, rule)
    }
}

impl Decay {
    fn factor(self, step: u64, num_steps: u64) -> f64 {
        let part = if num_steps == 0 { 1.0 } else { step as f64 / num_steps as f64 };
        match self {
            Self::Constant => 1.0,
            Self::Cosine { floor } => floor + (1.0 - floor) * (1.0 + (PI * part).cos()) / 2.0,
            Self::Linear { floor } => 1.0 - (1.0 - floor) * part,
            Self::Exponential { factor } => factor.powf(step as f64),
            Self::Wsd { fraction } => ((1.0 - part) / fraction).min(1.0),
        }
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Cosine { floor } => write!(f, "cosine:{floor}"),
            Self::Linear { floor } => write!(f, "linear:{floor}"),
            Self::Exponential { factor } => write!(f, "exponential:{factor}"),
            Self::Wsd { fraction } => write!(f, "wsd:{fraction}"),
        }
    }
}

impl FromStr for Decay {
    type Err = ConfigError;

    /// `constant`, `cosine[:floor]`, `linear[:floor]`, `exponential:factor`, `wsd[:fraction]`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (kind, number) = text.split_once(':').map_or((text, None), |(kind, x)| (kind, Some(x)));
        let number = number.map(str::parse::<f64>).transpose();
        match (kind, number) {
            ("constant", Ok(None)) => Ok(Self::Constant),
            ("cosine", Ok(floor)) => Ok(Self::Cosine { floor: floor.unwrap_or(0.0) }),
            ("linear", Ok(floor)) => Ok(Self::Linear { floor: floor.unwrap_or(0.0) }),
            ("exponential", Ok(Some(factor))) => Ok(Self::Exponential { factor }),
            ("wsd", Ok(fraction)) => Ok(Self::Wsd { fraction: fraction.unwrap_or(0.2) }),
            _ => Err(ConfigError::new(
                "decay",
                text,
                "constant, cosine[:floor], linear[:floor], exponential:factor or wsd[:fraction]",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates<const N: usize>(warmup_steps: u64, decay: Decay, steps: [u64; N]) -> [String; N] {
        let schedule = Schedule { warmup_steps, decay };
        steps.map(|step| format!("{:.6}", schedule.rate(step, 110, 2.0)))
    }

    #[test]
    fn the_rate_rises_to_the_peak_and_falls_to_its_end_point() {
        for (decay, end) in [
            (Decay::Constant, "2.000000"),
            (Decay::Cosine { floor: 0.0 }, "0.000000"),
            (Decay::Cosine { floor: 0.25 }, "0.500000"),
            (Decay::Linear { floor: 0.25 }, "0.500000"),
            (Decay::Exponential { factor: 0.99 }, "0.732065"), // 2 * 0.99^100
            (Decay::Wsd { fraction: 0.2 }, "0.000000"),
        ] {
            let expected = ["0.200000", "1.000000", "2.000000", end, end];
            assert_eq!(rates(10, decay, [1, 5, 10, 110, 500]), expected, "{decay}");
        }
    }

    #[test]
    fn half_way_the_cosine_is_half_and_the_plateau_still_holds() {
        assert_eq!(rates(10, Decay::Cosine { floor: 0.0 }, [60]), ["1.000000"]);
        assert_eq!(rates(10, Decay::Linear { floor: 0.0 }, [35, 60]), ["1.500000", "1.000000"]);
        assert_eq!(
            rates(10, Decay::Wsd { fraction: 0.2 }, [60, 90, 100]),
            ["2.000000", "2.000000", "1.000000"]
        );
    }

    #[test]
    fn every_rate_is_finite_whatever_the_counts() {
        for decay in ["constant", "cosine", "linear", "exponential:0.9", "wsd"] {
            let schedule = Schedule { warmup_steps: 7, decay: decay.parse().unwrap() };
            for (step, num_steps) in [(0, 0), (1, 1), (7, 7), (8, 3), (9, 0)] {
                assert!(
                    schedule.rate(step, num_steps, 1.0).is_finite(),
                    "{decay} {step} {num_steps}"
                );
            }
        }
    }

    #[test]
    fn schedules_read_back_what_they_print() {
        for text in ["constant", "cosine:0.1", "linear:0.1", "exponential:0.999", "wsd:0.2"] {
            let decay: Decay = text.parse().unwrap();
            assert_eq!(decay.to_string(), text);
            let json = serde_json::to_string(&Schedule { warmup_steps: 3, decay }).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap().decay, decay, "{json}");
        }
        assert_eq!("cosine".parse(), Ok(Decay::Cosine { floor: 0.0 }));
        for wrong in ["step", "exponential", "linear:x", "cosine:x", "constant:1"] {
            assert!(wrong.parse::<Decay>().is_err(), "{wrong}");
        }
        let unknown = r#"{"decay":{"kind":"cosine","floor":0.1,"roof":1}}"#;
        assert!(serde_json::from_str::<Schedule>(unknown).is_err());
    }

    #[test]
    fn numbers_outside_their_range_are_refused_by_name() {
        let refusal =
            |decay| Schedule { warmup_steps: 0, decay }.validate().unwrap_err().to_string();
        assert_eq!(Schedule::default().validate(), Ok(()));
        assert!(refusal(Decay::Cosine { floor: 1.5 }).starts_with("schedule.decay.floor is 1.5"));
        assert!(refusal(Decay::Exponential { factor: 0.0 }).contains("above 0"));
        assert!(refusal(Decay::Wsd { fraction: f64::NAN }).contains("NaN"));
    }
}
