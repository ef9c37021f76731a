//! Sound, from files or made on the fly, to clips of levels in three splits.
//! Letters: T samples, L levels, F frames of a condition.

mod config;
mod encoding;
pub mod mu_law;
mod trim;
pub mod wav;

pub use config::{Condition, DataConfig};
pub use encoding::{Encoding, Quantizer};
pub use wav::Sound;
