//! [`Vector`] on AVX-512 and AVX2.
//!
//! Every `unsafe` block below stands on one fact: generic code over [`Vector`] runs only inside the three functions
//! at the end, which enable the instructions, and which `dispatch` calls only when the processor has them.

#[allow(
    clippy::wildcard_imports,
    reason = "some fifty intrinsics; the lint is silent in test builds"
)]
use std::arch::x86_64::*;

use super::vector::{Task, Vector};

/// 16 numbers, 32 registers.
#[derive(Clone, Copy)]
pub(super) struct Zmm(__m512);

/// 8 numbers; AVX-512 VL has 32 registers of them, AVX2 has 16.
#[derive(Clone, Copy)]
pub(super) struct Ymm<const REGISTERS: usize>(__m256);

/// Functions of one expression each, with the reason why it may be called.
macro_rules! operations {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> Self { $body:expr })*) => { $(
        $(#[$doc])*
        #[inline(always)]
        fn $name($($arg: $type),*) -> Self {
            // SAFETY: runs inside a function that enables these instructions, see the module.
            unsafe { Self($body) }
        }
    )* };
}

impl Vector for Zmm {
    const N: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by the contract of the trait, and see the module.
        unsafe { Self(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by the contract of the trait, and see the module.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see the module.
        unsafe {
            Self(_mm512_mask_blend_ps(
                _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, than.0),
                no.0,
                yes.0,
            ))
        }
    }
    #[inline(always)]
    unsafe fn repeat_4(from: *const f32) -> Self {
        // SAFETY: by the contract of the trait, and see the module.
        unsafe { Self(_mm512_broadcast_f32x4(_mm_loadu_ps(from))) }
    }
    #[inline(always)]
    fn split_lanes(rows: [Self; 4]) -> [Self; 4] {
        // SAFETY: see the module.
        unsafe { zmm_numbers(zmm_quarters(rows)) }
    }
    #[inline(always)]
    fn join_lanes(lanes: [Self; 4]) -> [Self; 4] {
        // SAFETY: see the module.
        unsafe { zmm_quarters(zmm_numbers(lanes)) }
    }
    operations! {
        fn splat(x: f32) -> Self { _mm512_set1_ps(x) }
        fn add(self: Self, other: Self) -> Self { _mm512_add_ps(self.0, other.0) }
        fn sub(self: Self, other: Self) -> Self { _mm512_sub_ps(self.0, other.0) }
        fn mul(self: Self, other: Self) -> Self { _mm512_mul_ps(self.0, other.0) }
        fn div(self: Self, other: Self) -> Self { _mm512_div_ps(self.0, other.0) }
        fn mul_add(self: Self, by: Self, plus: Self) -> Self { _mm512_fmadd_ps(self.0, by.0, plus.0) }
        fn neg_mul_add(self: Self, by: Self, plus: Self) -> Self { _mm512_fnmadd_ps(self.0, by.0, plus.0) }
        // the instructions return their second operand when one is NaN
        fn at_least(self: Self, bound: Self) -> Self { _mm512_max_ps(bound.0, self.0) }
        fn at_most(self: Self, bound: Self) -> Self { _mm512_min_ps(bound.0, self.0) }
        fn bits_to_exponent(self: Self) -> Self { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0))) }
        fn bits_from_exponent(self: Self) -> Self { _mm512_castsi512_ps(_mm512_srli_epi32::<23>(_mm512_castps_si512(self.0))) }
        fn bits_add(self: Self, bits: u32) -> Self { _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(bits as i32))) }
        fn bits_and(self: Self, bits: u32) -> Self { _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(self.0), _mm512_set1_epi32(bits as i32))) }
        fn bits_or(self: Self, bits: u32) -> Self { _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(self.0), _mm512_set1_epi32(bits as i32))) }
    }
}

