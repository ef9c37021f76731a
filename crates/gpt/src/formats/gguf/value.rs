//! Metadata of a GGUF: values of thirteen kinds, left in the file's bytes where they are long.

use anyhow::{Context as _, Result, bail, ensure};

use super::cursor::{Cursor, shown};

/// A value; arrays stay bytes until they are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Whole(i128),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    Array { kind: u32, count: usize, bytes: &'a [u8] },
}

/// The kinds, by their numbers in a file.
const NAMES: [&str; 13] =
    ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "text", "array", "u64", "i64", "f64"];
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

impl<'a> Value<'a> {
    /// Reads a value, its kind before it.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self> {
        let kind = cursor.u32()?;
        if kind != ARRAY {
            return Self::of_kind(kind, cursor);
        }
        let kind = cursor.u32()?;
        ensure!(kind != ARRAY, "is an array of arrays, which nothing needs");
        let count = cursor.count(size(kind).unwrap_or(8))?; // a text has 8 bytes of length
        let mut rest = *cursor;
        if let Some(size) = size(kind) {
            cursor.take(count * size)?;
        } else {
            ensure!(kind == TEXT, "has kind {kind}, but must have 0 to 12");
            for _ in 0..count {
                let len = cursor.u64()?;
                cursor.take(usize::try_from(len).unwrap_or(usize::MAX))?;
            }
        }
        let bytes = rest.take(rest.left() - cursor.left())?;
        Ok(Self::Array { kind, count, bytes })
    }

    /// Reads a value of a kind that is no array.
    fn of_kind(kind: u32, cursor: &mut Cursor<'a>) -> Result<Self> {
        let size = size(kind).unwrap_or_default();
        Ok(match kind {
            6 => Self::Float(f32::from_bits(cursor.u32()?).into()),
            12 => Self::Float(f64::from_bits(cursor.u64()?)),
            7 => match cursor.take(1)?[0] {
                byte @ 0..=1 => Self::Bool(byte == 1),
                other => bail!("is a bool of {other}, but must be 0 or 1"),
            },
            TEXT => Self::Text(cursor.text()?),
            0..=5 | 10 | 11 => {
                let bytes = cursor.take(size)?;
                let raw = bytes.iter().rev().fold(0i128, |x, &byte| x << 8 | i128::from(byte));
                let is_negative = kind % 2 == 1 && bytes[size - 1] >= 0x80; // signed kinds are odd
                Self::Whole(if is_negative { raw - (1 << (8 * size)) } else { raw })
            }
            other => bail!("has kind {other}, but must have 0 to 12"),
        })
    }

    /// The entries of an array, each as `entry` makes it.
    pub(super) fn entries<T>(self, entry: impl Fn(Self) -> Option<T>) -> Result<Vec<T>> {
        let Self::Array { kind, count, bytes } = self else {
            bail!("is {self}, but must be an array");
        };
        let mut cursor = Cursor::new(bytes);
        let each = (0..count).map(|i| {
            let value = Self::of_kind(kind, &mut cursor).with_context(|| format!("entry {i}"))?;
            entry(value).with_context(|| format!("entry {i} is {value}, which does not fit"))
        });
        each.collect()
    }
}

/// Bytes of a value of a kind that is no text and no array.
fn size(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Whole(x) => write!(f, "{x}"),
            Self::Float(x) => write!(f, "{x}"),
            Self::Bool(x) => write!(f, "{x}"),
            Self::Text(text) => f.write_str(&shown(text)),
            Self::Array { kind, count, .. } => {
                write!(f, "an array of {count} {}", NAMES[kind as usize % NAMES.len()])
            }
        }
    }
}
