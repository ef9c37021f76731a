//! `NumPy`'s array files, read; and the header of one that is written piece by piece.
//!
//! The reader is our own, and small, since files are hostile: the header is bounded and parsed without recursion, and a
//! shape is believed only where it fits the bytes that are there. The format is
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};

/// Longest header that is read, bytes; what `NumPy` writes for images has 118.
const MAX_HEADER: usize = 4096;
const MAGIC: &[u8] = b"\x93NUMPY";

/// An array file in memory, rows before columns; its numbers are little-endian.
#[derive(Debug)]
pub struct Npy {
    name: String,
    content: Vec<u8>,
    start: usize,
    element: Element,
    shape: Vec<usize>,
}

/// What the numbers are.
#[derive(Debug, Clone, Copy)]
enum Element {
    Whole { size: usize, signed: bool },
    Float { size: usize },
}

impl Element {
    fn of(descr: &str) -> Result<Self> {
        let whole = |size, signed| Self::Whole { size, signed };
        Ok(match descr {
            "|u1" | "|b1" => whole(1, false),
            "|i1" => whole(1, true),
            "<u2" => whole(2, false),
            "<i2" => whole(2, true),
            "<u4" => whole(4, false),
            "<i4" => whole(4, true),
            "<u8" => whole(8, false),
            "<i8" => whole(8, true),
            "<f4" => Self::Float { size: 4 },
            "<f8" => Self::Float { size: 8 },
            _ => bail!("its elements are {descr:?}, but must be numbers, little endian"),
        })
    }

    /// Bytes of one number.
    const fn size(self) -> usize {
        match self {
            Self::Whole { size, .. } | Self::Float { size } => size,
        }
    }
}

fn whole(bytes: &[u8], signed: bool) -> i128 {
    let raw = bytes.iter().rev().fold(0i128, |value, &byte| value << 8 | i128::from(byte));
    let negative = signed && bytes.last().is_some_and(|&byte| byte >= 0x80);
    if negative { raw - (1 << (8 * bytes.len())) } else { raw }
}

fn float(bytes: &[u8]) -> f32 {
    let four = |bytes| f32::from_le_bytes(bytes);
    let eight = |bytes| f64::from_le_bytes(bytes) as f32;
    bytes.try_into().map(four).or_else(|_| bytes.try_into().map(eight)).expect("4 or 8 bytes")
}

impl Npy {
    /// Reads a file, header and shape checked.
    ///
    /// # Errors
    /// One line on a file that cannot be read or is no array file of numbers.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let content = fs::read(path).with_context(|| name.clone())?;
        Self::parse(name, content)
    }

    /// Takes a file's bytes, header and shape checked; `name` is for messages.
    ///
    /// # Errors
    /// One line on bytes that are no array file of numbers.
    pub fn parse(name: String, content: Vec<u8>) -> Result<Self> {
        let (start, element, shape) = header(&content).with_context(|| name.clone())?;
        Ok(Self { name, content, start, element, shape })
    }

    /// The path as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's bytes.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Lengths of the axes, at most four.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All numbers, row by row, where they are whole ones and `0..=max`; `what` says what one is.
    ///
    /// # Errors
    /// One line on floating-point numbers, and on the first number out of range.
    pub fn whole_numbers<T: TryFrom<i128>>(&self, what: &str, max: i128) -> Result<Vec<T>> {
        let (size, signed) = match self.element {
            Element::Whole { size, signed } => (size, signed),
            Element::Float { size } => bail!(
                "{}: its elements are \"<f{size}\", but must be whole numbers, little endian",
                self.name
            ),
        };
        let checked = self.elements(size).map(|bytes| whole(bytes, signed)).map(|value| {
            match T::try_from(value) {
                Ok(number) if (0..=max).contains(&value) => Ok(number),
                _ => bail!("{}: a {what} is {value}, but must be 0..={max}", self.name),
            }
        });
        checked.collect()
    }

    /// All numbers, row by row, rounded to 32 bits; `what` says what one is.
    ///
    /// # Errors
    /// One line on the first that is not finite.
    pub fn finite_numbers(&self, what: &str) -> Result<Vec<f32>> {
        let value = |bytes: &[u8]| match self.element {
            Element::Whole { signed, .. } => whole(bytes, signed) as f32,
            Element::Float { .. } => float(bytes),
        };
        let checked = self.elements(self.element.size()).map(value).map(|value| {
            ensure!(value.is_finite(), "{}: a {what} is {value}, but must be finite", self.name);
            Ok(value)
        });
        checked.collect()
    }

    fn elements(&self, size: usize) -> impl Iterator<Item = &[u8]> {
        self.content[self.start..].chunks_exact(size)
    }
}

/// Begins an array file of f32 of `shape`; its numbers follow, little endian, row by row.
///
/// # Errors
/// What `out` says.
pub fn write_f32_header(out: &mut impl Write, shape: &[usize]) -> io::Result<()> {
    let axes = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({axes},), }}");
    while !(MAGIC.len() + 4 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())
}

