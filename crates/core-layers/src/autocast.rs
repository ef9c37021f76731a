//! Mixed precision: matrix products and convolutions in bfloat16, the rest in float32.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::{
    ConfigError,
    kernels::ffi::{self, AutocastState},
};

/// libtorch's number of bfloat16.
const BF16: i32 = 15;

/// The arithmetic of a training step. Weights, gradients and moments are float32 in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Float32 throughout.
    #[default]
    F32,
    /// Matrix products and convolutions in bfloat16 (8 bits of mantissa), losses and normalisation in float32.
    Bf16,
}

impl Precision {
    /// Refuses what `device` cannot do at speed.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] for bf16 on a CPU without bf16 instructions.
    pub fn validate(self, device: Device) -> Result<(), ConfigError> {
        self.validate_on(device == Device::Cpu && !cpu_has_bf16())
    }

    fn validate_on(self, lacks_bf16: bool) -> Result<(), ConfigError> {
        ConfigError::ensure(
            self == Self::F32 || !lacks_bf16,
            "precision",
            self,
            "f32, since this CPU has no bf16 instructions (avx512_bf16)",
        )
    }

    /// The guard under which a forward pass runs, `None` for [`Precision::F32`].
    pub fn autocast(self, device: Device) -> Option<Autocast> {
        (self == Self::Bf16).then(|| Autocast::new(device))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(ConfigError::new("precision", text, "f32 or bf16")),
        }
    }
}

/// Whether the CPU multiplies bf16 natively. A CPU with AMX tiles for bf16 has these instructions as well.
pub fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// While it lives, libtorch casts the inputs of matrix products and convolutions of this thread to bfloat16.
///
/// Casts of weights are cached until the outermost guard is dropped. Drop it before `backward`, which must run in the
/// kinds that the forward pass recorded; compute losses in float32 (`ys.to_kind(Kind::Float)`).
#[derive(Debug)]
#[must_use = "autocast ends when the guard is dropped"]
pub struct Autocast {
    device_type: i32,
    previous: AutocastState,
    not_send: PhantomData<*const ()>, // the state is thread-local
}

impl Autocast {
    /// Switches this thread's autocast to bfloat16 on the CPU or on CUDA.
    ///
    /// # Panics
    /// On a device that is neither.
    pub fn new(device: Device) -> Self {
        Self::set(device, true)
    }

    /// Switches it off, for what must be computed in float32 inside: a choice between near-equal numbers.
    ///
    /// # Panics
    /// On a device that is neither the CPU nor CUDA.
    pub fn suspend(device: Device) -> Self {
        Self::set(device, false)
    }

    fn set(device: Device, on: bool) -> Self {
        let device_type = match device {
            Device::Cpu => 0,
            Device::Cuda(_) => 1,
            other => panic!("no autocast on {other:?}"),
        };
        let state = AutocastState { on, dtype: BF16 };
        let previous =
            ffi::autocast_set(device_type, state).expect("the CPU and CUDA have autocast");
        ffi::autocast_nest(true).expect("a counter goes up");
        Self { device_type, previous, not_send: PhantomData }
    }
}

/// What products on `device` are computed in, where autocast says so.
pub(crate) fn kind_of_products(device: Device) -> Option<Kind> {
    let before = Autocast::suspend(device).previous;
    (before.on && before.dtype == BF16).then_some(Kind::BFloat16)
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // What could switch autocast on can switch it back; a panic in drop would hide the first one.
        let _ = ffi::autocast_nest(false);
        let _ = ffi::autocast_set(self.device_type, self.previous);
    }
}

#[cfg(test)]
mod tests {
    use tch::{Tensor, kind::FLOAT_CPU};

    use super::*;

    fn kind_of_a_product() -> Kind {
        let xs = Tensor::ones([4, 4], FLOAT_CPU);
        xs.matmul(&xs).kind()
    }

    #[test]
    fn autocast_lasts_as_long_as_its_guard_and_nests() {
        assert_eq!(kind_of_a_product(), Kind::Float);
        let outer = Precision::Bf16.autocast(Device::Cpu);
        let inner = Precision::Bf16.autocast(Device::Cpu);
        drop(inner);
        assert_eq!(kind_of_a_product(), Kind::BFloat16);
        let pause = Autocast::suspend(Device::Cpu);
        assert_eq!(kind_of_a_product(), Kind::Float);
        drop(pause);
        assert_eq!(kind_of_a_product(), Kind::BFloat16);
        drop(outer);
        assert_eq!(kind_of_a_product(), Kind::Float);
        assert!(Precision::F32.autocast(Device::Cpu).is_none());
    }

    #[test]
    fn gradients_of_a_bf16_product_are_float32_and_near_the_exact_ones() {
        let ws = Tensor::arange(16, FLOAT_CPU).view([4, 4]).set_requires_grad(true);
        let xs = Tensor::arange(16, FLOAT_CPU).view([4, 4]) / 7.0;
        let loss = {
            let _guard = Precision::Bf16.autocast(Device::Cpu);
            xs.matmul(&ws).to_kind(Kind::Float).sum(Kind::Float)
        };
        loss.backward();
        let exact = xs.transpose(0, 1).matmul(&Tensor::ones([4, 4], FLOAT_CPU));
        assert_eq!(ws.grad().kind(), Kind::Float);
        let worst = ((ws.grad() - &exact) / exact).abs().max().double_value(&[]);
        assert!(worst < 0.01, "relative error {worst}");
    }

    #[test]
    fn bf16_is_refused_in_one_line_where_the_cpu_lacks_it() {
        assert!(Precision::F32.validate_on(true).is_ok());
        assert!(Precision::Bf16.validate_on(false).is_ok());
        let message = Precision::Bf16.validate_on(true).unwrap_err().to_string();
        assert!(message.starts_with("precision is bf16, but must be f32"), "{message}");
    }

    #[test]
    fn precisions_read_back_what_they_print() {
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(serde_json::to_string(&precision).unwrap(), format!("\"{precision}\""));
        }
        assert!("fp16".parse::<Precision>().is_err());
    }
}
