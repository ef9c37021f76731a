//! Crops of natural photographs, as laid by `scripts/fetch photos` (`datasets/photos/README.md`).

use std::path::{Path, PathBuf};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use core_layers::{
    dataset::{FileDigest, Split},
    fetched,
};
use image::{RgbImage, imageops};
use ndarray::{Array4, Axis};

use super::dataset::Source;
use super::{DataConfig, Images, decode};

const USUAL_SIDE: u32 = 32;
/// Most crops along the shorter side of a photograph; fewer where it would have to be enlarged.
const CROPS: u32 = 8;

/// Crops of each photograph, scaled so that 8 lie along its shorter side; photograph i of the sorted names (not a crop of
/// it) trains where i mod 10 is 0..=6, validates where it is 7, tests where it is 8 or 9.
pub(super) fn read(config: &DataConfig) -> Result<Source> {
    from_folder(&fetched::folder("photos")?, config)
}

fn from_folder(folder: &Path, config: &DataConfig) -> Result<Source> {
    let side = config.side_or(USUAL_SIDE) as u32;
    let listed = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let mut paths: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some()).collect();
    paths.sort();
    ensure!(!paths.is_empty(), "{}: no photographs; type: scripts/fetch photos", folder.display());
    let (photos, files): (Vec<Photo>, Vec<FileDigest>) = all(&paths, side)?.into_iter().unzip();
    let split_of = |photo: usize| match photo % 10 {
        0..=6 => Split::Train,
        7 => Split::Valid,
        _ => Split::Test,
    };
    let splits = Split::ALL.map(|split| {
        let chosen = photos
            .iter()
            .enumerate()
            .filter(|&(i, _)| split_of(i) == split)
            .map(|(_, photo)| photo);
        images(&chosen.collect::<Vec<_>>(), side, config.grey)
    });
    let colours = if config.grey { "grey" } else { "RGB" };
    let rule = "photograph i of the sorted names trains where i mod 10 is 0..=6, validates where it is 7, tests \
                where it is 8 or 9";
    let count = photos.len();
    Ok(Source {
        name: "photos".into(),
        num_levels: 256,
        label_names: Vec::new(),
        rule: format!(
            "{count} photographs in {side}x{side} {colours} crops, {CROPS} along the shorter side, in the order of \
             their names' sha256; {rule}"
        ),
        splits,
        files,
        decoder: decode::DECODER,
        texture: None,
    })
}

/// A photograph's crops and its name without ending.
struct Photo {
    name: String,
    crops: Vec<(u32, u32, RgbImage)>, // row and column in the grid
}

/// Reads photographs on all cores: they are large.
fn all(paths: &[PathBuf], side: u32) -> Result<Vec<(Photo, FileDigest)>> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(paths.len());
    let mut read: Vec<(usize, Result<_>)> = thread::scope(|scope| {
        let share = |first: usize| {
            scope.spawn(move || {
                let mine = paths.iter().enumerate().skip(first).step_by(threads);
                mine.map(|(i, path)| (i, one(path, side))).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..threads).map(share).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a decoder does not panic"))
            .collect()
    });
    read.sort_by_key(|&(i, _)| i);
    read.into_iter().map(|(_, photo)| photo).collect()
}

fn one(path: &Path, side: u32) -> Result<(Photo, FileDigest)> {
    let content = decode::read(path)?;
    let pixels =
        decode::on_white(&decode::decode(&content).with_context(|| path.display().to_string())?);
    let (width, height) = pixels.dimensions();
    let short = width.min(height);
    let along = (short / side).clamp(1, CROPS);
    let (columns, rows) = (width * along / short, height * along / short);
    // the part that whole crops cover
    let scaled = decode::resize(
        &imageops::crop_imm(&pixels, 0, 0, columns * short / along, rows * short / along)
            .to_image(),
        columns * side,
        rows * side,
    );
    let cut =
        |row, column| imageops::crop_imm(&scaled, column * side, row * side, side, side).to_image();
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let file = FileDigest::new(path.file_name().unwrap_or_default().to_string_lossy(), &content);
    Ok((
        Photo {
            name,
            crops: places.map(|(row, column)| (row, column, cut(row, column))).collect(),
        },
        file,
    ))
}

/// All crops of some photographs, mixed: the first are a sample of all photographs.
fn images(photos: &[&Photo], side: u32, grey: bool) -> Images {
    let side = side as usize;
    let mut crops: Vec<(String, &RgbImage)> = (photos.iter())
        .flat_map(|photo| photo.crops.iter().map(|crop| (&photo.name, crop)))
        .map(|(name, (row, column, pixels))| (format!("{name}-{row}-{column}"), pixels))
        .collect();
    crops.sort_by_cached_key(|(name, _)| Split::mixed(name));
    let mut levels = Array4::zeros((crops.len(), side, side, if grey { 1 } else { 3 }));
    for (mut image, (_, pixels)) in levels.axis_iter_mut(Axis(0)).zip(&crops) {
        image.assign(&decode::levels(pixels, grey));
    }
    Images { names: crops.into_iter().map(|(name, _)| name).collect(), ..Images::new(levels, None) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use image::Rgb;

    use super::*;

    #[test]
    fn crops_of_one_photograph_stay_in_one_split() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for i in 0..10u8 {
            let photo = RgbImage::from_fn(40, 32, |x, _| Rgb([i, x as u8, 0]));
            photo.save(folder.path().join(format!("{i}.png")))?;
        }
        let config = DataConfig { data: "photos".into(), side: 4, ..DataConfig::default() };
        let source = from_folder(folder.path(), &config)?;
        let seen = source.splits.each_ref().map(|images| {
            images.levels.slice(ndarray::s![.., 0, 0, 0]).iter().copied().collect::<BTreeSet<_>>()
        });
        assert_eq!(seen, [(0..7).collect(), [7].into(), [8, 9].into()]);
        assert_eq!(source.splits[1].len(), 8 * 10);
        assert!(source.splits[1].names.contains(&"7-1-1".into()));
        let first = source.splits[0].select(&(0..40).collect::<Vec<_>>());
        let photographs: BTreeSet<&str> =
            first.names.iter().filter_map(|name| name.split('-').next()).collect();
        assert_eq!(photographs.len(), 7, "the first crops show every photograph");
        let config = DataConfig { side: 16, ..config };
        assert_eq!(from_folder(folder.path(), &config)?.splits[1].len(), 2 * 2, "not enlarged");
        Ok(())
    }
}
