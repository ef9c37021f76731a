//! Matrices as files hold them: plain numbers, or rows of quantised blocks that stay as they were delivered.
//!
//! A row of `columns` values is `columns / values` blocks of `bytes` each ([`Encoding::block`]), one after the other; rows
//! follow each other without gaps. Numbers are little-endian and stand in the order in which [`Encoding`] lists them.
//! Where nibbles are not of a block of 256, byte i of the n of a block holds value i in its low half and value n + i in its
//! high one.

mod bytes;
mod k;
mod plain;
#[cfg(test)]
mod tests;
mod write;

use std::{fmt, ops::Range};

pub use bytes::Bytes;

/// How numbers are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// GGML: f16 scale `d`, 32 signed bytes; `d q`.
    Q8_0,
    /// GGML: f16 scale `d`, 32 nibbles; `d (q - 8)`.
    Q4_0,
    /// GGML: f16 scale `d`, f16 least value `m`, 32 nibbles; `d q + m`.
    Q4_1,
    /// GGML: f16 scale `d`, 32 high bits, 32 nibbles; `d (q - 16)`.
    Q5_0,
    /// GGML: f16 scale `d`, f16 least value `m`, 32 high bits, 32 nibbles; `d q + m`.
    Q5_1,
    /// GGML: 256 values, 8 sub-blocks of 4 bits with 6-bit scales and least values.
    Q4K,
    /// GGML: 256 values, 8 sub-blocks of 5 bits with 6-bit scales and least values.
    Q5K,
    /// GGML: 256 values, 16 sub-blocks of 6 bits with 8-bit scales.
    Q6K,
    /// Ours: bf16 scale `d`, 64 signed bytes; `d q`.
    Int8,
    /// Ours: bf16 scale `d`, 64 nibbles; `d (q - 8)`.
    Int4,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Int8,
        Self::Int4,
    ];

    /// The encoding of a [name](Self::name).
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Values and bytes of one block.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Int8 => (64, 66),
            Self::Int4 => (64, 34),
        }
    }

    /// Its name in files, tables and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// Bytes of `values` in a row; none if they do not fill whole blocks, or are too many.
    pub fn bytes(self, values: usize) -> Option<usize> {
        let (of_block, bytes) = self.block();
        values.is_multiple_of(of_block).then(|| (values / of_block).checked_mul(bytes)).flatten()
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A matrix `[rows, columns]` as a file holds it; a vector is one row.
#[derive(Clone)]
pub struct Encoded {
    rows: usize,
    columns: usize,
    encoding: Encoding,
    bytes: Bytes,
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}] {}", self.rows, self.columns, self.encoding)
    }
}

impl Encoded {
    /// `rows` of `columns` values in `bytes`; none unless they are as many bytes as that takes.
    pub fn new(rows: usize, columns: usize, encoding: Encoding, bytes: Bytes) -> Option<Self> {
        let needed = encoding.bytes(columns)?.checked_mul(rows)?;
        (bytes.len() == needed).then_some(Self { rows, columns, encoding, bytes })
    }

    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// How its numbers are written.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// All bytes, row by row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Some of its rows, in place.
    ///
    /// # Panics
    /// If there are no such rows.
    #[must_use]
    pub fn rows_at(&self, rows: Range<usize>) -> Self {
        let len = self.bytes.len() / self.rows;
        let bytes = self.bytes.part(rows.start * len..rows.end * len);
        let bytes = bytes.expect("rows that the matrix has");
        Self { rows: rows.len(), bytes, ..*self }
    }

    /// A copy whose row i is row `rows[i]` of this.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn with_rows(&self, rows: &[usize]) -> Self {
        let bytes: Vec<u8> = rows.iter().flat_map(|&row| self.row(row)).copied().collect();
        Self { rows: rows.len(), bytes: Bytes::from(bytes), ..*self }
    }

    /// The same values in another encoding, rounded; these bytes where it is the same already. None if rows do not fill
    /// whole blocks, or if it is an encoding that is only read: `Q5_0`, `Q5_1` and those of 256 values.
    ///
    /// Values have to be finite: others become some number or other.
    pub fn encode(&self, encoding: Encoding) -> Option<Self> {
        if encoding == self.encoding {
            return Some(self.clone());
        }
        let size = encoding.bytes(self.columns)?.checked_mul(self.rows)?;
        let (mut bytes, mut values) = (Vec::with_capacity(size), vec![0.; self.columns]);
        for row in 0..self.rows {
            self.decode_row(row, &mut values);
            if !write::encode(encoding, &values, &mut bytes) {
                return None;
            }
        }
        Self::new(self.rows, self.columns, encoding, Bytes::from(bytes))
    }

    /// The bytes of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[u8] {
        let len = self.bytes.len() / self.rows;
        &self.bytes[row * len..(row + 1) * len]
    }

    /// Writes the values of a row.
    ///
    /// # Panics
    /// If there is no such row, or `out` has not its length.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.columns, "a row has {} values", self.columns);
        plain::decode(self.encoding, self.row(row), out);
    }

    /// All values, row by row.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.; self.rows * self.columns];
        for (row, out) in values.chunks_exact_mut(self.columns.max(1)).enumerate() {
            self.decode_row(row, out);
        }
        values
    }

    /// The matrix of plain singles.
    ///
    /// # Panics
    /// Unless there are `rows * columns` values.
    pub fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Self {
        assert_eq!(values.len(), rows * columns, "a value for each place");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { rows, columns, encoding: Encoding::F32, bytes: Bytes::from(bytes) }
    }
}
