//! Sound, from files or made on the fly, to clips of levels in three splits.
//! Letters: T samples of a clip, L levels, F frames of a condition.
//!
//! [`load`] reads what a [`DataConfig`] names into a [`Dataset`]. Whole clips are held out, by their names, so that a
//! sentence which several speakers say is held out for all of them. Nothing here depends on a run's seed.

mod condition;
mod config;
mod dataset;
mod encoding;
mod features;
mod files;
mod folder;
mod gather;
mod mel;
pub mod mu_law;
mod synthetic;
mod trim;
mod voice;
pub mod wav;
mod windows;

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use core_layers::{checkpoint::write_atomic, fetched};
use ndarray::ArrayView2;
use ndarray_npy::WriteNpyExt as _;

pub use condition::{NUM_CHARACTERS, characters, num_frames};
pub use config::{Condition, DataConfig};
pub use dataset::{Clip, Dataset};
pub use encoding::{Encoding, Quantizer};
pub use features::{read_features, read_frames};
pub use mel::mel;
pub use wav::Sound;
pub use windows::{Window, windows};

/// Reads the sound that a configuration names.
///
/// # Errors
/// A field out of range, a set that was not fetched, features that do not fit: one line each. A recording that cannot be
/// read is left out and named in [`Dataset::report`]; a split may be empty, see [`Dataset::ensure_split`].
pub fn load(config: &DataConfig) -> Result<Dataset> {
    config.validate()?;
    match config.data.as_str() {
        "voice" => voice::read(config),
        "speech" => folder::read_as(&fetched::folder("speech")?, "speech", config),
        "noise" | "harmonic" => Ok(synthetic::read(config)?),
        path if Path::new(path).is_dir() => folder::read(Path::new(path), config),
        path => bail!(
            "{path}: no such data; there are voice, speech, noise, harmonic and a folder of WAV files"
        ),
    }
}

/// Writes levels `[clips, T]` as an .npy file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_npy(path: &Path, levels: ArrayView2<'_, u32>) -> Result<()> {
    let mut content = Vec::new();
    levels.write_npy(&mut content).with_context(|| path.display().to_string())?;
    Ok(write_atomic(path, &content)?)
}
