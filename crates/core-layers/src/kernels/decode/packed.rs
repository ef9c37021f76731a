//! Weights in the order in which kernels read them.
//!
//! A tile is 32 outputs, all inputs. Of plain numbers it is `[input][32]`. Of integers it is groups one after the other,
//! each `[scales of 32][least values of 32, if any][four inputs, or eight that share bytes][32][4]`: as many bytes as
//! were delivered (but for K blocks, whose scales become singles, and blocks of 5 and 6 bits, whose values become
//! bytes), read from end to end. Outputs beyond the last are zeros.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    memory::Memory,
    unpack::{Block, Integers, Offset},
};
use crate::encoded::{Encoded, Encoding};

/// Outputs of a tile.
pub(super) const TILE: usize = 32;

/// How a matrix is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F16,
    Bf16,
    Integers(Integers),
}

impl Format {
    const fn of(encoding: Encoding) -> Self {
        match (encoding, Integers::of(encoding)) {
            (Encoding::F16, _) => Self::F16,
            (Encoding::Bf16, _) => Self::Bf16,
            (_, Some(integers)) => Self::Integers(integers),
            (_, None) => Self::F32,
        }
    }

    /// Bytes of a tile of `inputs`.
    pub(super) const fn tile_bytes(self, inputs: usize) -> usize {
        match self {
            Self::F32 => 4 * TILE * inputs,
            Self::F16 | Self::Bf16 => 2 * TILE * inputs,
            Self::Integers(it) => inputs / it.group * it.group_bytes(),
        }
    }
}

impl Integers {
    /// Bytes of the scales, or least values, of a group.
    const fn scale_bytes(self) -> usize {
        TILE * self.scale.bytes()
    }

    /// Bytes of a group before its integers.
    pub(super) const fn head_bytes(self) -> usize {
        match self.offset {
            Offset::Least => 2 * self.scale_bytes(),
            Offset::Bias(_) => self.scale_bytes(),
        }
    }

    /// Bytes of a group.
    pub(super) const fn group_bytes(self) -> usize {
        self.head_bytes() + TILE * self.group / if self.nibbles { 2 } else { 1 }
    }
}

/// A matrix `[outs, inputs]`, ready for [`super::Workers::accumulate`].
#[derive(Debug, Clone)]
pub struct Packed {
    memory: Arc<Memory>,
    from: usize,
    outs: usize,
    inputs: usize,
    format: Format,
}

impl Packed {
    /// Packs matrices, one after the other in one stretch of memory: best in the order in which they will be read.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub fn all(matrices: &[&Encoded], threads: usize) -> io::Result<Vec<Self>> {
        let too_much = || io::Error::from(io::ErrorKind::OutOfMemory);
        let mut sizes = Vec::with_capacity(matrices.len());
        for it in matrices {
            let tile = Format::of(it.encoding()).tile_bytes(it.columns());
            sizes.push(it.rows().div_ceil(TILE).checked_mul(tile).ok_or_else(too_much)?);
        }
        let total = sizes.iter().try_fold(0, |sum: usize, &size| sum.checked_add(size));
        let mut memory = Memory::new(total.ok_or_else(too_much)?)?;
        fill(matrices, &sizes, memory.bytes_mut(), threads);
        let memory = Arc::new(memory);
        let mut from = 0;
        let packed = matrices.iter().zip(&sizes).map(|(it, size)| {
            from += size;
            Self {
                memory: Arc::clone(&memory),
                from: from - size,
                outs: it.rows(),
                inputs: it.columns(),
                format: Format::of(it.encoding()),
            }
        });
        Ok(packed.collect())
    }

    /// Outputs.
    pub const fn outs(&self) -> usize {
        self.outs
    }

    /// Outputs, rounded up to whole tiles: what a column of results has room for.
    pub const fn padded_outs(&self) -> usize {
        self.outs.next_multiple_of(TILE)
    }

    /// Inputs.
    pub const fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes that are read for each token.
    pub const fn bytes(&self) -> usize {
        self.tiles() * self.format.tile_bytes(self.inputs)
    }

    pub(super) const fn tiles(&self) -> usize {
        self.outs.div_ceil(TILE)
    }

    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// All tiles.
    pub(super) fn lines(&self) -> &[u8] {
        &self.memory.bytes()[self.from..self.from + self.bytes()]
    }
}

/// Tiles that a thread takes at once.
const SHARE: usize = 16;

