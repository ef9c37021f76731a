//! [`Lanes`] on AVX2 with FMA and F16C: two registers.
//!
//! Every `unsafe` block stands on one fact: tasks over [`Lanes`] run only inside [`run`], which enables the instructions,
//! and which a [`super::Level`] calls only where the processor has them. Pointers are the caller's promise.

use std::arch::x86_64::{__m256, __m256i};
use std::arch::x86_64::{
    _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm_storeu_si128,
    _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi32_ps,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_srli_epi16,
    _mm256_storeu_ps,
};

use super::lanes::{Lanes, Task};

/// Runs a task with these instructions.
///
/// # Safety
/// The processor has them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<T: Task>(task: T) {
    task.run::<Avx2>();
}

/// Twice 256 bits.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Functions of one expression each.
macro_rules! operations {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty { $body:expr })*) => { $(
        #[inline(always)]
        unsafe fn $name($($arg: $type),*) -> $out {
            // SAFETY: by the contract of the trait, and see the module.
            unsafe { $body }
        }
    )* };
}

/// `sums + w x` for `w` below 16: pairs of products stay below the 32768 at which they would saturate.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn dot_small(sums: __m256i, w: __m256i, x: i32) -> __m256i {
    // SAFETY: by this function's contract.
    unsafe {
        let pairs = _mm256_maddubs_epi16(w, _mm256_set1_epi32(x));
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// `sums + w x` for any `w`: by halves of its bytes, exactly.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn dot_any(sums: __m256i, w: __m256i, x: i32) -> __m256i {
    // SAFETY: by this function's contract.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(w), mask);
        let high = dot_small(_mm256_set1_epi32(0), high, x);
        let low = dot_small(sums, _mm256_and_si256(w, mask), x);
        _mm256_add_epi32(low, _mm256_slli_epi32::<4>(high))
    }
}

impl Lanes for Avx2 {
    const COLUMNS: usize = 2;

    type Floats = [__m256; 2];
    type Sums = [__m256i; 2];
    type Bytes = [__m256i; 2];

    operations! {
        fn bytes(from: *const u8) -> [__m256i; 2] {
            [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())]
        }
        fn low(bytes: [__m256i; 2]) -> [__m256i; 2] {
            bytes.map(|it| _mm256_and_si256(it, _mm256_set1_epi8(15)))
        }
        fn high(bytes: [__m256i; 2]) -> [__m256i; 2] {
            bytes.map(|it| _mm256_and_si256(_mm256_srli_epi16::<4>(it), _mm256_set1_epi8(15)))
        }
        fn sums(x: i32) -> [__m256i; 2] { [_mm256_set1_epi32(x); 2] }
        fn dot(sums: [__m256i; 2], w: [__m256i; 2], x: i32) -> [__m256i; 2] {
            [dot_any(sums[0], w[0], x), dot_any(sums[1], w[1], x)]
        }
        fn dot_nibbles(sums: [__m256i; 2], w: [__m256i; 2], x: i32) -> [__m256i; 2] {
            [dot_small(sums[0], w[0], x), dot_small(sums[1], w[1], x)]
        }
        fn to_floats(sums: [__m256i; 2]) -> [__m256; 2] { sums.map(|it| _mm256_cvtepi32_ps(it)) }
        fn splat(x: f32) -> [__m256; 2] { [_mm256_set1_ps(x); 2] }
        fn load(from: *const f32) -> [__m256; 2] {
            [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]
        }
        fn load_f16(from: *const u16) -> [__m256; 2] {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
            ]
        }
        fn load_bf16(from: *const u16) -> [__m256; 2] {
            [from, from.add(8)].map(|from| {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            })
        }
        fn store(x: [__m256; 2], to: *mut f32) -> () {{
            _mm256_storeu_ps(to, x[0]);
            _mm256_storeu_ps(to.add(8), x[1]);
        }}
        fn store_f16(x: [__m256; 2], to: *mut u16) -> () {{
            let [low, high] = x.map(|it| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(it));
            _mm_storeu_si128(to.cast(), low);
            _mm_storeu_si128(to.add(8).cast(), high);
        }}
        fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
        }
        fn mul_add(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
        }
    }

    #[inline(always)]
    fn prefetch(line: *const u8) {
        // SAFETY: a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
}
