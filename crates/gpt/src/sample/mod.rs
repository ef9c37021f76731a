//! Reading and writing text: sessions over a decoder, and what draws from them.

mod session;
mod torch;

pub use session::{Decode, Session};
pub use torch::TorchEngine;
