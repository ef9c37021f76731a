//! The headers of `NumPy`'s array files, read with suspicion: bounded, parsed without recursion, and a shape is believed
//! only where it fits the bytes that are there. The format is
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use anyhow::{Context, Result, bail, ensure};

/// What every file begins with.
pub const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read, bytes; what `NumPy` writes for images has 118.
const MAX_HEADER: usize = 4096;
/// Most axes of an array.
const MAX_AXES: usize = 4;

/// An array file's header and elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Npy<'a> {
    /// The element type in `NumPy`'s words: `<f4`, `|u1`, ...
    pub descr: &'a str,
    /// Lengths of the axes, elements by row.
    pub shape: Vec<usize>,
    /// The elements' bytes, not yet compared with the shape: see [`Npy::ensure_whole`].
    pub elements: &'a [u8],
}

impl<'a> Npy<'a> {
    /// Parses a file.
    ///
    /// # Errors
    /// One line, without the file's name, on what is not such a file, or has a header, an order of elements or a number of
    /// axes that is not supported.
    pub fn parse(content: &'a [u8]) -> Result<Self> {
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
        let descr = quoted(field(header, "descr")?).context("its header names no element type")?;
        let order = field(header, "fortran_order")?;
        ensure!(order.starts_with("False"), "its order is by column, but must be by row");
        let shape = shape(field(header, "shape")?)?;
        Ok(Self { descr, shape, elements: &content[start..] })
    }

    /// Refuses a file whose shape, with elements of `size` bytes, is not exactly what it holds.
    ///
    /// # Errors
    /// One line with both.
    pub fn ensure_whole(&self, size: usize) -> Result<()> {
        let bytes = self.shape.iter().try_fold(size, |product, &axis| product.checked_mul(axis));
        let (shape, held) = (&self.shape, self.elements.len());
        ensure!(
            bytes == Some(held),
            "its shape {shape:?} does not fit its {held} bytes of elements"
        );
        Ok(())
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
    let count = axes.len();
    ensure!(count <= MAX_AXES, "its array has {count} axes, but must have at most {MAX_AXES}");
    axes.iter()
        .map(|axis| axis.parse().with_context(|| format!("an axis of its shape is {axis:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(header: &str, elements: &[u8]) -> Vec<u8> {
        let len = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &len, header.as_bytes(), elements].concat()
    }

    #[test]
    fn a_header_says_what_the_elements_are() {
        let content =
            file("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n", &[0; 8]);
        let npy = Npy::parse(&content).unwrap();
        assert_eq!(npy, Npy { descr: "<f4", shape: vec![1, 2], elements: &[0; 8] });
        assert!(npy.ensure_whole(4).is_ok());
        let refusal = npy.ensure_whole(8).unwrap_err().to_string();
        assert_eq!(refusal, "its shape [1, 2] does not fit its 8 bytes of elements");
    }

    #[test]
    fn a_huge_announced_size_is_refused() {
        let header =
            "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 4), }\n";
        assert!(Npy::parse(&file(header, &[0; 16])).unwrap().ensure_whole(4).is_err());
        let mut long = [MAGIC, &[2, 0, 255, 255, 255, 255]].concat();
        long.resize(100, b' ');
        assert!(Npy::parse(&long).unwrap_err().to_string().contains("must have at most 4096"));
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_not_panicked_at(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Npy::parse(&tail);
            let _ = Npy::parse(&[MAGIC, &[1, 0], &tail[..]].concat());
        }

        #[test]
        fn an_edited_file_is_read_or_refused_not_panicked_at(at in 0usize..90, byte: u8, cut in 0usize..90) {
            let mut content =
                file("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n", &[0; 8]);
            let at = at % content.len();
            content[at] = byte;
            if let Ok(npy) = Npy::parse(&content) {
                let _ = npy.ensure_whole(4);
            }
            content.truncate(cut);
            let _ = Npy::parse(&content);
        }
    }
}
