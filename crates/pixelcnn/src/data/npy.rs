//! `NumPy`'s array files: whole numbers of any size read as levels or labels, levels written.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use core_layers::{
    checkpoint::write_atomic,
    dataset::{FileDigest, Split},
    npy::Npy,
};
use ndarray::{Array4, ArrayView4};
use ndarray_npy::WriteNpyExt;

use super::dataset::Source;
use super::{DataConfig, Images};

/// Levels `[N, H, W, C]` of an array `[N, H, W]` or `[N, H, W, C]`.
pub(super) fn images(npy: &Npy) -> Result<Array4<u16>> {
    let name = npy.name();
    let shape = match *npy.shape() {
        [n, h, w] => [n, h, w, 1],
        [n, h, w, c] => [n, h, w, c],
        ref other => {
            bail!("{name}: its shape is {other:?}, but must be [N, H, W] or [N, H, W, C]")
        }
    };
    let [_, h, w, c] = shape;
    let side = 1..=DataConfig::MAX_SIDE as usize;
    let fits = side.contains(&h) && side.contains(&w) && matches!(c, 1 | 3);
    ensure!(fits, "{name}: its shape is {shape:?}, but must be [N, 1..=1024, 1..=1024, 1 or 3]");
    Ok(Array4::from_shape_vec(shape, npy.whole_numbers("level", u16::MAX.into())?)?)
}

/// `count` labels, each below `classes`, of an array `[N]`.
pub(super) fn labels(npy: &Npy, count: usize, classes: u32) -> Result<Vec<u32>> {
    let shape = npy.shape();
    ensure!(shape == [count], "{}: its shape is {shape:?}, but must be [{count}]", npy.name());
    npy.whole_numbers("label", i128::from(classes) - 1)
}

/// Images of one array file, with the labels of `STEM.labels.npy` beside it where there are such.
///
/// The alphabet is `data.levels` where that is more than the greatest level; otherwise 256 where the greatest level is
/// 128..=255, and the greatest level + 1 (at least 2) elsewhere.
pub(super) fn read(path: &Path, config: &DataConfig) -> Result<Source> {
    let npy = Npy::open(path)?;
    let levels = images(&npy)?;
    let (_, h, w, c) = levels.dim();
    let greatest =
        levels.iter().copied().max().with_context(|| format!("{}: no image", npy.name()))?;
    let alphabet =
        if (128..256).contains(&greatest) { 256 } else { u32::from(greatest).max(1) + 1 };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut files = vec![FileDigest::new("levels.npy", npy.content())];
    let beside = path.with_file_name(format!("{name}.labels.npy"));
    let labels = beside.exists().then(|| -> Result<Vec<u32>> {
        let npy = Npy::open(&beside)?;
        files.push(FileDigest::new("labels.npy", npy.content()));
        labels(&npy, levels.dim().0, 65_536)
    });
    let labels = labels.transpose()?;
    let classes = labels.iter().flatten().max().map_or(0, |&greatest| greatest + 1);
    let rule = format!("{name}.npy, {h}x{w}x{c}; {}", Split::index_rule("image"));
    Ok(Source {
        name,
        num_levels: alphabet.max(if config.levels > u32::from(greatest) {
            config.levels
        } else {
            0
        }),
        label_names: (0..classes).map(|class| class.to_string()).collect(),
        rule,
        splits: Images::new(levels, labels).part(),
        files,
        decoder: "npy/1",
        texture: None,
    })
}

/// All images of one array file, with the labels of `STEM.labels.npy` beside it where there are such.
///
/// # Errors
/// One line on a file that cannot be read or holds something else.
pub fn read_npy(path: &Path) -> Result<Images> {
    let levels = images(&Npy::open(path)?)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!("{name}.labels.npy"));
    let labels = beside.exists().then(|| labels(&Npy::open(&beside)?, levels.dim().0, 65_536));
    Ok(Images::new(levels, labels.transpose()?))
}

/// Writes levels `[N, H, W, C]` as an array file of 16-bit numbers.
///
/// # Errors
/// The file cannot be written; what stood there before still does.
pub fn write_npy(path: &Path, levels: ArrayView4<'_, u16>) -> Result<()> {
    let mut content = Vec::new();
    levels.write_npy(&mut content).with_context(|| path.display().to_string())?;
    Ok(write_atomic(path, &content)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ndarray::{Array1, Array3};

    use super::*;

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.npy");
        let levels = Array4::from_shape_fn((5, 3, 4, 3), |(n, y, x, c)| {
            (n * 1000 + y * 100 + x * 10 + c) as u16
        });
        write_npy(&path, levels.view())?;
        assert_eq!(images(&Npy::open(&path)?)?, levels);
        Ok(())
    }

    #[test]
    fn arrays_of_other_shapes_are_refused() -> Result<()> {
        let refusal = |array: &dyn Fn(&mut Vec<u8>)| {
            let mut content = Vec::new();
            array(&mut content);
            let read = Npy::parse("x.npy".into(), content).and_then(|npy| images(&npy));
            read.unwrap_err().to_string()
        };
        let flat = refusal(&|to| Array1::<u8>::zeros(3).write_npy(to).unwrap());
        assert_eq!(flat, "x.npy: its shape is [3], but must be [N, H, W] or [N, H, W, C]");
        let wide = refusal(&|to| Array3::<u8>::zeros((1, 1, 1025)).write_npy(to).unwrap());
        assert!(wide.contains("its shape is [1, 1, 1025, 1], but must be"), "{wide}");
        let mut bytes = Vec::new();
        Array3::<i64>::from_elem((1, 1, 2), 300).write_npy(&mut bytes)?;
        let npy = Npy::parse("x.npy".into(), bytes)?;
        assert_eq!(images(&npy)?, Array4::from_elem((1, 1, 2, 1), 300));
        let refusal = labels(&npy, 2, 10).unwrap_err().to_string();
        assert_eq!(refusal, "x.npy: its shape is [1, 1, 2], but must be [2]");
        Ok(())
    }

    #[test]
    fn an_array_and_its_labels_become_three_splits() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("codes.npy");
        let levels = Array4::from_shape_fn((100, 2, 2, 1), |(n, y, x, _)| (n + y + x) as u16 % 50);
        write_npy(&path, levels.view())?;
        let labels = Array1::from_shape_fn(100, |n| n as u8 % 4);
        labels.write_npy(fs::File::create(folder.path().join("codes.labels.npy"))?)?;
        let mut config = DataConfig { data: path.display().to_string(), ..DataConfig::default() };
        let data = super::super::load(&config)?;
        assert_eq!((data.num_levels, data.label_names.len()), (50, 4));
        assert_eq!((data.train.len(), data.valid.len(), data.test.len()), (70, 10, 20));
        assert_eq!(data.test.labels.as_ref().unwrap()[0], 80 % 4);
        config.levels = 512;
        assert_eq!(super::super::load(&config)?.num_levels, 512);
        config.levels = 2;
        let coarse = super::super::load(&config)?;
        assert_eq!(coarse.train.levels[[30, 0, 0, 0]], 1, "level 30 of 50 becomes 1 of 2");
        Ok(())
    }
}
