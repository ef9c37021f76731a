//! `NumPy`'s array files: whole numbers of any size read as levels or labels, levels written.
//!
//! The reader is our own, and small, since files are hostile: the header is bounded and parsed without recursion, and a
//! shape is believed only where it fits the bytes that are there. The format is
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use core_layers::{
    checkpoint::write_atomic,
    dataset::{FileDigest, Split},
};
use ndarray::{Array4, ArrayView4};
use ndarray_npy::WriteNpyExt;

use super::dataset::Source;
use super::{DataConfig, Images};

/// Longest header that is read, bytes; what `NumPy` writes for images has 118.
const MAX_HEADER: usize = 4096;
const MAGIC: &[u8] = b"\x93NUMPY";

/// An array file in memory.
#[derive(Debug)]
pub(super) struct Npy {
    name: String,
    content: Vec<u8>,
    start: usize,
    element: Element,
    shape: Vec<usize>,
}

/// Little-endian whole numbers.
#[derive(Debug, Clone, Copy)]
struct Element {
    size: usize,
    signed: bool,
}

impl Element {
    fn of(descr: &str) -> Result<Self> {
        let (size, signed) = match descr {
            "|u1" | "|b1" => (1, false),
            "|i1" => (1, true),
            "<u2" => (2, false),
            "<i2" => (2, true),
            "<u4" => (4, false),
            "<i4" => (4, true),
            "<u8" => (8, false),
            "<i8" => (8, true),
            _ => bail!("its elements are {descr:?}, but must be whole numbers, little endian"),
        };
        Ok(Self { size, signed })
    }

    fn value(self, bytes: &[u8]) -> i128 {
        let raw = bytes.iter().rev().fold(0i128, |value, &byte| value << 8 | i128::from(byte));
        let sign = self.signed && bytes.last().is_some_and(|&byte| byte >= 0x80);
        if sign { raw - (1 << (8 * self.size)) } else { raw }
    }
}

impl Npy {
    /// Reads a file, header and shape checked.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let content = fs::read(path).with_context(|| name.clone())?;
        Self::parse(name.clone(), content).with_context(|| name)
    }

    fn parse(name: String, content: Vec<u8>) -> Result<Self> {
        ensure!(content.starts_with(MAGIC) && content.len() >= 12, "not an .npy file");
        let (prefix, len) = match content[6] {
            1 => (10, u16::from_le_bytes([content[8], content[9]]) as usize),
            2 | 3 => (
                12,
                u32::from_le_bytes([content[8], content[9], content[10], content[11]]) as usize,
            ),
            version => bail!("its .npy format has version {version}, but must have 1, 2 or 3"),
        };
        ensure!(
            len <= MAX_HEADER,
            "its header has {len} bytes, but must have at most {MAX_HEADER}"
        );
        let start = prefix + len;
        let header = content.get(prefix..start).context("it ends within its header")?;
        let header = std::str::from_utf8(header).context("its header is not text")?;
        let element = Element::of(
            quoted(field(header, "descr")?).context("its header names no element type")?,
        )?;
        let order = field(header, "fortran_order")?;
        ensure!(order.starts_with("False"), "its order is by column, but must be by row");
        let shape = shape(field(header, "shape")?)?;
        let bytes = shape.iter().try_fold(element.size, |product, &axis| product.checked_mul(axis));
        let held = content.len() - start;
        ensure!(
            bytes == Some(held),
            "its shape {shape:?} does not fit its {held} bytes of elements"
        );
        Ok(Self { name, content, start, element, shape })
    }

    /// The file's bytes.
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    /// Levels `[N, H, W, C]` of an array `[N, H, W]` or `[N, H, W, C]`.
    pub(super) fn images(&self) -> Result<Array4<u16>> {
        let shape = match self.shape[..] {
            [n, h, w] => [n, h, w, 1],
            [n, h, w, c] => [n, h, w, c],
            _ => bail!(
                "{}: its shape is {:?}, but must be [N, H, W] or [N, H, W, C]",
                self.name,
                self.shape
            ),
        };
        let [_, h, w, c] = shape;
        let side = 1..=DataConfig::MAX_SIDE as usize;
        let fits = side.contains(&h) && side.contains(&w) && matches!(c, 1 | 3);
        ensure!(
            fits,
            "{}: its shape is {shape:?}, but must be [N, 1..=1024, 1..=1024, 1 or 3]",
            self.name
        );
        Ok(Array4::from_shape_vec(shape, self.numbers("level", u16::MAX.into())?)?)
    }

    /// `count` labels, each below `classes`, of an array `[N]`.
    pub(super) fn labels(&self, count: usize, classes: u32) -> Result<Vec<u32>> {
        ensure!(
            self.shape == [count],
            "{}: its shape is {:?}, but must be [{count}]",
            self.name,
            self.shape
        );
        self.numbers("label", i128::from(classes) - 1)
    }

    fn numbers<T: TryFrom<i128>>(&self, what: &str, max: i128) -> Result<Vec<T>> {
        let values = self.content[self.start..]
            .chunks_exact(self.element.size)
            .map(|bytes| self.element.value(bytes));
        let checked = values.map(|value| match T::try_from(value) {
            Ok(number) if (0..=max).contains(&value) => Ok(number),
            _ => bail!("{}: a {what} is {value}, but must be 0..={max}", self.name),
        });
        checked.collect()
    }
}

