//! Flags of commands that draw images.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use core_layers::{
    ConfigError,
    cli::{self, counted},
    sampling::SamplingConfig,
};
use ndarray::{Array4, Axis};

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
    /// How images are drawn [default: exact on the CPU; on a GPU cuda, or cached where that cannot be].
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

/// The image that `complete` goes on from.
#[derive(Debug, Args)]
pub struct GivenArgs {
    /// The image whose top is given: a picture, or an array of images as `sample --npy` writes it.
    #[arg(long, value_name = "PNG|NPY")]
    image: PathBuf,
    /// Which image of an array, the first is 0 [default: 0].
    #[arg(long)]
    index: Option<usize>,
}

impl GivenArgs {
    /// The image `[1, H, W, C]`, which must have this `shape` and number of levels.
    ///
    /// # Errors
    /// One line on a file that cannot be read or holds something else.
    pub fn read(&self, shape: [usize; 3], num_levels: u32) -> Result<Array4<u16>> {
        let name = self.image.display();
        if self.image.extension().is_none_or(|end| end != "npy") {
            let index = self.index.unwrap_or(0);
            let rule = "left out: only an array holds several images";
            ConfigError::ensure(self.index.is_none(), "--index", index, rule)?;
            let hint = "; instead of a sheet of images give the array that sample --npy writes, and --index";
            let image = data::read_image_of(&self.image, num_levels, shape, hint)?;
            return Ok(image.insert_axis(Axis(0)));
        }
        let all = data::read_npy(&self.image)?;
        let (index, count) = (self.index.unwrap_or(0), all.len());
        let rule = format!("below {count}: {name} holds {}", counted(count, "image"));
        ConfigError::ensure(index < count, "--index", index, &rule)?;
        let given = all.select(&[index]).levels;
        let found = &given.shape()[1..];
        ensure!(
            *found == shape,
            "{name}: images are {found:?} (height, width, colours), the model's {shape:?}"
        );
        if let Some(beyond) = given.iter().find(|&&level| u32::from(level) >= num_levels) {
            anyhow::bail!("{name}: holds the level {beyond}, the model has {num_levels}");
        }
        Ok(given)
    }
}
