//! A folder of pictures: any format, any depth of one class and one split.
//!
//! `FOLDER/x.png`, `FOLDER/CLASS/x.png`, `FOLDER/SPLIT/x.png` or `FOLDER/SPLIT/CLASS/x.png`, SPLIT being train, valid and test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use core_layers::dataset::{FileDigest, Split};
use image::RgbImage;
use ndarray::{Array4, Axis};

use super::dataset::Source;
use super::{DataConfig, Images, decode};

const ENDINGS: [&str; 14] = [
    "png", "jpg", "jpeg", "jfif", "webp", "bmp", "gif", "tif", "tiff", "pnm", "pbm", "pgm", "ppm",
    "pam",
];

/// Values, three a pixel, that all pictures of a folder together may have: some 6 GiB while they are read.
pub(super) const MAX_VALUES: u64 = 1 << 31;

/// Where a folder's pictures go.
pub(super) struct Rule {
    /// The split of a path within the folder, `/` between its parts, where no part names one.
    pub(super) split_of: fn(&str) -> Split,
    /// The same in words.
    pub(super) words: &'static str,
    /// Rows and columns; 0 where all pictures must be of one size.
    pub(super) side: u32,
    /// Whether a picture that is there already under another name is left out.
    pub(super) once: bool,
    /// Most values of all pictures together.
    pub(super) max_values: u64,
}

/// One picture on its way.
struct Entry {
    path: String, // within the folder
    split: Split,
    class: Option<String>,
    pixels: RgbImage,
}

/// The folder that a configuration names.
pub(super) fn read(root: &Path, config: &DataConfig) -> Result<Source> {
    let rule = Rule {
        split_of: Split::of_name,
        words: Split::NAME_RULE,
        side: config.side,
        once: false,
        max_values: MAX_VALUES,
    };
    let name = root
        .file_name()
        .map_or_else(|| "folder".into(), |name| name.to_string_lossy().into_owned());
    read_by(root, &name, &rule, config)
}

/// All pictures of a folder, by a rule of its own.
pub(super) fn read_by(root: &Path, name: &str, rule: &Rule, config: &DataConfig) -> Result<Source> {
    let mut paths = Vec::new();
    walk(root, "", &mut paths)?;
    ensure!(!paths.is_empty(), "{}: no pictures in it ({})", root.display(), ENDINGS.join(", "));
    paths.sort();
    let named = Split::ALL.iter().any(|split| root.join(split.name()).is_dir());
    let mut files = Vec::new();
    let mut entries = Vec::new();
    let (mut values, count) = (0, paths.len());
    for path in paths {
        let file = root.join(&path);
        let content = decode::read(&file)?;
        files.push(FileDigest::new(path.as_str(), &content));
        let pixels = fitted(&content, rule.side).with_context(|| file.display().to_string())?;
        values += pixels.as_raw().len() as u64;
        ensure!(
            values <= rule.max_values,
            "{}: its {count} pictures have more than {} values (rows x columns x 3, together); say a smaller --side or \
             take fewer pictures",
            root.display(),
            rule.max_values
        );
        entries.push(
            Entry::new(path, pixels, named, rule).with_context(|| file.display().to_string())?,
        );
    }
    ensure_one_size(root, &entries)?;
    let label_names = classes(root, &entries)?;
    if rule.once {
        let mut seen = BTreeSet::new();
        entries.retain(|entry| seen.insert(entry.pixels.as_raw().clone()));
    }
    entries.sort_by_cached_key(|entry| Split::mixed(&entry.path));
    let grey = config.grey || entries.iter().all(|entry| decode::is_grey(&entry.pixels));
    let (width, height) = entries[0].pixels.dimensions();
    let how = if named { "split by sub-folder" } else { rule.words };
    let colours = if grey { "grey" } else { "RGB" };
    Ok(Source {
        name: name.into(),
        num_levels: 256,
        rule: format!(
            "{name}, {} pictures, {height}x{width} {colours}, in the order of their names' sha256; {how}",
            entries.len()
        ),
        splits: Split::ALL.map(|split| images(&entries, split, &label_names, grey)),
        label_names,
        files,
        decoder: decode::DECODER,
        texture: None,
    })
}

