//! How samples are drawn.

use anyhow::Result;
use clap::ValueEnum;
use tch::Device;

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
    /// The one for a device without kernels, where none is asked for.
    pub(super) fn usual(device: Device) -> Self {
        if device == Device::Cpu { Self::Exact } else { Self::Cached }
    }

    /// What `new` makes: where kernels are asked for, and on a GPU where nothing is and it makes one.
    pub(super) fn kernels<E>(
        asked: Option<Self>,
        device: Device,
        new: impl FnOnce() -> Result<E>,
    ) -> Result<Option<E>> {
        match asked {
            Some(Self::Cuda) => new().map(Some),
            None if device != Device::Cpu => Ok(new().ok()),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn kernels_that_refuse_a_model_are_an_error_only_where_they_were_asked_for() {
        let (cpu, gpu) = (Device::Cpu, Device::Cuda(0));
        for (asked, device, served, refused) in [
            (None, cpu, Some(None), Some(None)),
            (None, gpu, Some(Some(())), Some(None)),
            (Some(Sampler::Fast), gpu, Some(None), Some(None)),
            (Some(Sampler::Cuda), gpu, Some(Some(())), None),
        ] {
            let kernels = |new: fn() -> Result<()>| Sampler::kernels(asked, device, new).ok();
            assert_eq!(kernels(|| Ok(())), served, "{asked:?} on {device:?}");
            assert_eq!(kernels(|| bail!("too large")), refused, "{asked:?} on {device:?}");
        }
    }
}
