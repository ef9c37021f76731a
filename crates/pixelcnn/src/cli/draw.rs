//! Flags of commands that draw images.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use core_layers::{ConfigError, cli, sampling::SamplingConfig};
use ndarray::Array4;

use crate::{data, sample::Sampler};

/// What drawing commands share.
#[derive(Debug, Args)]
pub struct DrawArgs {
    /// Images to draw.
    #[arg(long, default_value_t = 16)]
    pub count: usize,
    /// A class, by number or name; without it `sample` draws all in turn, `complete` likely ones.
    #[arg(long)]
    pub class: Option<String>,
    /// A PNG of all the images.
    #[arg(long, value_name = "PNG", required_unless_present = "npy")]
    pub out: Option<PathBuf>,
    /// The levels as an array `[count, height, width, colours]`.
    #[arg(long, value_name = "NPY")]
    pub npy: Option<PathBuf>,
    /// Sharpening and cuts.
    #[command(flatten)]
    pub config: SamplingConfig,
    /// Seed; one gives the same picture for any batch, threads and sampler, up to rounding between samplers.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How images are drawn [default: exact on the CPU, cached elsewhere].
    #[arg(long, value_enum)]
    pub sampler: Option<Sampler>,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
}

impl DrawArgs {
    /// Checks every flag, before anything is drawn.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.config.validate()?;
        self.out.iter().try_for_each(|path| cli::ensure_png("--out", path))?;
        self.npy.iter().try_for_each(|path| cli::ensure_file("--npy", path))?;
        ConfigError::ensure(
            (1..=1 << 20).contains(&self.count),
            "--count",
            self.count,
            "1 to 1048576",
        )
    }

    /// Writes what was asked for: the images drawn as an array, a sheet of those shown.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(
        &self,
        drawn: &Array4<u16>,
        shown: &Array4<u16>,
        num_levels: u32,
        columns: usize,
    ) -> Result<()> {
        if let Some(path) = &self.out {
            data::write_sheet(path, shown.view(), num_levels, columns)?;
            println!("{}", path.display());
        }
        if let Some(path) = &self.npy {
            data::write_npy(path, drawn.view())?;
            println!("{}", path.display());
        }
        Ok(())
    }
}
