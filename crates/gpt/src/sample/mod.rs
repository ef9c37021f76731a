//! Reading and writing text: sessions over a decoder, and what draws from them.

pub mod codec;
pub mod exact;
mod session;
mod torch;

pub use exact::ExactEngine;
pub use session::{Decode, Session};
pub use torch::TorchEngine;
