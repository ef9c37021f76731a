//! Images, from files or made on the fly, to arrays of levels in three splits.
//! Letters: N images, H rows, W columns, C channels, L levels.
//!
//! [`load`] reads what a [`DataConfig`] names into a [`Dataset`]. Every random number is a function of a seed, a purpose
//! and an epoch; what a run does not redraw (valid and test, crops, textures to report on) comes from a fixed seed of its own.

mod binarize;
mod config;
mod dataset;
mod decode;
mod digits;
mod emoji;
mod folder;
mod images;
mod mnist;
mod npy;
mod photos;
mod picture;
mod texture;

use std::path::Path;

use anyhow::{Result, bail};

pub use config::{Binarize, DataConfig};
pub use dataset::Dataset;
pub use images::{CodeMaps, Images};
pub use npy::{read_npy, write_npy};
pub use picture::{
    open_image, png_bytes, read_image, read_image_of, to_image, write_image, write_images,
    write_sheet,
};

/// Reads the images that a configuration names.
///
/// # Errors
/// A field out of range, a set that was not fetched, a file that cannot be read or holds something else: one line each.
pub fn load(config: &DataConfig) -> Result<Dataset> {
    config.validate()?;
    let source = match config.data.as_str() {
        "digits" => digits::read(config)?,
        "mnist" => mnist::read(config)?,
        "emoji" => emoji::read(config)?,
        "photos" => photos::read(config)?,
        "noise" | "markov" | "ising" => texture::read(config)?,
        path if Path::new(path).extension().is_some_and(|end| end == "npy") => {
            npy::read(Path::new(path), config)?
        }
        path if Path::new(path).is_dir() => folder::read(Path::new(path), config)?,
        path => bail!(
            "{path}: no such data; there are digits, mnist, emoji, photos, noise, markov, ising, a folder of pictures \
             and a path to an .npy file"
        ),
    };
    Dataset::new(source, config)
}
