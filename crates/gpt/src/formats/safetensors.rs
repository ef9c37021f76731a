//! The container safetensors: read where it lies, written tensor by tensor.
//!
//! Eight bytes of length, a JSON header of that length, then the tensors' bytes without gaps:
//! <https://github.com/huggingface/safetensors#format>.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use core_layers::{
    checkpoint::{map_file, replace},
    encoded::{Bytes, Encoded, Encoding},
};
use safetensors::{Dtype, tensor::Metadata};
use serde_json::{Map, Value, json};

use super::shown;

/// Longest header that is read, in bytes: some 100,000 tensors.
const MAX_HEADER: u64 = 16 << 20;

/// A file taken apart; tensors are a part of its bytes.
#[derive(Debug, Default)]
pub(super) struct Safetensors {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: BTreeMap<String, Raw>,
}

/// A tensor as it lies in a file.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Bytes,
}

impl Safetensors {
    /// Maps a file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = map_file(path)?;
        Self::parse(&bytes).with_context(|| path.display().to_string())
    }

    /// Takes the bytes of a file apart.
    pub(super) fn parse(bytes: &Bytes) -> Result<Self> {
        let len = bytes.len() as u64;
        let start = bytes.first_chunk().map(|&it| u64::from_le_bytes(it));
        let start = start.filter(|&start| start <= MAX_HEADER);
        let start = start.with_context(|| {
            format!("is no safetensors file: {len} bytes, which do not start with a header")
        })?;
        ensure!(start <= len - 8, "is cut short: {len} bytes, but its header alone has {start}");
        let data = 8 + start as usize;
        let header: Metadata = serde_json::from_slice(&bytes[8..data])
            .map_err(|error| anyhow::anyhow!("its header is damaged: {error}"))?;
        let (announced, held) = (header.data_len(), bytes.len() - data);
        ensure!(
            announced == held,
            "holds {held} bytes of tensors, its header announces {announced}"
        );
        let mut tensors = BTreeMap::new();
        for (name, info) in header.tensors() {
            let (from, to) = info.data_offsets;
            let part = bytes.part(data + from..data + to);
            let bytes = part.with_context(|| format!("tensor {} lies outside", shown(&name)))?;
            tensors.insert(name, Raw { dtype: info.dtype, shape: info.shape.clone(), bytes });
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { metadata, tensors })
    }
}

impl Raw {
    /// The matrix, a vector being one row.
    pub(super) fn matrix(&self) -> Result<Encoded> {
        let encoding = match self.dtype {
            Dtype::F32 => Encoding::F32,
            Dtype::F16 => Encoding::F16,
            Dtype::BF16 => Encoding::Bf16,
            other => anyhow::bail!("holds {other}, but must hold one of F32, F16, BF16"),
        };
        let (rows, columns) = match self.shape[..] {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            _ => anyhow::bail!("has {} axes, but must have 1 or 2", self.shape.len()),
        };
        let matrix = Encoded::new(rows, columns, encoding, self.bytes.clone());
        let matrix = matrix.filter(|it| it.rows() > 0 && it.columns() > 0);
        matrix.with_context(|| format!("has impossible shape {:?}", self.shape))
    }
}

/// What fills a tensor's bytes when its turn comes.
pub(super) type Fill<'a> = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + 'a>;

/// A tensor to be written.
pub(super) struct Entry<'a> {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) fill: Fill<'a>,
}

/// Writes a file, whole or not at all. Equal tensors and metadata make equal files.
pub(super) fn write(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    entries: &BTreeMap<String, Entry<'_>>,
) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(metadata));
    let mut start = 0;
    for (name, entry) in entries {
        let end = start + entry.shape.iter().product::<usize>() * entry.dtype.bitsize() / 8;
        let offsets = [start, end];
        let described =
            json!({ "dtype": entry.dtype, "shape": entry.shape, "data_offsets": offsets });
        header.insert(name.clone(), described);
        start = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' '); // tensors aligned for whoever maps the file
    replace(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        entries.values().try_for_each(|entry| (entry.fill)(file))
    })?;
    Ok(())
}

/// Writes the rows of a matrix in an encoding that every row of it can have.
pub(super) fn rows_as(matrix: &Encoded, encoding: Encoding, out: &mut dyn Write) -> io::Result<()> {
    if encoding == matrix.encoding() {
        return out.write_all(matrix.bytes());
    }
    (0..matrix.rows()).try_for_each(|row| {
        let encoded = matrix.rows_at(row..row + 1).encode(encoding);
        out.write_all(encoded.expect("an encoding for this width").bytes())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let entry = |shape: &[usize], byte: u8| {
            let len = 2 * shape.iter().product::<usize>();
            let fill: Fill<'_> = Box::new(move |out| out.write_all(&vec![byte; len]));
            Entry { dtype: Dtype::BF16, shape: shape.to_vec(), fill }
        };
        let entries =
            BTreeMap::from([("b".into(), entry(&[2, 3], 1)), ("a".into(), entry(&[4], 2))]);
        write(&path, &BTreeMap::from([("format".into(), "pt".into())]), &entries).unwrap();
        std::fs::read(path).unwrap()
    }

    fn refusal(header: &str, data: usize) -> String {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        format!("{:#}", Safetensors::parse(&bytes.into()).unwrap_err())
    }

    #[test]
    fn what_is_written_is_read_without_a_copy() {
        let bytes = Bytes::from(file());
        let read = Safetensors::parse(&bytes).unwrap();
        assert_eq!(read.metadata["format"], "pt");
        let (a, b) = (&read.tensors["a"], &read.tensors["b"]);
        assert_eq!((a.shape.as_slice(), &a.bytes[..]), (&[4][..], &[2; 8][..]));
        assert_eq!((b.matrix().unwrap().rows(), b.matrix().unwrap().columns()), (2, 3));
        assert!(bytes.as_ptr_range().contains(&b.bytes.as_ptr()), "a part of the file");
    }

    #[test]
    fn lies_about_sizes_are_refused_in_one_line() {
        let tensor = |shape: &str, from: u64, to: u64| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
        };
        assert_eq!(
            refusal(&tensor("[2]", 0, 8), 4),
            "holds 4 bytes of tensors, its header announces 8"
        );
        for (header, data) in [
            (tensor("[3]", 0, 8), 8),
            (tensor("[4294967296, 4294967296, 4294967296]", 0, 8), 8),
            (tensor("[2]", 8, 16), 16),
            (tensor("[2]", 8, 0), 8),
            (tensor("[-1]", 0, 8), 8),
            ("[".repeat(100_000), 0),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.into(), 4),
        ] {
            let line = refusal(&header, data);
            assert!(line.starts_with("its header is damaged: ") && !line.contains('\n'), "{line}");
        }
        let huge = Bytes::from([&u64::MAX.to_le_bytes()[..], b"x"].concat());
        let line = format!("{:#}", Safetensors::parse(&huge).unwrap_err());
        assert!(line.starts_with("is no safetensors file: 9 bytes"), "{line}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Safetensors::parse(&bytes.into());
        }

        #[test]
        fn an_edited_or_cut_file_is_read_or_refused(at in 0usize..300, byte: u8, cut in 0usize..300) {
            let mut bytes = file();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = Safetensors::parse(&bytes.clone().into()) {
                for raw in read.tensors.values() {
                    let _ = raw.matrix().map(|it| it.to_f32());
                }
            }
            bytes.truncate(cut);
            let _ = Safetensors::parse(&bytes.into());
        }
    }
}
