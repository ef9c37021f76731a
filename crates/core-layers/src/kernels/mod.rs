//! Native code behind safe functions: libtorch's own C++ where tch does not reach it, and the exact engine.
//!
//! This is one of the three modules with `unsafe`; each block says why it is sound.

pub mod bf16;
pub mod decode;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod decoder;
pub mod exact;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod ffi;
pub mod nade;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod norm;
