//! Native code behind safe functions: libtorch's own C++ where tch does not reach it, and the exact engine.
//!
//! Each kernel's page says its formula, shapes, bytes and operations; what it reaches of the roofline stands in
//! `docs/benchmarks.md`, "Kernels".
//!
//! This is one of the three modules with `unsafe`; each block says why it is sound.

pub mod bf16;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod cross_entropy;
pub(crate) mod cuda;
pub mod decode;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod decoder;
pub mod exact;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod ffi;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod gradient;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod logistics;
pub mod nade;
#[expect(unsafe_code, reason = "calls the C++ shim; each block says why it is sound")]
pub(crate) mod norm;
pub mod packed;
pub mod step;

use std::{cell::Cell, sync::OnceLock};

use crate::ConfigError;

#[cfg(any(test, feature = "emulator"))]
pub use cuda::emulated;
pub use cuda::{program, wavenet};

thread_local! {
    static ARE_OFF: Cell<bool> = const { Cell::new(false) };
}

/// Whether operations of layers may run as kernels: unless `CHAINRULE_KERNELS` is `off`, or within [`without`]. On the CPU they
/// use the instructions that [`exact::Variant::detect`] tells.
///
/// # Panics
/// If `CHAINRULE_KERNELS` holds another word than `on` or `off`, or `CHAINRULE_SIMD` one that this processor has not.
pub fn are_on() -> bool {
    static SETTING: OnceLock<bool> = OnceLock::new();
    let settle = || {
        let (variant, are_wanted) = settings().unwrap_or_else(|error| panic!("{error}"));
        ffi::set_simd(variant);
        are_wanted
    };
    *SETTING.get_or_init(settle) && !ARE_OFF.get()
}

/// What a program does first, so that a wrong setting is told before any work.
///
/// # Errors
/// As [`are_on`] panics.
pub fn check_settings() -> Result<(), ConfigError> {
    settings().map(|_| ())
}

fn settings() -> Result<(exact::Variant, bool), ConfigError> {
    let variant = exact::Variant::detect()?;
    match std::env::var_os("CHAINRULE_KERNELS").unwrap_or_default().to_string_lossy().as_ref() {
        "" | "on" => Ok((variant, true)),
        "off" => Ok((variant, false)),
        word => Err(ConfigError::new("CHAINRULE_KERNELS", word, "on or off")),
    }
}

/// Runs `of` with libtorch's own operations in place of kernels, on this thread: the plain twins, which are the definition.
pub fn without<R>(of: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ARE_OFF.set(self.0);
        }
    }
    let _restore = Restore(ARE_OFF.replace(true));
    of()
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use tch::{Kind, Tensor, kind::FLOAT_CPU};

    use super::exact::Variant;
    use crate::{conv, cross_entropy, feed_forward, norm::Norm};

    /// Where the tests lie that hold a loop of `csrc/cpu` to its twin.
    const HOLDERS: [&str; 8] = [
        "attention::tests",
        "conv::gated",
        "conv::masked2d",
        "cross_entropy::tests",
        "feed_forward::tests",
        "kernels::nade",
        "logistics::tests",
        "norm::tests",
    ];

    #[test]
    fn loops_for_lesser_processors_are_their_twins_too() {
        for variant in Variant::available() {
            let mut tests = Command::new(env::current_exe().unwrap());
            tests.args(HOLDERS).args(["--skip", "cuda", "--test-threads", "1"]);
            let output = tests.env("CHAINRULE_SIMD", variant.to_string()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{variant}: {said}");
            for holder in HOLDERS {
                assert!(said.contains(holder), "{variant}: no test of {holder}");
            }
        }
    }

    #[test]
    fn second_derivatives_are_refused_rather_than_zero() {
        let norm = Norm::layer(&tch::nn::VarStore::new(tch::Device::Cpu).root(), 4, 1e-5);
        let symbols = Tensor::from_slice(&[0i64, 3]);
        let of: [&dyn Fn(&Tensor) -> Tensor; 4] = [
            &|it| tch::nn::Module::forward(&norm, it),
            &|it| feed_forward::gelu_tanh(it),
            &|it| cross_entropy::log_prob(it, &symbols),
            &|it| conv::gate(&it.view([2, 4, 1, 1]), None),
        ];
        for of in of {
            let xs = Tensor::randn([2, 4], FLOAT_CPU).set_requires_grad(true);
            let sum = of(&xs).sum(Kind::Float);
            let error = Tensor::f_run_backward(&[sum], &[xs], true, true).unwrap_err().to_string();
            assert!(error.contains("no second derivative"), "{error}");
        }
    }
}
