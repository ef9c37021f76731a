//! The frequencies of rotary positions.

use std::f64::consts::TAU;

use core_layers::kernels::exact::rotary_frequencies;

use super::{DecoderConfig, Positions, Scaling};

impl DecoderConfig {
    /// How fast each pair of a head's channels turns, radians a position, the fastest first: `theta^(-2 i / E)`, scaled.
    /// None where positions are learnt. Of defined bits: the same on every machine.
    pub fn frequencies(&self) -> Option<Vec<f64>> {
        let Positions::Rope { theta, scaling } = self.positions else { return None };
        let frequencies = rotary_frequencies(theta, self.d_head as usize);
        Some(frequencies.into_iter().map(|frequency| scaling.of(frequency)).collect())
    }
}

impl Scaling {
    /// A frequency, scaled.
    pub(crate) fn of(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                let turns = original_context as f64 * frequency / TAU; // within the old context
                let kept = ((turns - low) / (high - low)).clamp(0., 1.);
                frequency * (kept + (1. - kept) / factor)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_scaling_divides_every_frequency() {
        assert_eq!(Scaling::Linear { factor: 4. }.of(0.5), 0.125);
        assert_eq!(Scaling::None.of(0.5), 0.5);
    }

    #[test]
    fn llama3_keeps_fast_frequencies_divides_slow_ones_and_blends_between() {
        let scaling = Scaling::Llama3 {
            factor: 8.,
            low_frequency_factor: 1.,
            high_frequency_factor: 4.,
            original_context: 8192,
        };
        let of_turns = |turns: f64| turns * TAU / 8192.;
        let ratio = |turns: f64| scaling.of(of_turns(turns)) / of_turns(turns);
        for (turns, wanted) in [(1000., 1.), (4., 1.), (1., 0.125), (0.01, 0.125)] {
            assert!((ratio(turns) - wanted).abs() < 1e-12, "{turns}");
        }
        // halfway between 1 and 4 turns: half kept, half divided
        assert!((ratio(2.5) - 0.5 * (1. + 0.125)).abs() < 1e-12);
    }
}
