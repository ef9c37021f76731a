//! Samples to levels and back.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::mu_law;

/// How samples in -1..=1 become levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Steps that grow with the sample: mu-law.
    #[default]
    MuLaw,
    /// Steps of one size: level q of L stands for `2 q / L - 1`, so that 65,536 levels are the samples of 16 bits.
    Linear,
}

/// An encoding and its number of levels L: 2..=65536, for a linear one a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quantizer {
    encoding: Encoding,
    num_levels: u32,
}

impl Quantizer {
    /// The encoding with so many levels; 0 is its usual number, 256 for mu-law and 65,536 for linear.
    pub fn new(encoding: Encoding, levels: u32) -> Self {
        let usual = if encoding == Encoding::MuLaw { 256 } else { 65_536 };
        Self { encoding, num_levels: if levels == 0 { usual } else { levels } }
    }

    /// How samples become levels.
    pub fn encoding(self) -> Encoding {
        self.encoding
    }

    /// The number of levels L; each is `0..L`.
    pub fn num_levels(self) -> u32 {
        self.num_levels
    }

    /// The level of a sample of 0: L / 2 for both encodings.
    pub fn silence(self) -> u16 {
        (self.num_levels / 2) as u16
    }

    /// The level of a sample; what is beyond -1..=1 is clipped.
    pub fn encode(self, x: f32) -> u16 {
        match self.encoding {
            Encoding::MuLaw => mu_law::encode(x, self.num_levels),
            Encoding::Linear => {
                let half = f64::from(self.num_levels / 2);
                let level = (f64::from(x) * half + half + 0.5).floor();
                level.clamp(0.0, f64::from(self.num_levels - 1)) as u16
            }
        }
    }

    /// The sample that a level stands for.
    pub fn decode(self, level: u16) -> f32 {
        match self.encoding {
            Encoding::MuLaw => mu_law::decode(level, self.num_levels),
            Encoding::Linear => {
                let half = (self.num_levels / 2) as f32;
                (f32::from(level) - half) / half
            }
        }
    }

    /// The levels of samples.
    pub fn encode_all(self, samples: &[f32]) -> Vec<u16> {
        samples.iter().map(|&x| self.encode(x)).collect()
    }

    /// The samples that levels stand for.
    pub fn decode_all(self, levels: &[u16]) -> Vec<f32> {
        levels.iter().map(|&level| self.decode(level)).collect()
    }

    /// The same in words, for protocols.
    pub(super) fn words(self) -> String {
        let name = if self.encoding == Encoding::MuLaw { "mu-law" } else { "linear" };
        format!("{} levels, {name}", self.num_levels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_levels_survive_and_silence_is_exact() {
        for bits in [1, 2, 8, 12, 16] {
            let quantizer = Quantizer::new(Encoding::Linear, 1 << bits);
            let last = ((1u32 << bits) - 1) as u16;
            assert!(
                (0..=last).all(|level| quantizer.encode(quantizer.decode(level)) == level),
                "{bits} bits"
            );
            assert_eq!(quantizer.encode(0.0), quantizer.silence());
            assert_eq!(quantizer.decode(quantizer.silence()), 0.0);
            assert_eq!((quantizer.encode(-7.0), quantizer.encode(7.0)), (0, last));
        }
    }

    #[test]
    fn sixteen_bits_are_kept_as_they_are() {
        let quantizer = Quantizer::new(Encoding::Linear, 0);
        for x in i16::MIN..=i16::MAX {
            let level = quantizer.encode(f32::from(x) / 32_768.0);
            assert_eq!(i32::from(level), i32::from(x) + 32_768);
        }
    }

    #[test]
    fn the_usual_numbers_of_levels() {
        assert_eq!(Quantizer::new(Encoding::MuLaw, 0).num_levels(), 256);
        assert_eq!(Quantizer::new(Encoding::Linear, 0).num_levels(), 65_536);
        assert_eq!(Quantizer::new(Encoding::MuLaw, 0).silence(), 128);
        let odd = Quantizer::new(Encoding::MuLaw, 255);
        assert_eq!(odd.encode(0.0), odd.silence());
    }
}
