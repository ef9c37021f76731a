//! CUDA kernels: text until a GPU first needs them, then compiled by NVRTC, kept on disk, and launched on libtorch's
//! current stream. Without NVRTC or a driver every operation is its plain twin, which is said once.
//!
//! One operation a file, `csrc/cuda/NAME.cu` beside `kernels/cuda/NAME.rs`; its plain twin in libtorch operations is the
//! definition. Tests run the same wrappers and the same text on the CPU, through `csrc/cuda/emulator.h`.
//!
//! Each page counts what its kernel does. A number is of T, 4 bytes in float32 and 2 in bfloat16 and float16, where no type
//! is named; an addition, a product, a comparison, a division and an exponential are an operation each; arithmetic of
//! indices is left out. What "should bind" follows from those counts.

#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod activation;
mod cache;
#[expect(unsafe_code, reason = "calls NVRTC; each block says why it is sound")]
mod compile;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod cross_entropy;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod decode_attention;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod decoder_layer;
#[expect(unsafe_code, reason = "calls CUDA's driver; each block says why it is sound")]
mod driver;
#[cfg(any(test, feature = "emulator"))]
#[expect(
    unsafe_code,
    reason = "opens and calls a library that the test made; each block says why it is sound"
)]
pub mod emulated;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod gate;
mod line;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod logistics;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod matvec;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod norm;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub mod program;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod quantise;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub(crate) mod rope;
mod stepper;
#[cfg(test)]
mod tests;
#[expect(unsafe_code, reason = "launches a kernel; each block says why it is sound")]
pub mod wavenet;

use std::{ffi::c_void, fmt};

use tch::{Device, Kind, Tensor};

use super::ffi::TorchError;

const PRELUDE: &str = include_str!("../../../csrc/cuda/prelude.cuh");

/// Threads of a block where nothing asks for another number.
pub(crate) const THREADS: u32 = 256;

/// The text of one `.cu` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    text: &'static str,
}

impl Source {
    /// What is compiled.
    pub(crate) fn whole(&self) -> String {
        [PRELUDE, self.text].concat()
    }
}

/// The source of that name, behind those headers.
macro_rules! source {
    ($name:literal $(, $header:literal)*) => {
        Source {
            name: $name,
            text: concat!(
                $(include_str!(concat!("../../../csrc/cuda/", $header)),)*
                include_str!(concat!("../../../csrc/cuda/", $name, ".cu"))
            ),
        }
    };
}

pub(crate) const ACTIVATION: Source = source!("activation");
pub(crate) const CROSS_ENTROPY: Source = source!("cross_entropy");
pub(crate) const GATE: Source = source!("gate");
pub(crate) const DECODER_LAYER: Source = source!("decoder_layer");
pub(crate) const DECODE_ATTENTION: Source = source!("decode_attention");
pub(crate) const LOGISTICS: Source = source!("logistics");
pub(crate) const MATVEC: Source = source!("matvec");
pub(crate) const NORM: Source = source!("norm");
pub(crate) const PROGRAM: Source = source!("program", "stepper.cuh");
pub(crate) const QUANTISE: Source = source!("quantise");
pub(crate) const ROPE: Source = source!("rope");
pub(crate) const WAVENET: Source = source!("wavenet", "stepper.cuh");

/// All of them.
#[cfg(test)]
pub(crate) const SOURCES: [Source; 12] = [
    ACTIVATION,
    CROSS_ENTROPY,
    DECODER_LAYER,
    DECODE_ATTENTION,
    GATE,
    LOGISTICS,
    MATVEC,
    NORM,
    PROGRAM,
    QUANTISE,
    ROPE,
    WAVENET,
];

/// The type of tensors that a source is compiled for, T of `prelude.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Element {
    F32,
    Bf16,
    F16,
}

impl Element {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// That of a tensor's kind; kernels know no others.
    pub(crate) fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Float => Some(Self::F32),
            Kind::BFloat16 => Some(Self::Bf16),
            Kind::Half => Some(Self::F16),
            _ => None,
        }
    }

    /// The kind of tensors that it stands for.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }

    /// `CL_KIND` of `prelude.cuh`.
    pub(crate) fn number(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["f32", "bf16", "f16"][self.number()])
    }
}

/// Bytes of shared memory of a block at the most, what every GPU since 2020 has.
pub(crate) const MOST_SHARED: usize = 96 << 10;

/// How many threads run a kernel, and the shared memory of a block in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
}

impl Shape {
    /// Enough blocks of [`THREADS`] for `count` numbers, one a thread, up to what a grid needs to fill any GPU; kernels
    /// stride over the rest.
    pub(crate) fn of_numbers(count: i64) -> Self {
        Self::of_rows((count + i64::from(THREADS) - 1) / i64::from(THREADS))
    }

    /// A block of [`THREADS`] for each of `count` rows, up to as many; kernels stride over the rest.
    pub(crate) fn of_rows(count: i64) -> Self {
        const MOST: i64 = 1 << 16;
        Self { grid: [count.clamp(1, MOST) as u32, 1, 1], block: [THREADS, 1, 1], shared: 0 }
    }
}

/// An argument of a kernel, of the same width in its declaration: a pointer, `i64` or `float`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg<'a> {
    /// Where a contiguous tensor's numbers lie.
    Tensor(&'a Tensor),
    /// A null pointer.
    Null,
    Int(i64),
    Float(f32),
}

impl<'a> Arg<'a> {
    /// A tensor, or null.
    pub(crate) fn maybe(tensor: Option<&'a Tensor>) -> Self {
        tensor.map_or(Arg::Null, Arg::Tensor)
    }

    /// Its bits as a launch reads them.
    fn bits(self) -> u64 {
        match self {
            Self::Tensor(it) => it.data_ptr().addr() as u64,
            Self::Null => 0,
            Self::Int(it) => it.cast_unsigned(),
            Self::Float(it) => u64::from(it.to_bits()),
        }
    }
}

/// The arguments as launches want them: an address of each one's bits.
fn addresses(bits: &mut [u64]) -> Vec<*mut c_void> {
    bits.iter_mut().map(|it| std::ptr::from_mut(it).cast()).collect()
}

/// What runs kernels on the tensors of a device.
pub(crate) trait Gpu: fmt::Debug + Sync {
    /// Runs the kernel `name` of `source` with T = `element`, after what the device was told before.
    ///
    /// # Errors
    /// When it cannot be compiled or launched.
    ///
    /// # Safety
    /// The arguments are those of the kernel's declaration, and the kernel reads and writes only inside their tensors,
    /// which lie on this device.
    #[expect(unsafe_code, reason = "a kernel trusts what it is told")]
    unsafe fn launch(
        &self,
        source: &Source,
        element: Element,
        name: &str,
        shape: Shape,
        arguments: &[Arg<'_>],
    ) -> Result<(), TorchError>;
}

/// What runs kernels on `device`: none where it is no GPU, where kernels are off, or where they cannot run.
pub(crate) fn of(device: Device) -> Option<&'static dyn Gpu> {
    if !super::are_on() {
        return None;
    }
    match device {
        Device::Cuda(index) => driver::of(index),
        #[cfg(any(test, feature = "emulator"))]
        Device::Cpu => emulated::current(),
        _ => None,
    }
}

/// A tensor of `device` whose numbers lie in order, of a kind that kernels know.
pub(crate) fn element(xs: &Tensor) -> Result<Element, TorchError> {
    Element::of(xs.kind()).ok_or_else(|| TorchError(format!("no kernel takes {xs:?}")))
}