fn fill(matrices: &[&Encoded], sizes: &[usize], mut to: &mut [u8], threads: usize) {
    let mut work = Vec::new();
    for (&matrix, &size) in matrices.iter().zip(sizes) {
        let (mine, rest) = to.split_at_mut(size);
        to = rest;
        let tile = Format::of(matrix.encoding()).tile_bytes(matrix.columns());
        let shares = mine.chunks_mut((SHARE * tile).max(1)).enumerate();
        work.extend(shares.map(|(i, share)| (matrix, i * SHARE, tile, share)));
    }
    let work = Mutex::new(work.into_iter());
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
    let pack = || {
        while let Some((matrix, first, tile, share)) = next() {
            for (i, to) in share.chunks_exact_mut(tile).enumerate() {
                pack_tile(matrix, first + i, to);
            }
        }
    };
    std::thread::scope(|scope| {
        let others = (1..threads).map(|_| std::thread::Builder::new().spawn_scoped(scope, pack));
        let _others: Vec<_> = others.collect(); // those that do not start leave their share to the rest
        pack();
    });
}

fn pack_tile(matrix: &Encoded, tile: usize, to: &mut [u8]) {
    let rows = (tile * TILE..matrix.rows()).take(TILE);
    match Format::of(matrix.encoding()) {
        Format::F32 => pack_numbers::<4>(matrix, rows, to),
        Format::F16 | Format::Bf16 => pack_numbers::<2>(matrix, rows, to),
        Format::Integers(it) => match (it.group, it.nibbles) {
            (16, _) => pack_integers::<16, false>(it, matrix, rows, to),
            (32, false) => pack_integers::<32, false>(it, matrix, rows, to),
            (32, true) => pack_integers::<32, true>(it, matrix, rows, to),
            (_, false) => pack_integers::<64, false>(it, matrix, rows, to),
            (_, true) => pack_integers::<64, true>(it, matrix, rows, to),
        },
    }
}

fn pack_numbers<const BYTES: usize>(
    matrix: &Encoded,
    rows: impl Iterator<Item = usize>,
    to: &mut [u8],
) {
    let to = to.as_chunks_mut::<BYTES>().0;
    for (lane, row) in rows.enumerate() {
        for (k, number) in matrix.row(row).as_chunks::<BYTES>().0.iter().enumerate() {
            to[k * TILE + lane] = *number;
        }
    }
}

fn pack_integers<const GROUP: usize, const NIBBLES: bool>(
    integers: Integers,
    matrix: &Encoded,
    rows: impl Iterator<Item = usize>,
    to: &mut [u8],
) {
    let (values, size) = matrix.encoding().block();
    let (scale, head) = (integers.scale.bytes(), integers.head_bytes());
    let groups_of_a_block = values / GROUP;
    let mut read = Block::new();
    for (lane, row) in rows.enumerate() {
        for (b, block) in matrix.row(row).chunks_exact(size).enumerate() {
            read.read(matrix.encoding(), block);
            for g in 0..groups_of_a_block {
                let at = (b * groups_of_a_block + g) * integers.group_bytes();
                let (heads, lines) = to[at..at + integers.group_bytes()].split_at_mut(head);
                heads[lane * scale..][..scale]
                    .copy_from_slice(&read.scales[g].to_le_bytes()[..scale]);
                if integers.offset == Offset::Least {
                    heads[(TILE + lane) * scale..][..scale]
                        .copy_from_slice(&read.least[g].to_le_bytes()[..scale]);
                }
                let q = &read.q[g * GROUP..][..GROUP];
                place::<GROUP, NIBBLES>(q, lane, lines);
            }
        }
    }
}

/// Writes the integers of one output. Of nibbles, value i shares a byte with value `i + GROUP / 2`.
#[inline]
fn place<const GROUP: usize, const NIBBLES: bool>(q: &[u8], lane: usize, lines: &mut [u8]) {
    let lines = lines.as_chunks_mut::<4>().0;
    let (low, high) = q.as_chunks::<4>().0.split_at(if NIBBLES { GROUP / 8 } else { GROUP / 4 });
    for (j, low) in low.iter().enumerate() {
        let mut quad = *low;
        if NIBBLES {
            for (quad, high) in quad.iter_mut().zip(high[j]) {
                *quad |= high << 4;
            }
        }
        lines[j * TILE + lane] = quad;
    }
}
