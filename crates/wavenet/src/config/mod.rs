//! Everything a run of this crate can be told.

mod model;

pub use model::{Head, Input, WaveNetConfig};
