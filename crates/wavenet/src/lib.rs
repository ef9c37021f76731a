//! WaveNet: raw sound, one sample at a time.
//!
//! `p(x) = prod_t p(x_t | x_<t, speaker, features)` over the samples of a clip.

pub mod cli;
pub mod config;
pub mod data;
pub mod evaluate;
pub mod model;
pub mod sample;
pub mod train;
pub mod trained;
