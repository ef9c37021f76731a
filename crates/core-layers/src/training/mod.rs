//! What a training loop is made of; the loop itself is written out in each model crate.

mod config;

pub use config::TrainConfig;
