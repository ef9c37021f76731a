//! Reading and writing text: sessions over a decoder, and what draws from them.

mod session;

pub use session::{Decode, Session};