/// Where the numbers start, what they are, and in which shape.
fn header(content: &[u8]) -> Result<(usize, Element, Vec<usize>)> {
    ensure!(content.starts_with(MAGIC) && content.len() >= 12, "not an .npy file");
    let (prefix, len) = match content[6] {
        1 => (10, u16::from_le_bytes([content[8], content[9]]) as usize),
        2 | 3 => {
            (12, u32::from_le_bytes([content[8], content[9], content[10], content[11]]) as usize)
        }
        version => bail!("its .npy format has version {version}, but must have 1, 2 or 3"),
    };
    ensure!(len <= MAX_HEADER, "its header has {len} bytes, but must have at most {MAX_HEADER}");
    let start = prefix + len;
    let header = content.get(prefix..start).context("it ends within its header")?;
    let header = std::str::from_utf8(header).context("its header is not text")?;
    let descr = quoted(field(header, "descr")?).context("its header names no element type")?;
    let element = Element::of(descr)?;
    let order = field(header, "fortran_order")?;
    ensure!(order.starts_with("False"), "its order is by column, but must be by row");
    let shape = shape(field(header, "shape")?)?;
    let bytes = shape.iter().try_fold(element.size(), |product, &axis| product.checked_mul(axis));
    let held = content.len() - start;
    ensure!(bytes == Some(held), "its shape {shape:?} does not fit its {held} bytes of elements");
    Ok((start, element, shape))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn a_header_is_read_back_and_aligned() -> Result<()> {
        for shape in [&[2, 3][..], &[6], &[1, 2, 3]] {
            let mut content = Vec::new();
            write_f32_header(&mut content, shape)?;
            assert_eq!(content.len() % 64, 0);
            let numbers = [1f32, -2., 0.5, 3., 4., 5.];
            content.extend(numbers.iter().flat_map(|it| it.to_le_bytes()));
            let npy = Npy::parse("x.npy".into(), content)?;
            assert_eq!(npy.shape(), shape);
            assert_eq!(npy.finite_numbers("number")?, numbers);
        }
        Ok(())
    }

    use super::*;

    fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let len = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &len, header.as_bytes(), data].concat()
    }

    fn parse(content: Vec<u8>) -> Result<Npy> {
        Npy::parse("x.npy".into(), content)
    }

    fn refusal(content: Vec<u8>) -> String {
        let read = parse(content).and_then(|npy| npy.whole_numbers::<u16>("level", 65_535));
        format!("{:#}", read.unwrap_err())
    }

    #[test]
    fn whole_numbers_are_read_in_range_and_floats_are_not_taken_for_them() -> Result<()> {
        let npy = parse(file("<i8", "2,", &[300i64.to_le_bytes(), 1i64.to_le_bytes()].concat()))?;
        assert_eq!(
            (npy.shape(), npy.whole_numbers::<u16>("level", 65_535)?),
            (&[2][..], vec![300, 1])
        );
        let negative = refusal(file("<i8", "1,", &(-1i64).to_le_bytes()));
        assert_eq!(negative, "x.npy: a level is -1, but must be 0..=65535");
        let floats = "x.npy: its elements are \"<f4\", but must be whole numbers, little endian";
        assert_eq!(refusal(file("<f4", "1,", &[0; 4])), floats);
        let big_endian = "x.npy: its elements are \">f4\", but must be numbers, little endian";
        assert_eq!(refusal(file(">f4", "1,", &[0; 4])), big_endian);
        Ok(())
    }

    #[test]
    fn numbers_of_any_kind_are_read_as_floats_where_they_are_finite() -> Result<()> {
        let mut npy =
            parse(file("<f8", "1, 2", &[0.5f64.to_le_bytes(), (-3f64).to_le_bytes()].concat()))?;
        assert_eq!(npy.finite_numbers("feature")?, [0.5, -3.]);
        npy = parse(file("<f4", "2,", &[1.5f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat()))?;
        let refusal = npy.finite_numbers("feature").unwrap_err().to_string();
        assert_eq!(refusal, "x.npy: a feature is NaN, but must be finite");
        npy = parse(file("|i1", "2,", &[255, 7]))?;
        assert_eq!(npy.finite_numbers("feature")?, [-1., 7.]);
        Ok(())
    }

    #[test]
    fn a_huge_declared_size_is_refused_before_allocation() {
        let huge = file("<u2", "9999999999, 1024, 1024", &[0; 64]);
        assert!(refusal(huge).contains("does not fit its 64 bytes"));
        let overflowing = file("<u2", "18446744073709551615, 1024, 3", &[0; 64]);
        assert!(refusal(overflowing).contains("does not fit"));
        let mut long = [MAGIC, &[2, 0, 255, 255, 255, 255]].concat();
        long.resize(100, b' ');
        assert!(refusal(long).contains("must have at most 4096"));
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_not_panicked_at(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let content = [MAGIC, &[1, 0], &tail[..]].concat();
            let _ = parse(content).and_then(|npy| npy.whole_numbers::<u8>("level", 255));
            let _ = parse(tail);
        }

        #[test]
        fn an_edited_file_is_read_or_refused_not_panicked_at(at in 0usize..100, byte: u8, cut in 0usize..100) {
            let mut content = file("<u2", "2, 1, 2, 1", &[0; 8]);
            let at = at % content.len();
            content[at] = byte;
            let read = parse(content.clone());
            let _ = read.as_ref().map(|npy| npy.whole_numbers::<u16>("level", 65_535));
            let _ = read.map(|npy| npy.finite_numbers("feature"));
            content.truncate(cut);
            let _ = parse(content);
        }
    }
}
