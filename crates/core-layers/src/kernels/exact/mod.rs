//! The exact engine: f32 arithmetic whose bits are defined.
//!
//! A codec decodes with the probabilities that it encoded with, so they must not depend on the machine, the batch or
//! the number of threads. Here every output is ONE chain of operations that are rounded as IEEE 754 says (fused
//! multiply-add, add, multiply, divide, compare, bit operations) in an order that the documentation states. Vectors
//! only run several such chains side by side; there are no approximate reciprocals, no sums across a vector whose
//! order the machine chooses, and no `exp` from a library. So AVX-512, AVX2 and portable code agree bit for bit,
//! with any number of lanes. The default rounding mode, and no flush to zero, are assumed.
//!
//! Activations lie as `[column][channel][L]`: the same channel of `L` images side by side ([`Kernel::lanes`]).
//! NaN stays NaN in every function, though the bits of its payload are not defined.
//!
//! Everything here is safe to call: bounds are checked once a call, and a [`Kernel`] exists only for a [`Variant`]
//! that the processor has.
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
