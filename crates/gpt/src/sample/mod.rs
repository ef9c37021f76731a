//! Reading and writing text: sessions over a decoder, and what draws from them.
//!
//! A [`Writer`] reads prompts and writes texts over any engine. A step of writing: the model's logits, [`Penalties`],
//! [`Filters`], one draw from the [`Distribution`] that they leave; [`Explanation`] is the slow definition of that. A
//! [`Stream`] makes text of tokens, a [`Draft`] makes it faster. Three engines stand behind [`Decode`]: [`TorchEngine`] in
//! libtorch operations on any device, [`FusedEngine`] on packed weights, [`ExactEngine`] of defined bits, the codec's.

pub mod codec;
mod config;
mod distribution;
mod engine;
pub mod exact;
mod explain;
mod filters;
pub mod fused;
mod generate;
mod memory;
mod penalties;
mod ranking;
mod row;
mod session;
mod speculative;
mod stream;
#[cfg(test)]
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod torch;

pub use config::{GenerationConfig, LogitBias};
pub use distribution::Distribution;
pub use engine::{EngineChoice, EngineOptions, engine};
pub use exact::ExactEngine;
pub use explain::{Explanation, Stage};
pub use filters::Filters;
pub use fused::{FusedEngine, FusedOptions};
pub use generate::{Pace, Writer, Written};
pub use memory::Memory;
pub use penalties::Penalties;
pub use row::{Event, Finish, Listener, Logprob, Text};
pub use session::{Decode, Session};
pub use speculative::{Draft, Drafted};
pub use stream::Stream;
pub use torch::TorchEngine;
