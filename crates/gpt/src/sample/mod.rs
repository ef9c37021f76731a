//! Reading and writing text: sessions over a decoder, and what draws from them.

pub mod fused;
mod session;

pub use fused::{FusedEngine, FusedOptions};
pub use session::{Decode, Session};