impl<const R: usize> Vector for Ymm<R> {
    const N: usize = 8;
    const REGISTERS: usize = R;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by the contract of the trait, and see the module.
        unsafe { Self(_mm256_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by the contract of the trait, and see the module.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn if_less(self, than: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see the module.
        unsafe { Self(_mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, than.0))) }
    }
    #[inline(always)]
    unsafe fn repeat_4(from: *const f32) -> Self {
        // SAFETY: by the contract of the trait, and see the module.
        unsafe { Self(_mm256_set_m128(_mm_loadu_ps(from), _mm_loadu_ps(from))) }
    }
    #[inline(always)]
    fn split_lanes([r0, r1, r2, r3]: [Self; 4]) -> [Self; 4] {
        // SAFETY: see the module.
        unsafe {
            ymm_numbers([
                Self(_mm256_permute2f128_ps::<0x20>(r0.0, r2.0)),
                Self(_mm256_permute2f128_ps::<0x31>(r0.0, r2.0)),
                Self(_mm256_permute2f128_ps::<0x20>(r1.0, r3.0)),
                Self(_mm256_permute2f128_ps::<0x31>(r1.0, r3.0)),
            ])
        }
    }
    #[inline(always)]
    fn join_lanes(lanes: [Self; 4]) -> [Self; 4] {
        // SAFETY: see the module.
        unsafe {
            let [a, b, c, d] = ymm_numbers(lanes);
            [
                Self(_mm256_permute2f128_ps::<0x20>(a.0, b.0)),
                Self(_mm256_permute2f128_ps::<0x20>(c.0, d.0)),
                Self(_mm256_permute2f128_ps::<0x31>(a.0, b.0)),
                Self(_mm256_permute2f128_ps::<0x31>(c.0, d.0)),
            ]
        }
    }
    operations! {
        fn splat(x: f32) -> Self { _mm256_set1_ps(x) }
        fn add(self: Self, other: Self) -> Self { _mm256_add_ps(self.0, other.0) }
        fn sub(self: Self, other: Self) -> Self { _mm256_sub_ps(self.0, other.0) }
        fn mul(self: Self, other: Self) -> Self { _mm256_mul_ps(self.0, other.0) }
        fn div(self: Self, other: Self) -> Self { _mm256_div_ps(self.0, other.0) }
        fn mul_add(self: Self, by: Self, plus: Self) -> Self { _mm256_fmadd_ps(self.0, by.0, plus.0) }
        fn neg_mul_add(self: Self, by: Self, plus: Self) -> Self { _mm256_fnmadd_ps(self.0, by.0, plus.0) }
        // the instructions return their second operand when one is NaN
        fn at_least(self: Self, bound: Self) -> Self { _mm256_max_ps(bound.0, self.0) }
        fn at_most(self: Self, bound: Self) -> Self { _mm256_min_ps(bound.0, self.0) }
        fn bits_to_exponent(self: Self) -> Self { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(self.0))) }
        fn bits_from_exponent(self: Self) -> Self { _mm256_castsi256_ps(_mm256_srli_epi32::<23>(_mm256_castps_si256(self.0))) }
        fn bits_add(self: Self, bits: u32) -> Self { _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(bits as i32))) }
        fn bits_and(self: Self, bits: u32) -> Self { _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(self.0), _mm256_set1_epi32(bits as i32))) }
        fn bits_or(self: Self, bits: u32) -> Self { _mm256_castsi256_ps(_mm256_or_si256(_mm256_castps_si256(self.0), _mm256_set1_epi32(bits as i32))) }
    }
}

/// Four vectors of four quarters, transposed.
#[target_feature(enable = "avx512f")]
#[inline]
fn zmm_quarters([r0, r1, r2, r3]: [Zmm; 4]) -> [Zmm; 4] {
    let (low01, high01) =
        (_mm512_shuffle_f32x4::<0x44>(r0.0, r1.0), _mm512_shuffle_f32x4::<0xee>(r0.0, r1.0));
    let (low23, high23) =
        (_mm512_shuffle_f32x4::<0x44>(r2.0, r3.0), _mm512_shuffle_f32x4::<0xee>(r2.0, r3.0));
    [
        Zmm(_mm512_shuffle_f32x4::<0x88>(low01, low23)),
        Zmm(_mm512_shuffle_f32x4::<0xdd>(low01, low23)),
        Zmm(_mm512_shuffle_f32x4::<0x88>(high01, high23)),
        Zmm(_mm512_shuffle_f32x4::<0xdd>(high01, high23)),
    ]
}

/// Four vectors, in each quarter the 4 x 4 numbers transposed.
#[target_feature(enable = "avx512f")]
#[inline]
fn zmm_numbers([r0, r1, r2, r3]: [Zmm; 4]) -> [Zmm; 4] {
    let (low01, high01) = (_mm512_unpacklo_ps(r0.0, r1.0), _mm512_unpackhi_ps(r0.0, r1.0));
    let (low23, high23) = (_mm512_unpacklo_ps(r2.0, r3.0), _mm512_unpackhi_ps(r2.0, r3.0));
    [
        Zmm(_mm512_shuffle_ps::<0x44>(low01, low23)),
        Zmm(_mm512_shuffle_ps::<0xee>(low01, low23)),
        Zmm(_mm512_shuffle_ps::<0x44>(high01, high23)),
        Zmm(_mm512_shuffle_ps::<0xee>(high01, high23)),
    ]
}

/// Four vectors, in each half the 4 x 4 numbers transposed.
#[target_feature(enable = "avx2")]
#[inline]
fn ymm_numbers<const R: usize>([r0, r1, r2, r3]: [Ymm<R>; 4]) -> [Ymm<R>; 4] {
    let (low01, high01) = (_mm256_unpacklo_ps(r0.0, r1.0), _mm256_unpackhi_ps(r0.0, r1.0));
    let (low23, high23) = (_mm256_unpacklo_ps(r2.0, r3.0), _mm256_unpackhi_ps(r2.0, r3.0));
    [
        Ymm(_mm256_shuffle_ps::<0x44>(low01, low23)),
        Ymm(_mm256_shuffle_ps::<0xee>(low01, low23)),
        Ymm(_mm256_shuffle_ps::<0x44>(high01, high23)),
        Ymm(_mm256_shuffle_ps::<0xee>(high01, high23)),
    ]
}

/// `task` with 512-bit vectors.
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
pub(super) fn run_zmm<T: Task>(task: T) -> T::Output {
    task.run::<Zmm>()
}

/// `task` with 256-bit vectors in 32 registers.
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
pub(super) fn run_ymm_of_32<T: Task>(task: T) -> T::Output {
    task.run::<Ymm<32>>()
}

/// `task` with 256-bit vectors in 16 registers.
#[target_feature(enable = "avx2,fma")]
pub(super) fn run_ymm<T: Task>(task: T) -> T::Output {
    task.run::<Ymm<16>>()
}
