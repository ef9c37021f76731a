//! What a decoder of text computes for each token: products with packed weights, norms, rotations, gates, attention over
//! kept keys and values; for one column of activations or many.
//!
//! Weights stay as they were delivered ([`Packed`]): integers are multiplied as integers, by activations that were
//! rounded to eight bits in groups ([`Inputs`]); plain numbers are multiplied as singles. Every output is one chain of
//! operations, so that a column's results do not depend on the columns beside it nor on the number of threads. AVX-512
//! (with VNNI), AVX2 and portable code give equal sums of integers and differ in the rounding of floats.
//!
//! Everything here is safe to call: lengths are checked once a call, and [`Workers`] exist only for a
//! [`Variant`](super::exact::Variant) that the processor has.
#![expect(
    unsafe_code,
    reason = "vector intrinsics, threads that share a slice, and loops whose bounds were checked before them"
)]
#![expect(
    clippy::inline_always,
    reason = "a body must end up inside the function that enables its instructions"
)]

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cache;
mod elementwise;
mod inputs;
mod lanes;
mod level;
mod linear;
mod memory;
mod packed;
mod pool;
mod portable;
mod read;
#[cfg(test)]
mod tests;
mod unpack;
mod workers;

pub use attention::{Heads, Span};
pub use cache::{Cache, Numbers};
pub use elementwise::{Kernel, Norm};
pub use inputs::Inputs;
pub use packed::Packed;
pub use workers::{Product, Workers};
