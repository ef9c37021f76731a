//! What a decoder of text computes for each token: products with packed weights, norms, rotations, gates, attention over
//! kept keys and values; for one column of activations or many.
//!
//! Weights stay as they were delivered ([`Packed`]): integers are multiplied as integers, by activations that were
//! rounded to eight bits in groups ([`Inputs`]); plain numbers are multiplied as singles. Every output is one chain of
//! operations, or 16 chains added by halves, so that a column's results do not depend on the columns beside it nor on the
//! number of threads. AVX-512 (with VNNI), AVX2 and portable code give equal sums of integers and differ in the rounding of
//! floats.
//!
//! Everything here is safe to call: lengths are checked once a call, and [`Workers`] exist only for a
//! [`Variant`](super::exact::Variant) that the processor has.
//!
//! What they cost. Letters: c columns, I inputs, O outputs, filled up to 32; T positions seen, H query heads, K key and value
//! heads, E width of a head, filled up to 16 in values.
//!
//! - [`Workers::accumulate`], `y[c][o] += sum_k w[o][k] x[c][k]`, x `[c][I]`, y `[c][O]`: `2 c I O` operations, of integers
//!   products of bytes with sums of 32 bits, and 4 to 6 in f32 a group, output and column. A weight is 4 bytes in f32, 2 in
//!   f16 and bf16; 1 and in a group of 64 or 32 one scale of 2 bytes in int8, `q8_0` and `q5_0`, a half likewise in int4 and
//!   `q4_0`; a least value beside the scale in `q4_1` (a half) and `q5_1` (1); two singles a group of 32 in `q4_K` (a half)
//!   and `q5_K` (1), one a group of 16 in `q6_K` (1). A tile comes from memory once, and from the cache once for every 6
//!   columns (AVX-512), 2 (AVX2) or 1. For one column memory should bind, for many arithmetic. [`Workers::read`] tells how
//!   fast memory is.
//! - [`Workers::quantise`], `x = s q`: 4 bytes read twice and 1 written an activation, 12 a group; about 6 operations.
//! - [`Workers::attend`], `y = sum_j softmax_j(scale q k_j) v_j`, q `[c][H][E]`, y likewise: `4 T H E` operations a column,
//!   and about 30 a query and position for the softmax. Keys and values are `4 T K E` bytes in f16 and `8 T K E` in f32, read
//!   once for up to four queries that share them; keys are read from a multiple of 256 on, in whole 32s or 64s. For long
//!   texts memory should bind.
//! - [`Kernel::norm`]: 6 operations a number, 7 with the mean, 1 more with biases; [`Kernel::rotate`]: 6 a pair;
//!   [`Kernel::swiglu`], [`Kernel::gelu`], [`Kernel::gelu_tanh`]: about 30, 47 and 34. All read and write columns that are in
//!   the cache, 8 or 12 bytes a number, so arithmetic should bind.
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