/// Lists the pictures below `root/within`, hidden files and folders left out.
fn walk(root: &Path, within: &str, paths: &mut Vec<String>) -> Result<()> {
    let folder = root.join(within);
    let name = || folder.display().to_string();
    for entry in fs::read_dir(&folder).with_context(name)? {
        let entry = entry.with_context(name)?;
        let Ok(base) = entry.file_name().into_string() else {
            bail!("{}: its name is not UTF-8", entry.path().display());
        };
        if base.starts_with('.') {
            continue;
        }
        let path = if within.is_empty() { base } else { format!("{within}/{base}") };
        let ending =
            Path::new(&path).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if entry.path().is_dir() {
            let depth = path.split('/').count();
            ensure!(
                depth <= 2,
                "{}: too deep: a split and a class are all the folders there may be",
                name()
            );
            walk(root, &path, paths)?;
        } else if ENDINGS.contains(&ending.to_lowercase().as_str()) {
            paths.push(path);
        }
    }
    Ok(())
}

fn fitted(content: &[u8], side: u32) -> Result<RgbImage> {
    let pixels = decode::on_white(&decode::decode(content)?);
    if side > 0 {
        return Ok(decode::resize(&decode::centre(&pixels), side, side));
    }
    let (width, height) = pixels.dimensions();
    let max = DataConfig::MAX_SIDE;
    ensure!(
        width <= max && height <= max,
        "it has {width}x{height} pixels, but at most {max}x{max}; say --side"
    );
    Ok(pixels)
}

impl Entry {
    fn new(path: String, pixels: RgbImage, named: bool, rule: &Rule) -> Result<Self> {
        let mut parts: Vec<&str> = path.split('/').collect();
        parts.pop();
        let split = if named {
            let folder = if parts.is_empty() { "" } else { parts.remove(0) };
            let split = Split::ALL.into_iter().find(|split| split.name() == folder);
            split.context("it lies outside train, valid and test, which are there")?
        } else {
            (rule.split_of)(&path)
        };
        ensure!(parts.len() <= 1, "it lies in a folder within a class");
        let class = parts.first().map(|&class| class.to_owned());
        Ok(Self { path, split, class, pixels })
    }
}

fn ensure_one_size(root: &Path, entries: &[Entry]) -> Result<()> {
    let first = &entries[0];
    match entries.iter().find(|entry| entry.pixels.dimensions() != first.pixels.dimensions()) {
        None => Ok(()),
        Some(other) => {
            let size =
                |entry: &Entry| format!("{}x{}", entry.pixels.width(), entry.pixels.height());
            let path = root.join(&other.path);
            bail!(
                "{}: it has {} pixels, {} has {}; say --side",
                path.display(),
                size(other),
                first.path,
                size(first)
            )
        }
    }
}

/// The names of all classes, sorted; none where no picture has a class.
fn classes(root: &Path, entries: &[Entry]) -> Result<Vec<String>> {
    let mut names: Vec<String> = entries.iter().filter_map(|entry| entry.class.clone()).collect();
    names.sort();
    names.dedup();
    if let (false, Some(entry)) =
        (names.is_empty(), entries.iter().find(|entry| entry.class.is_none()))
    {
        bail!("{}: it lies beside folders, which are classes", root.join(&entry.path).display());
    }
    Ok(names)
}

fn images(entries: &[Entry], split: Split, label_names: &[String], grey: bool) -> Images {
    let chosen: Vec<&Entry> = entries.iter().filter(|entry| entry.split == split).collect();
    let (width, height) = entries[0].pixels.dimensions();
    let shape = (chosen.len(), height as usize, width as usize, if grey { 1 } else { 3 });
    let mut levels = Array4::zeros(shape);
    for (mut image, entry) in levels.axis_iter_mut(Axis(0)).zip(&chosen) {
        image.assign(&decode::levels(&entry.pixels, grey));
    }
    let label = |entry: &&Entry| {
        let class = entry.class.as_ref()?;
        label_names.binary_search(class).ok().map(|label| label as u32)
    };
    let labels = if label_names.is_empty() { None } else { chosen.iter().map(label).collect() };
    Images { names: names(&chosen), ..Images::new(levels, labels) }
}

