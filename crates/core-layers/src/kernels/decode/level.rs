//! Which instructions a kernel uses.

use super::{lanes::Task, portable};
use crate::kernels::exact::Variant;

/// Outputs in one vector.
pub(super) const LANES: usize = 16;

/// Instructions that this processor was asked for and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Level {
    /// The best level within a variant: AVX-512 needs VNNI here, AVX2 needs F16C.
    ///
    /// # Panics
    /// If this processor lacks the variant.
    pub(super) fn of(variant: Variant) -> Self {
        assert!(variant.is_available(), "this processor has no {variant}");
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = Variant::Avx2.is_available() && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && Variant::Avx512.is_available()
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            match variant {
                Variant::Avx512 if avx512 => return Self::Avx512,
                Variant::Avx512 | Variant::Avx2 if avx2 => return Self::Avx2,
                _ => {}
            }
        }
        Self::Portable
    }

    /// Runs `task` with these instructions.
    #[inline]
    pub(super) fn run<T: Task>(self, task: T) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `of` gives this level only where the processor has the instructions.
            Self::Avx512 => unsafe { super::avx512::run(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `of` gives this level only where the processor has the instructions.
            Self::Avx2 => unsafe { super::avx2::run(task) },
            Self::Portable => portable::run(task),
        }
    }
}
