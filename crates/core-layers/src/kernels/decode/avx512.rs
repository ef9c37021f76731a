//! [`Lanes`] on AVX-512 with VNNI: one register.
//!
//! Every `unsafe` block stands on one fact: tasks over [`Lanes`] run only inside [`run`], which enables the instructions,
//! and which a [`super::Level`] calls only where the processor has them. Pointers are the caller's promise.

use std::arch::x86_64::{__m512, __m512i};
use std::arch::x86_64::{
    _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm256_storeu_si256,
    _mm512_and_si512, _mm512_castsi512_ps, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtph_ps, _mm512_cvtps_ph, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_slli_epi32, _mm512_srli_epi16, _mm512_storeu_ps,
};

use super::lanes::{Lanes, Task};

/// Runs a task with these instructions.
///
/// # Safety
/// The processor has them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn run<T: Task>(task: T) {
    task.run::<Avx512>();
}

/// 512 bits.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

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

impl Lanes for Avx512 {
    const COLUMNS: usize = 6;

    type Floats = __m512;
    type Sums = __m512i;
    type Bytes = __m512i;

    operations! {
        fn bytes(from: *const u8) -> __m512i { _mm512_loadu_si512(from.cast()) }
        fn low(bytes: __m512i) -> __m512i { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
        fn high(bytes: __m512i) -> __m512i {
            _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15))
        }
        fn sums(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn dot(sums: __m512i, w: __m512i, x: i32) -> __m512i {
            _mm512_dpbusd_epi32(sums, w, _mm512_set1_epi32(x))
        }
        fn dot_nibbles(sums: __m512i, w: __m512i, x: i32) -> __m512i {
            _mm512_dpbusd_epi32(sums, w, _mm512_set1_epi32(x))
        }
        fn to_floats(sums: __m512i) -> __m512 { _mm512_cvtepi32_ps(sums) }
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn load(from: *const f32) -> __m512 { _mm512_loadu_ps(from) }
        fn load_f16(from: *const u16) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        fn load_bf16(from: *const u16) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
                _mm256_loadu_si256(from.cast()),
            )))
        }
        fn store(x: __m512, to: *mut f32) -> () { _mm512_storeu_ps(to, x) }
        fn store_f16(x: __m512, to: *mut u16) -> () {
            _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x))
        }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn prefetch(line: *const u8) {
        // SAFETY: a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
}
