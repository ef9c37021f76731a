//! The decoder in libtorch operations.

mod context;

pub use context::TextContext;
