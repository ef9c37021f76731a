//! 16 outputs side by side: what the kernels are written in, once for every set of instructions.

/// 16 numbers, 16 sums of integers, and 64 bytes of weights (four inputs of each output).
///
/// All functions that take bytes of weights and activations compute the same integers on every set of instructions; those
/// of floats differ in nothing but rounding.
///
/// # Safety
/// Every function requires that the processor has the instructions, and of pointers that as many numbers as the vector
/// holds can be read or written there, at any alignment.
pub(super) trait Lanes: Copy {
    /// Columns that one pass over a tile serves: what the registers hold.
    const COLUMNS: usize;

    type Floats: Copy;
    type Sums: Copy;
    type Bytes: Copy;

    /// 64 bytes.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// The lower half of each byte.
    unsafe fn low(bytes: Self::Bytes) -> Self::Bytes;
    /// The upper half of each byte.
    unsafe fn high(bytes: Self::Bytes) -> Self::Bytes;
    /// The same sum for each output.
    unsafe fn sums(x: i32) -> Self::Sums;
    /// `sums[o] += sum_r w[o][r] x[r]` with unsigned `w` and the four signed bytes of `x`.
    unsafe fn dot(sums: Self::Sums, w: Self::Bytes, x: i32) -> Self::Sums;
    /// The same for `w` below 16.
    unsafe fn dot_nibbles(sums: Self::Sums, w: Self::Bytes, x: i32) -> Self::Sums;
    /// The nearest floats.
    unsafe fn to_floats(sums: Self::Sums) -> Self::Floats;

    /// The same number 16 times.
    unsafe fn splat(x: f32) -> Self::Floats;
    /// 16 singles.
    unsafe fn load(from: *const f32) -> Self::Floats;
    /// 16 IEEE halves.
    unsafe fn load_f16(from: *const u16) -> Self::Floats;
    /// 16 upper halves of singles.
    unsafe fn load_bf16(from: *const u16) -> Self::Floats;
    /// Writes 16 singles.
    unsafe fn store(x: Self::Floats, to: *mut f32);
    /// Writes the 16 nearest IEEE halves, ties to even.
    unsafe fn store_f16(x: Self::Floats, to: *mut u16);
    /// `a b`.
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a b + c`, rounded once where there is an instruction.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;

    /// Asks for the cache line of an address, which need not be one that can be read.
    fn prefetch(line: *const u8);
}

/// Work that is compiled once for every set of instructions.
pub(super) trait Task {
    /// Must be `inline(always)`, so that it ends up inside a function that enables the instructions of `L`.
    fn run<L: Lanes>(self);
}