/// What pictures are called: base names where they differ, `CLASS-x.png` where classes hold the same ones.
fn names(entries: &[&Entry]) -> Vec<String> {
    let base = |entry: &&Entry| entry.path.rsplit('/').next().unwrap_or_default().to_owned();
    let bases: Vec<String> = entries.iter().map(base).collect();
    let stems: BTreeSet<_> = bases.iter().map(|base| Path::new(base).file_stem()).collect();
    if stems.len() == bases.len() {
        return bases;
    }
    let of_class = |(entry, base): (&&Entry, String)| match &entry.class {
        Some(class) => format!("{class}-{base}"),
        None => base,
    };
    entries.iter().zip(bases).map(of_class).collect()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::super::load;
    use super::*;

    fn picture(root: &Path, path: &str, side: u32, shade: u8) -> Result<()> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap())?;
        Ok(RgbImage::from_pixel(side, side, Rgb([shade, 0, 0])).save(path)?)
    }

    fn loaded(root: &Path, side: u32, grey: bool) -> Result<super::super::Dataset> {
        load(&DataConfig { data: root.display().to_string(), side, grey, ..DataConfig::default() })
    }

    #[test]
    fn sub_folders_are_classes_and_splits() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for (i, split) in Split::ALL.into_iter().enumerate() {
            for (j, class) in ["dog", "cat"].into_iter().enumerate() {
                picture(
                    folder.path(),
                    &format!("{}/{class}/x.png", split.name()),
                    4,
                    (10 * i + j) as u8,
                )?;
            }
        }
        fs::write(folder.path().join("README.md"), "no picture")?;
        let data = loaded(folder.path(), 0, false)?;
        assert_eq!(data.label_names, ["cat", "dog"]);
        let mut seen: Vec<(u16, u32)> = (data.test.levels.slice(ndarray::s![.., 0, 0, 0]).iter())
            .copied()
            .zip(data.test.labels.unwrap())
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [(20, 1), (21, 0)]);
        let mut names = data.test.names;
        names.sort();
        assert_eq!(names, ["cat-x.png", "dog-x.png"]);
        assert_eq!(loaded(folder.path(), 2, true)?.train.levels.shape(), [2, 2, 2, 1]);

        picture(folder.path(), "train/y.png", 4, 1)?;
        let beside = format!("{:#}", loaded(folder.path(), 0, false).unwrap_err());
        assert!(beside.ends_with("y.png: it lies beside folders, which are classes"), "{beside}");
        fs::remove_dir_all(folder.path().join("valid"))?;
        fs::remove_file(folder.path().join("train/y.png"))?;
        let lacking = format!("{:#}", loaded(folder.path(), 0, false).unwrap_err());
        let said = "its valid split is empty (4 images: 2 train, 0 valid, 2 test); add images, or";
        assert!(lacking.contains(said), "{lacking}");
        Ok(())
    }

    #[test]
    fn the_first_pictures_are_of_all_classes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for i in 0..100 {
            picture(folder.path(), &format!("{}/{i}.png", ["a", "b"][i / 50]), 2, i as u8)?;
        }
        let data = loaded(folder.path(), 0, false)?;
        let ones = data.train.labels.unwrap()[..40].iter().sum::<u32>();
        assert!((8..=32).contains(&ones), "{ones} of 40 are of the second class");
        Ok(())
    }

    #[test]
    fn pictures_without_splits_part_by_name() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for i in 0..60 {
            picture(folder.path(), &format!("{i}.png"), 3, i)?;
        }
        let data = loaded(folder.path(), 0, false)?;
        let mut shades: Vec<u16> = Split::ALL
            .iter()
            .flat_map(|&split| data.split(split).levels.slice(ndarray::s![.., 0, 0, 0]).to_vec())
            .collect();
        shades.sort_unstable();
        assert!(shades.into_iter().eq(0..60), "disjoint and complete");
        assert!(data.train.labels.is_none());
        Ok(())
    }

    #[test]
    fn pictures_that_are_too_many_are_refused_before_all_are_read() -> Result<()> {
        let folder = tempfile::tempdir()?;
        (0..3).try_for_each(|i| picture(folder.path(), &format!("{i}.png"), 4, i))?;
        fs::write(folder.path().join("3.png"), "is not read any more")?;
        let config = DataConfig::default();
        let read = |max_values, side| {
            let rule = Rule { split_of: Split::of_name, words: "", side, once: false, max_values };
            read_by(folder.path(), "x", &rule, &config)
                .map(|_| ())
                .unwrap_err()
                .root_cause()
                .to_string()
        };
        assert!(read(2 * 48, 0).contains("its 4 pictures have more than 96 values"));
        assert!(read(2 * 48, 0).ends_with("say a smaller --side or take fewer pictures"));
        assert!(!read(3 * 48, 0).contains("more than"), "as many as there may be");
        assert!(!read(2 * 48, 2).contains("more than"), "smaller ones fit");
        Ok(())
    }

    #[test]
    fn a_bad_picture_is_named_in_one_line() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let refusal = || format!("{:#}", loaded(folder.path(), 0, false).unwrap_err());
        assert!(refusal().contains("no pictures in it"));
        picture(folder.path(), "a.png", 4, 0)?;
        picture(folder.path(), "b.png", 5, 0)?;
        assert!(
            refusal().ends_with("b.png: it has 5x5 pixels, a.png has 4x4; say --side"),
            "{}",
            refusal()
        );
        fs::write(folder.path().join("b.png"), [0; 40])?;
        assert!(refusal().contains("b.png: not a picture"), "{}", refusal());
        assert!(!refusal().contains('\n'));
        Ok(())
    }
}
