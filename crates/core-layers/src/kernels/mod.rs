//! Native code behind safe functions: libtorch's own C++ where tch does not reach it, and the exact engine.
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
        ffi::set_simd(exact::Variant::detect().unwrap_or_else(|error| panic!("{error}")));
        match std::env::var("CHAINRULE_KERNELS").as_deref() {
            Err(_) | Ok("" | "on") => true,
            Ok("off") => false,
            Ok(word) => panic!("CHAINRULE_KERNELS is {word}, but must be on or off"),
        }
    };
    *SETTING.get_or_init(settle) && !ARE_OFF.get()
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

    use super::exact::Variant;

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
}
