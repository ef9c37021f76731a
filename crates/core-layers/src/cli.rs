//! Flags that the commands of every model crate share.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tch::Device;

use crate::{
    autocast::Precision,
    checkpoint::Weights,
    device::{DeviceChoice, physical_cores, set_threads},
};

/// Which model, and on what it runs.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A checkpoint, or a run folder.
    pub model: PathBuf,
    /// Which of its weights.
    #[arg(long, value_enum, default_value_t = Weights::Ema)]
    pub weights: Weights,
    /// cpu, cuda, cuda:N or auto.
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    pub device: DeviceChoice,
    /// Threads; 0 takes the physical cores. Results do not depend on it.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Arithmetic of full passes, f32 or bf16; the exact engine has its own.
    #[arg(long, default_value_t = Precision::F32)]
    pub precision: Precision,
}

impl ModelArgs {
    /// Opens the device and sets the threads.
    ///
    /// # Errors
    /// A device that is not there, too many threads, a precision that the device lacks.
    pub fn open(&self) -> Result<Device> {
        let device = self.device.open()?;
        set_threads(self.threads())?;
        self.precision.validate(device)?;
        Ok(device)
    }

    /// Threads to compute with, at least 1 where the flag was right.
    pub fn threads(&self) -> usize {
        if self.threads == 0 { physical_cores() } else { self.threads }
    }
}
