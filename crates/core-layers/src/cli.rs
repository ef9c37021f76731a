//! Flags that the commands of every model crate share.

mod output;
mod usage;

use std::path::PathBuf;

pub use output::{ensure_apart, ensure_file, ensure_folder, ensure_png};
pub use usage::parse;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use tch::Device;

use crate::{
    ConfigError,
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
    /// Arithmetic of products in full passes and cached samplers, f32 or bf16: with `--sampler cuda` the kind of the weights
    /// alone; the exact engine has its own.
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

/// Flags of `info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// A checkpoint, or a run folder.
    #[arg(required_unless_present = "preset", conflicts_with = "preset")]
    pub model: Option<PathBuf>,
    /// A preset instead.
    #[arg(long)]
    pub preset: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `decompress`.
#[derive(Debug, Args)]
pub struct DecompressArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show them instead of those of its fields")]
    pub model: ModelArgs,
    /// The file that compress wrote.
    pub file: PathBuf,
    /// A folder for what it holds: files by their names, or one array where they had none.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
}

impl DecompressArgs {
    /// What `decode` makes of the file; then the folder is there.
    ///
    /// # Errors
    /// A file that cannot be read, whatever `decode` says of it, a folder that cannot be made.
    pub fn restore<T>(&self, decode: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let name = self.file.display();
        let bytes = std::fs::read(&self.file).with_context(|| name.to_string())?;
        let restored = decode(&bytes).map_err(|error| anyhow!("{name}: {error:#}"))?;
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        Ok(restored)
    }
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder of what it makes.
    #[arg(long, value_name = "DIR", default_value = DEMO)]
    pub out: PathBuf,
    /// Twenty steps of each model, to see that everything runs; made in DIR/quick, so that what a real demo made stays.
    #[arg(long)]
    pub quick: bool,
}

/// Where a demo makes what it makes, unless told otherwise.
const DEMO: &str = "demo";

impl Default for DemoArgs {
    fn default() -> Self {
        Self { out: DEMO.into(), quick: false }
    }
}

impl DemoArgs {
    /// The same, with the folder of a quick demo inside that of a real one.
    #[must_use]
    pub fn placed(&self) -> Self {
        let out = if self.quick { self.out.join("quick") } else { self.out.clone() };
        Self { out, quick: self.quick }
    }
}

/// What a flag such as `--class` names by a label's name or its number: an index below `count`.
///
/// `plural` is what a model without labels has none of: `classes`, `speakers`.
///
/// # Errors
/// [`ConfigError`] with what would have been accepted.
pub fn label(
    flag: &str,
    plural: &str,
    text: &str,
    names: &[String],
    count: u32,
) -> Result<u32, ConfigError> {
    let by_name = names.iter().position(|name| name == text).map(|index| index as u32);
    let number = by_name.or_else(|| text.parse().ok()).filter(|&label| label < count);
    number.ok_or_else(|| {
        let rule = match count {
            0 => format!("left out: the model has no {plural}"),
            _ => format!("0 to {}, or one of {}", count - 1, names.join(", ")),
        };
        ConfigError::new(flag, text, rule)
    })
}

/// So many of what `noun` is one of: `1 clip`, `2 clips`.
pub fn counted(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// A figure with its standard error: `1.25 +- 0.03`, or `1.25 +- -` where one example leaves it unknown.
pub fn with_error(value: f64, error: Option<f64>, decimals: usize) -> String {
    let error = error.map_or_else(|| "-".into(), |it| format!("{it:.decimals$}"));
    format!("{value:.decimals$} +- {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_said_as_they_are_spoken() {
        let said = [0, 1, 2].map(|count| counted(count, "test clip"));
        assert_eq!(said, ["0 test clips", "1 test clip", "2 test clips"]);
        assert_eq!(with_error(1.25, Some(0.034), 2), "1.25 +- 0.03");
        assert_eq!(with_error(1.25, None, 1), "1.2 +- -");
    }

    #[test]
    fn a_label_has_a_name_and_a_number() {
        let names = ["7", "cat"].map(str::to_owned);
        let label = |text: &str, count| label("--class", "classes", text, &names, count);
        assert_eq!(label("cat", 2), Ok(1));
        assert_eq!(label("1", 2), Ok(1));
        assert_eq!(label("7", 2), Ok(0), "a name comes before a number");
        let refusal = label("2", 2).unwrap_err().to_string();
        assert_eq!(refusal, "--class is 2, but must be 0 to 1, or one of 7, cat");
        let refusal = label("x", 0).unwrap_err().to_string();
        assert_eq!(refusal, "--class is x, but must be left out: the model has no classes");
    }
}
