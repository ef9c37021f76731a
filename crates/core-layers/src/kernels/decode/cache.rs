//! Keys and values of the positions that a text has so far, of one layer.
//!
//! Letters: K heads, E width of a head. Keys lie as `[head][position / 16][E][16]`, so that a query's products with 16 of
//! them need no sum across a vector; values as `[head][position][E, rounded up to 16]`.

use half::f16;

use super::{
    elementwise::Kernel,
    lanes::{Lanes, Task},
    level::LANES,
};

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// IEEE halves; what they cannot hold becomes the greatest that they can.
    F16,
    /// Singles, at twice the memory.
    F32,
}

/// Keys and values of up to a fixed number of positions.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(super) heads: usize,
    pub(super) d_head: usize,
    pub(super) positions: usize,
    pub(super) numbers: Kept,
}

/// What a [`Cache`] holds.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    F16(Pair<u16>),
    F32(Pair<f32>),
}

#[derive(Debug, Clone)]
pub(super) struct Pair<T> {
    pub(super) keys: Vec<T>,
    pub(super) values: Vec<T>,
}

/// Positions that attention may look at together, beyond the last that is there.
pub(super) const BLOCK: usize = 64;

impl Cache {
    /// Room for `positions`, K heads of width E. The system gives memory when it is written to.
    ///
    /// # Panics
    /// If that overflows.
    pub fn new(numbers: Numbers, positions: usize, heads: usize, d_head: usize) -> Self {
        let positions = positions.next_multiple_of(BLOCK);
        let room = |width: usize| {
            let count = positions.checked_mul(heads).and_then(|it| it.checked_mul(width));
            count.expect("a cache that fits into memory")
        };
        let (keys, values) = (room(d_head), room(d_head.next_multiple_of(LANES)));
        let numbers = match numbers {
            Numbers::F16 => Kept::F16(Pair { keys: vec![0; keys], values: vec![0; values] }),
            Numbers::F32 => Kept::F32(Pair { keys: vec![0.; keys], values: vec![0.; values] }),
        };
        Self { heads, d_head, positions, numbers }
    }

    /// Keeps the keys and values `[K][E]` of a position.
    ///
    /// # Panics
    /// If there is no such position, or slices have another length.
    pub fn put(&mut self, kernel: Kernel, position: usize, keys: &[f32], values: &[f32]) {
        let width = self.heads * self.d_head;
        assert!(position < self.positions, "position {position} of {}", self.positions);
        assert_eq!((keys.len(), values.len()), (width, width), "keys and values of a position");
        let (d_head, positions) = (self.d_head, self.positions);
        match &mut self.numbers {
            Kept::F16(pair) => kernel.run(Put { pair, d_head, positions, position, keys, values }),
            Kept::F32(pair) => kernel.run(Put { pair, d_head, positions, position, keys, values }),
        }
    }

    /// Takes over the first `len` positions of another.
    ///
    /// # Panics
    /// If it is not a cache of the same size and kind.
    pub fn copy_from(&mut self, other: &Self, len: usize) {
        let shape = |it: &Self| (it.heads, it.d_head, it.positions);
        assert_eq!(shape(self), shape(other), "caches of one size");
        let (heads, d_head) = (self.heads, self.d_head);
        match (&mut self.numbers, &other.numbers) {
            (Kept::F16(to), Kept::F16(from)) => copy(to, from, heads, d_head, len),
            (Kept::F32(to), Kept::F32(from)) => copy(to, from, heads, d_head, len),
            _ => panic!("caches of one kind"),
        }
    }
}

fn copy<T: Copy>(to: &mut Pair<T>, from: &Pair<T>, heads: usize, d_head: usize, len: usize) {
    let parts = [
        (&mut to.keys, &from.keys, d_head, len.next_multiple_of(LANES)),
        (&mut to.values, &from.values, d_head.next_multiple_of(LANES), len),
    ];
    for (to, from, width, len) in parts {
        let room = to.len() / heads.max(1);
        for (to, from) in to.chunks_exact_mut(room).zip(from.chunks_exact(room)) {
            to[..len * width].copy_from_slice(&from[..len * width]);
        }
    }
}

/// A number in which keys and values are kept.
pub(super) trait Number: Copy + Default {
    /// 16 of them.
    ///
    /// # Safety
    /// The processor has the instructions, and they can be read.
    unsafe fn load<L: Lanes>(from: *const Self) -> L::Floats;

    /// The nearest to 16 singles.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn of<L: Lanes>(xs: [f32; LANES]) -> [Self; LANES];
}

impl Number for u16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::Floats {
        // SAFETY: by the contract of the trait.
        unsafe { L::load_f16(from) }
    }

    #[inline(always)]
    unsafe fn of<L: Lanes>(xs: [f32; LANES]) -> [Self; LANES] {
        let most = f16::MAX.to_f32_const();
        let xs = xs.map(|x| x.clamp(-most, most));
        let mut halves = [0; LANES];
        // SAFETY: by the contract of the trait; both are 16 numbers.
        unsafe { L::store_f16(L::load(xs.as_ptr()), halves.as_mut_ptr()) };
        halves
    }
}

impl Number for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L::Floats {
        // SAFETY: by the contract of the trait.
        unsafe { L::load(from) }
    }

    #[inline(always)]
    unsafe fn of<L: Lanes>(xs: [f32; LANES]) -> [Self; LANES] {
        xs
    }
}

/// [`Cache::put`] as a task.
struct Put<'a, T> {
    pair: &'a mut Pair<T>,
    d_head: usize,
    positions: usize,
    position: usize,
    keys: &'a [f32],
    values: &'a [f32],
}

impl<T: Number> Task for Put<'_, T> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (width, padded) = (self.d_head, self.d_head.next_multiple_of(LANES));
        let (block, lane) = (self.position / LANES, self.position % LANES);
        let heads = self.keys.chunks_exact(width).zip(self.values.chunks_exact(width));
        for (head, (keys, values)) in heads.enumerate() {
            let at = (head * self.positions + block * LANES) * width;
            let columns = self.pair.keys[at..at + LANES * width].as_chunks_mut::<LANES>().0;
            let at = (head * self.positions + self.position) * padded;
            let row = self.pair.values[at..at + padded].as_chunks_mut::<LANES>().0;
            let parts = keys.chunks(LANES).zip(values.chunks(LANES));
            for (((keys, values), columns), row) in parts.zip(columns.chunks_mut(LANES)).zip(row) {
                let mut xs = [[0f32; LANES]; 2];
                xs[0][..keys.len()].copy_from_slice(keys);
                xs[1][..values.len()].copy_from_slice(values);
                // SAFETY: the processor has the instructions, since this is a task.
                let [keys, values] = xs.map(|xs| unsafe { T::of::<L>(xs) });
                *row = values;
                for (column, key) in columns.iter_mut().zip(keys) {
                    column[lane] = key;
                }
            }
        }
    }
}