/// What follows `'key':` in a header.
fn field<'a>(header: &'a str, key: &str) -> Result<&'a str> {
    let key = [format!("'{key}':"), format!("\"{key}\":")];
    let found = key.iter().find_map(|key| header.split_once(key.as_str()));
    Ok(found.with_context(|| format!("its header has no {}", key[0]))?.1.trim_start())
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
    text[1..].split_once(quote).map(|(inside, _)| inside)
}

fn shape(text: &str) -> Result<Vec<usize>> {
    let axes = text
        .strip_prefix('(')
        .and_then(|text| text.split_once(')'))
        .context("its header has no shape")?
        .0;
    let axes: Vec<&str> = axes.split(',').map(str::trim).filter(|axis| !axis.is_empty()).collect();
    ensure!(axes.len() <= 4, "its array has {} axes, but must have at most 4", axes.len());
    axes.iter()
        .map(|axis| axis.parse().with_context(|| format!("an axis of its shape is {axis:?}")))
        .collect()
}

/// Images of one array file, with the labels of `STEM.labels.npy` beside it where there are such.
///
/// The alphabet is `data.levels` where that is more than the greatest level; otherwise 256 where the greatest level is
/// 128..=255, and the greatest level + 1 (at least 2) elsewhere.
pub(super) fn read(path: &Path, config: &DataConfig) -> Result<Source> {
    let npy = Npy::open(path)?;
    let levels = npy.images()?;
    let (_, h, w, c) = levels.dim();
    let greatest =
        levels.iter().copied().max().with_context(|| format!("{}: no image", npy.name))?;
    let alphabet =
        if (128..256).contains(&greatest) { 256 } else { u32::from(greatest).max(1) + 1 };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut files = vec![FileDigest::new("levels.npy", npy.content())];
    let beside = path.with_file_name(format!("{name}.labels.npy"));
    let labels = beside.exists().then(|| -> Result<Vec<u32>> {
        let npy = Npy::open(&beside)?;
        files.push(FileDigest::new("labels.npy", npy.content()));
        npy.labels(levels.dim().0, 65_536)
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
    let levels = Npy::open(path)?.images()?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!("{name}.labels.npy"));
    let labels = beside.exists().then(|| Npy::open(&beside)?.labels(levels.dim().0, 65_536));
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
    use ndarray::{Array1, Array3};
    use proptest::prelude::*;

    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let len = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &len, header.as_bytes(), data].concat()
    }

    fn refusal(content: Vec<u8>) -> String {
        let read = Npy::parse("x.npy".into(), content).and_then(|npy| npy.images());
        format!("{:#}", read.unwrap_err())
    }

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.npy");
        let levels = Array4::from_shape_fn((5, 3, 4, 3), |(n, y, x, c)| {
            (n * 1000 + y * 100 + x * 10 + c) as u16
        });
        write_npy(&path, levels.view())?;
        assert_eq!(Npy::open(&path)?.images()?, levels);
        Ok(())
    }

    #[test]
    fn every_kind_of_whole_number_is_read_and_negative_ones_are_refused() -> Result<()> {
        let mut bytes = Vec::new();
        Array3::<i64>::from_elem((1, 1, 2), 300).write_npy(&mut bytes)?;
        assert_eq!(
            Npy::parse(String::new(), bytes)?.images()?,
            Array4::from_elem((1, 1, 2, 1), 300)
        );
        let mut bytes = Vec::new();
        Array3::<i64>::from_elem((1, 1, 2), -1).write_npy(&mut bytes)?;
        assert_eq!(refusal(bytes), "x.npy: a level is -1, but must be 0..=65535");
        let mut bytes = Vec::new();
        Array3::<f32>::zeros((1, 1, 2)).write_npy(&mut bytes)?;
        assert!(refusal(bytes).contains("whole numbers"));
        Ok(())
    }

    #[test]
    fn a_huge_declared_size_is_refused_before_allocation() {
        let header =
            "{'descr': '<u2', 'fortran_order': False, 'shape': (9999999999, 1024, 1024), }\n";
        assert!(refusal(file(header, &[0; 64])).contains("does not fit its 64 bytes"));
        let header = "{'descr': '<u2', 'fortran_order': False, 'shape': (18446744073709551615, 1024, 3), }\n";
        assert!(refusal(file(header, &[0; 64])).contains("does not fit"));
        let mut long = [MAGIC, &[2, 0, 255, 255, 255, 255]].concat();
        long.resize(100, b' ');
        assert!(refusal(long).contains("must have at most 4096"));
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

    proptest! {
        #[test]
        fn random_bytes_are_refused_not_panicked_at(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let content = [MAGIC, &[1, 0], &tail[..]].concat();
            let _ = Npy::parse(String::new(), content).and_then(|npy| npy.images());
            let _ = Npy::parse(String::new(), tail);
        }

        #[test]
        fn an_edited_file_is_read_or_refused_not_panicked_at(at in 0usize..140, byte: u8, cut in 0usize..140) {
            let mut content = Vec::new();
            Array4::<u16>::zeros((2, 1, 2, 1)).write_npy(&mut content).unwrap();
            let at = at % content.len();
            content[at] = byte;
            let _ = Npy::parse(String::new(), content.clone()).and_then(|npy| npy.images());
            content.truncate(cut);
            let _ = Npy::parse(String::new(), content).and_then(|npy| npy.labels(2, 10));
        }
    }
}
