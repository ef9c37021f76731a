//! Which instructions to use.

use std::fmt;

use crate::ConfigError;

/// A set of instructions; all of them give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// 512-bit vectors: AVX-512 F and VL.
    Avx512,
    /// 256-bit vectors: AVX2 with FMA.
    Avx2,
    /// One number at a time, on any processor; slow, the definition of the others.
    Portable,
}

impl Variant {
    const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// The fastest variant of this processor, or the one that `CHAINRULE_SIMD` names: `avx512`, `avx2`, `portable`.
    ///
    /// # Errors
    /// If `CHAINRULE_SIMD` holds another word, or a variant that this processor lacks.
    pub fn detect() -> Result<Self, ConfigError> {
        Self::choose(
            std::env::var_os("CHAINRULE_SIMD")
                .map(|word| word.to_string_lossy().into_owned())
                .filter(|word| !word.is_empty())
                .as_deref(),
        )
    }

    /// The variants of this processor, fastest first; the last is always [`Variant::Portable`].
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|variant| variant.is_available()).collect()
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    fn choose(word: Option<&str>) -> Result<Self, ConfigError> {
        let available = Self::available();
        let Some(word) = word else { return Ok(available[0]) };
        available.iter().copied().find(|variant| variant.word() == word).ok_or_else(|| {
            let words: Vec<_> = available.iter().map(|variant| variant.word()).collect();
            ConfigError::new(
                "CHAINRULE_SIMD",
                word,
                format!("one that this processor has: {}", words.join(", ")),
            )
        })
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_wish_the_fastest_is_chosen() {
        assert_eq!(Variant::choose(None).unwrap(), Variant::available()[0]);
    }

    #[test]
    fn every_available_variant_can_be_asked_for() {
        for variant in Variant::available() {
            assert_eq!(Variant::choose(Some(&variant.to_string())).unwrap(), variant);
        }
        assert!(Variant::available().contains(&Variant::Portable));
    }

    #[test]
    fn an_unknown_wish_is_refused_in_one_line() {
        let error = Variant::choose(Some("sse9")).unwrap_err().to_string();
        assert!(
            error.starts_with("CHAINRULE_SIMD is sse9, but must be one that this processor has: "),
            "{error}"
        );
        assert!(error.ends_with("portable") && !error.contains('\n'), "{error}");
    }
}
