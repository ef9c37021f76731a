//! The exact engine: f32 arithmetic whose bits are defined.
//!
//! A codec decodes with the probabilities that it encoded with, so they must not depend on the machine, the batch or
//! the number of threads. Here every output is ONE chain of operations that are rounded as IEEE 754 says (fused
//! multiply-add, add, subtract, multiply, divide, square root, compare, bit operations), or 16 chains added in pairs, in an
//! order that the documentation states. Vectors only run several such chains side by side; there are no approximate
//! reciprocals, no sums across a vector whose order the machine chooses, and no `exp` from a library. So AVX-512, AVX2 and
//! portable code agree bit for bit, with any number of lanes. The default rounding mode, and no flush to zero, are assumed.
//!
//! Activations lie as `[column][channel][L]`: the same channel of `L` images side by side ([`Kernel::lanes`]).
//! NaN stays NaN in every function, though the bits of its payload are not defined.
//!
//! Everything here is safe to call: bounds are checked once a call, and a [`Kernel`] exists only for a [`Variant`]
//! that the processor has.
//!
//! What the functions cost; their pages have formula, shapes and order. Letters: K inputs of all taps, O outputs, D channels
//! of a head. A number is 4 bytes; a fused multiply-add is two operations in linear maps and attention, and one elsewhere,
//! where instructions are counted: an exponential is 17 of them, a logarithm about 30, a sigmoid 18.
//!
//! - [`Kernel::accumulate`]: `2 K O` operations a column and image. Weights are `4 K` bytes an output, outputs filled up to 16,
//!   and read once for one to four places at a time (a place is one column of an image, or of as many as a vector holds); an
//!   output is read and written once, inputs once for every tile of outputs. With one column the way of the weights to the
//!   core should bind, with many columns arithmetic; [`Kernel::run_at_peak`] tells how fast that is.
//! - [`Kernel::exp`], [`Kernel::ln`], [`Kernel::sigmoid`], [`Kernel::elu`], [`Kernel::relu`]: 17, 30, 18, 17 and 1
//!   instructions a number, read and written in place, 8 bytes; [`Kernel::add_assign`] 1 for 12 bytes.
//! - [`Kernel::gate`], [`Kernel::swish_gate`]: 33 and 20 for each output, 12 bytes. [`Kernel::gelu`], [`Kernel::gelu_tanh`]:
//!   34 and 23, 8 bytes. Of all functions of single numbers but [`Kernel::relu`] and [`Kernel::add_assign`], arithmetic
//!   should bind.
//! - [`Kernel::rms_norm`], [`Kernel::layer_norm`]: 4 and 6 a number, 8 bytes; columns are read two or three times, from the
//!   cache but for the first. [`Kernel::rotate`]: 4 a pair, 16 bytes, and the table's row again for every head.
//! - [`Kernel::log_sum_exp`], [`Kernel::softmax`]: 20 and 21 a level, of 4 bytes read twice, and 4 written and scaled.
//! - [`Kernel::discretised_logistics`]: about 45 a level and component and 32 a level; levels, 4 bytes each, are read and
//!   written once a component. Arithmetic should bind.
//! - [`Kernel::attend`]: `4 D` operations a position, head and image, 20 instructions for its exponential, and `8 D` bytes of
//!   keys and values. [`Kernel::attend_text`]: the same a query head, where keys and values come from the cache for all but
//!   the first of the heads that share them. Nothing but queries, results and one head's scores (every head's, of a text)
//!   is touched beside. Once the past outgrows a cache, the memory behind it should bind.
#![expect(
    unsafe_code,
    reason = "vector intrinsics, and loops whose bounds were checked before them"
)]
#![expect(
    clippy::inline_always,
    reason = "a body must end up inside the function that enables its instructions"
)]

mod accumulate;
mod activation;
mod attention;
mod buffer;
mod elementwise;
mod image_lanes;
mod logistics;
mod maths;
mod norm;
mod output_lanes;
mod packed;
mod peak;
mod rotary;
mod softmax;
#[cfg(test)]
mod tests;
mod text_attention;
mod variant;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use accumulate::Tap;
pub use attention::Past;
pub use buffer::Buffer;
pub use packed::Packed;
pub use rotary::{Rotations, rotary_frequencies};
pub use text_attention::TextPast;
pub use variant::Variant;

use vector::Machine;

/// A variant, and the number of images that it keeps side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    variant: Variant,
    lanes: usize,
}

impl Kernel {
    /// The kernel for `rows` images: 16 lanes for 9 rows or more, 8 for 5 to 8, 4 for 2 to 4, otherwise 1.
    ///
    /// Lanes beyond the rows are padding: compute with zeros there and ignore what comes out.
    ///
    /// # Panics
    /// If this processor lacks `variant`, see [`Variant::available`].
    pub fn new(variant: Variant, rows: usize) -> Self {
        assert!(variant.is_available(), "this processor has no {variant}");
        let lanes = match rows {
            0..=1 => 1,
            2..=4 => 4,
            5..=8 => 8,
            _ => 16,
        };
        Self { variant, lanes }
    }

    /// Images side by side, `L`: 1, 4, 8 or 16.
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    /// The instructions in use.
    pub const fn variant(&self) -> Variant {
        self.variant
    }

    /// The widest vectors of the variant; sound because `new` asked the processor.
    fn machine(self) -> Machine {
        match self.variant {
            Variant::Avx512 => Machine::Zmm,
            Variant::Avx2 => Machine::Ymm,
            Variant::Portable => Machine::Scalar,
        }
    }

    /// The vectors for images side by side: 8 lanes do not fill 512 bits.
    fn lane_machine(self) -> Machine {
        if self.variant == Variant::Avx512 && self.lanes == 8 {
            Machine::YmmOf32
        } else {
            self.machine()
        }
    }
}
