//! [`Lanes`] on any processor: arrays. The definition of the others.

use std::array::from_fn;

use half::f16;

use super::{
    lanes::{Lanes, Task},
    level::LANES,
};

/// Runs a task.
pub(super) fn run<T: Task>(task: T) {
    task.run::<Portable>();
}

/// One number at a time.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Lanes for Portable {
    const COLUMNS: usize = 1;

    type Floats = [f32; LANES];
    type Sums = [i32; LANES];
    type Bytes = [u8; 4 * LANES];

    unsafe fn bytes(from: *const u8) -> [u8; 4 * LANES] {
        // SAFETY: by the contract of the trait.
        unsafe { from.cast::<[u8; 4 * LANES]>().read_unaligned() }
    }

    unsafe fn low(bytes: [u8; 4 * LANES]) -> [u8; 4 * LANES] {
        bytes.map(|it| it & 15)
    }

    unsafe fn high(bytes: [u8; 4 * LANES]) -> [u8; 4 * LANES] {
        bytes.map(|it| it >> 4)
    }

    unsafe fn sums(x: i32) -> [i32; LANES] {
        [x; LANES]
    }

    unsafe fn dot(mut sums: [i32; LANES], w: [u8; 4 * LANES], x: i32) -> [i32; LANES] {
        let x = x.to_le_bytes().map(|it| i32::from(it.cast_signed()));
        for (sum, w) in sums.iter_mut().zip(w.chunks_exact(4)) {
            let products = w.iter().zip(x).map(|(&w, x)| i32::from(w) * x);
            *sum = sum.wrapping_add(products.sum());
        }
        sums
    }

    unsafe fn dot_nibbles(sums: [i32; LANES], w: [u8; 4 * LANES], x: i32) -> [i32; LANES] {
        // SAFETY: it needs no instructions.
        unsafe { Self::dot(sums, w, x) }
    }

    unsafe fn to_floats(sums: [i32; LANES]) -> [f32; LANES] {
        sums.map(|it| it as f32)
    }

    unsafe fn splat(x: f32) -> [f32; LANES] {
        [x; LANES]
    }

    unsafe fn load(from: *const f32) -> [f32; LANES] {
        // SAFETY: by the contract of the trait.
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }

    unsafe fn load_f16(from: *const u16) -> [f32; LANES] {
        // SAFETY: by the contract of the trait.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|it| f16::from_bits(it).to_f32())
    }

    unsafe fn load_bf16(from: *const u16) -> [f32; LANES] {
        // SAFETY: by the contract of the trait.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|it| f32::from_bits(u32::from(it) << 16))
    }

    unsafe fn store(x: [f32; LANES], to: *mut f32) {
        // SAFETY: by the contract of the trait.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(x) }
    }

    unsafe fn store_f16(x: [f32; LANES], to: *mut u16) {
        let bits = x.map(|it| f16::from_f32(it).to_bits());
        // SAFETY: by the contract of the trait.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(bits) }
    }

    unsafe fn mul(a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] * b[i])
    }

    unsafe fn mul_add(a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        from_fn(|i| a[i] * b[i] + c[i]) // without the instruction, rounding once takes a slow call
    }

    fn prefetch(_line: *const u8) {}
}
