//! How samples are drawn.

use clap::ValueEnum;
use tch::Device;

use crate::sample::CudaEngine;

/// How samples are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sampler {
    /// A full pass for every sample: the definition.
    Plain,
    /// Activations kept in tensors: any device.
    Cached,
    /// Many samples in one kernel, on a GPU.
    Cuda,
    /// Fused, on the CPU, the same bits on every machine.
    Exact,
    /// Fused, on the CPU, in bfloat16.
    Fast,
}

impl Sampler {
    /// The one for a device, where none is asked for.
    pub(super) fn usual(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Exact,
            _ if CudaEngine::is_there(device) => Self::Cuda,
            _ => Self::Cached,
        }
    }
}
