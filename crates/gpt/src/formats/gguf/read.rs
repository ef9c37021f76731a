//! The container: a header of counts, metadata by key, tensors by name with offsets, padding, and the tensors' bytes.
//!
//! Little-endian, versions 2 and 3: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use core_layers::encoded::{Bytes, Encoded, Encoding};

use super::{
    cursor::{Cursor, shown},
    value::Value,
};

/// Where tensors start unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;

/// Most axes of a tensor.
const MAX_AXES: usize = 4;

/// A file taken apart; texts and arrays are the file's bytes, tensors a part of them.
#[derive(Debug)]
pub(super) struct Gguf<'a> {
    pub(super) metadata: BTreeMap<&'a str, Value<'a>>,
    pub(super) tensors: BTreeMap<&'a str, Encoded>,
}

/// A tensor as its entry describes it.
struct Entry<'a> {
    name: &'a str,
    rows: usize,
    columns: usize,
    encoding: Encoding,
    start: u64,
}

impl<'a> Gguf<'a> {
    /// Takes the bytes of a file apart.
    pub(super) fn parse(bytes: &'a Bytes) -> Result<Self> {
        let mut cursor = Cursor::new(bytes);
        ensure!(bytes.starts_with(b"GGUF"), "is no GGUF: it does not start with that word");
        cursor.take(4)?;
        let version = cursor.u32()?;
        ensure!(
            matches!(version, 2 | 3),
            "has GGUF version {version}, but must have 2 or 3, little-endian"
        );
        let tensors = cursor.count(8 + 4 + 8 + 4 + 8).context("of tensors")?;
        let keys = cursor.count(8 + 4 + 1).context("of metadata")?;
        let mut metadata = BTreeMap::new();
        for i in 0..keys {
            let key = cursor.text().with_context(|| format!("the key of metadata {i}"))?;
            let value =
                Value::read(&mut cursor).with_context(|| format!("metadata {}", shown(key)))?;
            let other = metadata.insert(key, value);
            ensure!(other.is_none(), "metadata {} stands twice", shown(key));
        }
        let mut entries = Vec::new();
        for i in 0..tensors {
            entries.push(Entry::read(&mut cursor).with_context(|| format!("tensor {i}"))?);
        }
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(&Value::Whole(x)) if (1..1 << 20).contains(&x) && x & (x - 1) == 0 => x as u64,
            Some(other) => {
                bail!("general.alignment is {other}, but must be a power of two below 2^20")
            }
        };
        let header = (bytes.len() - cursor.left()) as u64;
        let start = header.next_multiple_of(alignment).min(bytes.len() as u64);
        Ok(Self { metadata, tensors: tensors_of(bytes, start as usize, alignment, entries)? })
    }
}

impl<'a> Entry<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self> {
        let name = cursor.text()?;
        let described = Self::describe(name, cursor);
        described.with_context(|| shown(name))
    }

    fn describe(name: &'a str, cursor: &mut Cursor<'a>) -> Result<Self> {
        let axes = cursor.u32()? as usize;
        ensure!((1..=MAX_AXES).contains(&axes), "has {axes} axes, but must have 1 to {MAX_AXES}");
        let mut shape = [1; MAX_AXES];
        for axis in &mut shape[..axes] {
            *axis = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
        }
        let [columns, rest @ ..] = shape;
        let rows = rest.iter().try_fold(1usize, |rows, &axis| rows.checked_mul(axis));
        let rows = rows.filter(|&rows| rows > 0 && columns > 0);
        let rows = rows.with_context(|| format!("has impossible shape {:?}", &shape[..axes]))?;
        let kind = cursor.u32()?;
        let encoding = encoding(kind).with_context(|| {
            format!(
                "has type {kind}, but must have one of f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k"
            )
        })?;
        Ok(Self { name, rows, columns, encoding, start: cursor.u64()? })
    }

    /// Bytes of its values.
    fn bytes(&self) -> Result<usize> {
        let bytes = self.encoding.bytes(self.columns).with_context(|| {
            let (of_block, _) = self.encoding.block();
            format!(
                "has rows of {} values, {} needs a multiple of {of_block}",
                self.columns, self.encoding
            )
        })?;
        let (rows, columns) = (self.rows, self.columns);
        bytes.checked_mul(rows).with_context(|| format!("has impossible shape [{rows}, {columns}]"))
    }
}

/// The tensors, each a part of the bytes from `start` on: inside them, aligned, and none over another.
fn tensors_of<'a>(
    bytes: &Bytes,
    start: usize,
    alignment: u64,
    entries: Vec<Entry<'a>>,
) -> Result<BTreeMap<&'a str, Encoded>> {
    let data = bytes.part(start..bytes.len()).context("has no tensors")?;
    let (mut tensors, mut parts) = (BTreeMap::new(), Vec::new());
    for entry in entries {
        let name = entry.name;
        let placed = || {
            let len = entry.bytes()?;
            ensure!(
                entry.start.is_multiple_of(alignment),
                "starts at {}, but must at a multiple of {alignment}",
                entry.start
            );
            let from = usize::try_from(entry.start).ok();
            let part = from.and_then(|from| data.part(from..from.checked_add(len)?));
            let part = part.with_context(|| {
                format!(
                    "goes from {} over {len} bytes, the file has {} for tensors",
                    entry.start,
                    data.len()
                )
            })?;
            Encoded::new(entry.rows, entry.columns, entry.encoding, part).context("does not fit")
        };
        let tensor = placed().with_context(|| format!("tensor {}", shown(name)))?;
        parts.push((entry.start, entry.start + tensor.bytes().len() as u64, name));
        ensure!(tensors.insert(name, tensor).is_none(), "tensor {} stands twice", shown(name));
    }
    parts.sort_unstable();
    for pair in parts.windows(2) {
        let ((_, end, name), (start, _, other)) = (pair[0], pair[1]);
        ensure!(end <= start, "tensors {} and {} overlap", shown(name), shown(other));
    }
    Ok(tensors)
}

fn encoding(kind: u32) -> Option<Encoding> {
    Some(match kind {
        0 => Encoding::F32,
        1 => Encoding::F16,
        2 => Encoding::Q4_0,
        3 => Encoding::Q4_1,
        6 => Encoding::Q5_0,
        7 => Encoding::Q5_1,
        8 => Encoding::Q8_0,
        12 => Encoding::Q4K,
        13 => Encoding::Q5K,
        14 => Encoding::Q6K,
        30 => Encoding::Bf16,
        _ => return None,
    })
}
