//! The few operations that all kernels are written in, over one number or a vector of them.

/// `N` numbers side by side; every operation acts on each alone and rounds as IEEE 754 says.
///
/// Code that is generic over it runs inside [`dispatch`] only, which enables the instructions of `Self`; that is why
/// its functions need not be `unsafe`. Everything is `inline(always)`, closures are avoided: a function that was not
/// inlined would lack the instructions.
pub(super) trait Vector: Copy {
    /// Numbers in it, a divisor of 16.
    const N: usize;
    /// How many of them the processor keeps in registers: 16 or 32.
    const REGISTERS: usize;

    /// # Safety
    /// `N` numbers can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `N` numbers can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// Asks for the cache line at `at`, which may lie anywhere; changes nothing.
    #[inline(always)]
    fn prefetch(_at: *const f32) {}
    fn splat(x: f32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once.
    fn mul_add(self, by: Self, plus: Self) -> Self;
    /// `plus - self * by`, rounded once.
    fn neg_mul_add(self, by: Self, plus: Self) -> Self;
    /// `if self < than { yes } else { no }`; NaN is not less.
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self;
    /// `if bound > self { bound } else { self }`: NaN stays.
    fn at_least(self, bound: Self) -> Self;
    /// `if bound < self { bound } else { self }`: NaN stays.
    fn at_most(self, bound: Self) -> Self;
    /// The bits moved left by 23, where the exponent lies.
    fn bits_to_exponent(self) -> Self;
    /// The bits moved right by 23, from where the exponent lies.
    fn bits_from_exponent(self) -> Self;
    fn bits_add(self, bits: u32) -> Self;
    fn bits_and(self, bits: u32) -> Self;
    fn bits_or(self, bits: u32) -> Self;
    /// The four numbers at `from`, repeated to fill the vector; the first of them where it holds one.
    ///
    /// # Safety
    /// Four numbers can be read there.
    unsafe fn repeat_4(from: *const f32) -> Self;
    /// `[N][4]` numbers in four vectors to `[4][N]`.
    fn split_lanes(rows: [Self; 4]) -> [Self; 4];
    /// `[4][N]` numbers in four vectors to `[N][4]`.
    fn join_lanes(lanes: [Self; 4]) -> [Self; 4];

    /// The first `N` of `xs`.
    #[inline(always)]
    fn read(xs: &[f32]) -> Self {
        let xs = &xs[..Self::N];
        // SAFETY: the slice holds N numbers.
        unsafe { Self::load(xs.as_ptr()) }
    }

    /// Overwrites the first `N` of `xs`.
    #[inline(always)]
    fn write(self, xs: &mut [f32]) {
        let xs = &mut xs[..Self::N];
        // SAFETY: the slice holds N numbers.
        unsafe { self.store(xs.as_mut_ptr()) }
    }
}

/// Work that is the same for every vector.
pub(super) trait Task {
    type Output;
    /// Must be `inline(always)`.
    fn run<V: Vector>(self) -> Self::Output;
}

/// Vectors that this processor has; made by [`super::Kernel`], which asked it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// 16 numbers, 32 registers.
    Zmm,
    /// 8 numbers, 32 registers.
    YmmOf32,
    /// 8 numbers, 16 registers.
    Ymm,
    /// 1 number.
    Scalar,
}

/// Runs `task` with the instructions of `machine` enabled.
pub(super) fn dispatch<T: Task>(machine: Machine, task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a Machine is made only after the processor was asked for its instructions.
    unsafe {
        match machine {
            Machine::Zmm => super::x86::run_zmm(task),
            Machine::YmmOf32 => super::x86::run_ymm_of_32(task),
            Machine::Ymm => super::x86::run_ymm(task),
            Machine::Scalar => task.run::<f32>(),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        debug_assert_eq!(machine, Machine::Scalar);
        task.run::<f32>()
    }
}

impl Vector for f32 {
    const N: usize = 1;
    const REGISTERS: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by the contract of the trait.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by the contract of the trait.
        unsafe { *to = self }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self - other
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self / other
    }
    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        f32::mul_add(self, by, plus)
    }
    #[inline(always)]
    fn neg_mul_add(self, by: Self, plus: Self) -> Self {
        f32::mul_add(-self, by, plus)
    }
    #[inline(always)]
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self {
        if self < than { yes } else { no }
    }
    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        if bound > self { bound } else { self }
    }
    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        if bound < self { bound } else { self }
    }
    #[inline(always)]
    fn bits_to_exponent(self) -> Self {
        f32::from_bits(self.to_bits() << 23)
    }
    #[inline(always)]
    fn bits_from_exponent(self) -> Self {
        f32::from_bits(self.to_bits() >> 23)
    }
    #[inline(always)]
    fn bits_add(self, bits: u32) -> Self {
        f32::from_bits(self.to_bits().wrapping_add(bits))
    }
    #[inline(always)]
    fn bits_and(self, bits: u32) -> Self {
        f32::from_bits(self.to_bits() & bits)
    }
    #[inline(always)]
    fn bits_or(self, bits: u32) -> Self {
        f32::from_bits(self.to_bits() | bits)
    }
    #[inline(always)]
    unsafe fn repeat_4(from: *const f32) -> Self {
        // SAFETY: by the contract of the trait.
        unsafe { *from }
    }
    #[inline(always)]
    fn split_lanes(rows: [Self; 4]) -> [Self; 4] {
        rows
    }
    #[inline(always)]
    fn join_lanes(lanes: [Self; 4]) -> [Self; 4] {
        lanes
    }
}
