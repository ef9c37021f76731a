//! `y[c][o] += sum_k w[o][k] x[c][k]` for columns c of activations: every tile of weights comes from memory once for all of
//! them, and from the cache once for as many columns as the registers hold.
//!
//! Each output is one chain of operations over k, whatever the columns beside it and the thread that computes it. Of
//! integers, a group's products are summed exactly, then `y += d s (sum q_w q_x - bias sum q_x) + m s sum q_x`.

use std::marker::PhantomData;

use super::{
    inputs::{Groups, Inputs},
    lanes::{Lanes, Task},
    level::LANES,
    packed::{Format, Packed, TILE},
    pool::Parts,
    unpack::{Integers, Offset, Scale},
};

/// Some tiles of a matrix times all columns.
pub(super) struct Tiles<'a> {
    pub(super) weights: &'a Packed,
    pub(super) inputs: &'a Inputs,
    pub(super) first: usize,
    pub(super) end: usize,
    /// `[column][padded outs]`.
    pub(super) ys: &'a Parts<'a, f32>,
}

/// Bytes from a line to the one that is asked for: the two that come next. The processor's own prefetcher looks further, and is
/// disturbed by those who do so too (measured: 40 GB/s a core with 128 bytes, 22 with 1024 or without asking).
pub(super) const AHEAD: usize = 128;

/// How one number of a line is read.
trait Number {
    /// Bytes of one.
    const BYTES: usize;

    /// 16 of them.
    ///
    /// # Safety
    /// The processor has the instructions, and they can be read.
    unsafe fn load<L: Lanes>(from: *const u8) -> L::Floats;
}

macro_rules! numbers {
    ($($name:ident, $bytes:literal, $load:ident;)*) => { $(
        struct $name;

        impl Number for $name {
            const BYTES: usize = $bytes;

            #[inline(always)]
            unsafe fn load<L: Lanes>(from: *const u8) -> L::Floats {
                // SAFETY: by the contract of the trait; no alignment is needed.
                unsafe { L::$load(from.cast()) }
            }
        }
    )* };
}
numbers! {
    F32, 4, load;
    F16, 2, load_f16;
    Bf16, 2, load_bf16;
}

impl Task for Tiles<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        match self.weights.format() {
            Format::F32 => self.all::<L, _>(&self.numbers::<F32>()),
            Format::F16 => self.all::<L, _>(&self.numbers::<F16>()),
            Format::Bf16 => self.all::<L, _>(&self.numbers::<Bf16>()),
            Format::Integers(it) => match (it.group, it.nibbles, it.scale, it.offset) {
                (32, true, Scale::F16, Offset::Bias(_)) => {
                    self.all::<L, _>(&self.products::<F16, 32, true, false>(it));
                }
                (32, true, Scale::F16, Offset::Least) => {
                    self.all::<L, _>(&self.products::<F16, 32, true, true>(it));
                }
                (32, false, Scale::F16, Offset::Bias(_)) => {
                    self.all::<L, _>(&self.products::<F16, 32, false, false>(it));
                }
                (32, false, Scale::F16, Offset::Least) => {
                    self.all::<L, _>(&self.products::<F16, 32, false, true>(it));
                }
                (64, true, Scale::Bf16, Offset::Bias(_)) => {
                    self.all::<L, _>(&self.products::<Bf16, 64, true, false>(it));
                }
                (64, false, Scale::Bf16, Offset::Bias(_)) => {
                    self.all::<L, _>(&self.products::<Bf16, 64, false, false>(it));
                }
                (32, true, Scale::F32, Offset::Least) => {
                    self.all::<L, _>(&self.products::<F32, 32, true, true>(it));
                }
                (32, false, Scale::F32, Offset::Least) => {
                    self.all::<L, _>(&self.products::<F32, 32, false, true>(it));
                }
                (16, false, Scale::F32, Offset::Bias(_)) => {
                    self.all::<L, _>(&self.products::<F32, 16, false, false>(it));
                }
                other => unreachable!("no encoding has {other:?}"),
            },
        }
    }
}

/// One tile times several columns at once.
trait Pass {
    /// C columns from `column` on.
    ///
    /// # Safety
    /// The processor has the instructions; `lines` is a whole tile; the columns exist; 32 results can be written at each of `ys`.
    unsafe fn columns<L: Lanes, const C: usize>(
        &self,
        lines: &[u8],
        column: usize,
        ys: [*mut f32; C],
    );
}

impl<'a> Tiles<'a> {
    fn numbers<N>(&self) -> Numbers<'a, N> {
        Numbers { inputs: self.inputs, number: PhantomData }
    }

    fn products<S, const GROUP: usize, const NIBBLES: bool, const LEAST: bool>(
        &self,
        integers: Integers,
    ) -> Products<'a, S, GROUP, NIBBLES, LEAST> {
        let groups = self.inputs.groups(GROUP).expect("the inputs know their readers");
        let bias = if let Offset::Bias(bias) = integers.offset { bias } else { 0 };
        Products { groups, bias, scale: PhantomData }
    }

    /// Where tile `tile` has its results of C columns from `column` on.
    #[inline(always)]
    fn results<const C: usize>(&self, tile: usize, column: usize) -> [*mut f32; C] {
        let stride = self.weights.padded_outs();
        std::array::from_fn(|c| {
            let at = (column + c) * stride + tile * TILE;
            // SAFETY: no other unit of work has this tile.
            unsafe { self.ys.part(at..at + TILE) }.as_mut_ptr()
        })
    }

    /// All tiles and columns, as many columns at once as the registers hold.
    #[inline(always)]
    fn all<L: Lanes, P: Pass>(&self, pass: &P) {
        let tile_bytes = self.weights.format().tile_bytes(self.weights.inputs());
        for tile in self.first..self.end {
            let lines = &self.weights.lines()[tile * tile_bytes..][..tile_bytes];
            let mut column = 0;
            while column < self.inputs.columns() {
                let left = (self.inputs.columns() - column).min(L::COLUMNS);
                // SAFETY: the processor has the instructions, since this is a task; the tile is whole, and the columns exist.
                unsafe {
                    if L::COLUMNS >= 6 && left >= 6 {
                        pass.columns::<L, 6>(lines, column, self.results(tile, column));
                        column += 6;
                    } else if L::COLUMNS >= 4 && left >= 4 {
                        pass.columns::<L, 4>(lines, column, self.results(tile, column));
                        column += 4;
                    } else if L::COLUMNS >= 2 && left >= 2 {
                        pass.columns::<L, 2>(lines, column, self.results(tile, column));
                        column += 2;
                    } else {
                        pass.columns::<L, 1>(lines, column, self.results(tile, column));
                        column += 1;
                    }
                }
            }
        }
    }
}

/// Groups `[d][m, where LEAST][integers]`.
struct Products<'a, S, const GROUP: usize, const NIBBLES: bool, const LEAST: bool> {
    groups: &'a Groups,
    bias: i32,
    scale: PhantomData<S>,
}

impl<S: Number, const GROUP: usize, const NIBBLES: bool, const LEAST: bool> Pass
    for Products<'_, S, GROUP, NIBBLES, LEAST>
{
    #[inline(always)]
    unsafe fn columns<L: Lanes, const C: usize>(
        &self,
        lines: &[u8],
        column: usize,
        ys: [*mut f32; C],
    ) {
        let (groups, bias) = (self.groups, self.bias);
        let heads = if LEAST { 2 } else { 1 } * TILE * S::BYTES;
        let steps = if NIBBLES { GROUP / 8 } else { GROUP / 4 };
        let group_bytes = heads + steps * 4 * TILE;
        let count = lines.len() / group_bytes;
        // SAFETY: by the contract of the trait; the activations of a column are `count` groups.
        unsafe {
            let xs: [*const i8; C] =
                std::array::from_fn(|c| groups.values.as_ptr().add((column + c) * count * GROUP));
            let at: [usize; C] = std::array::from_fn(|c| (column + c) * count);
            let (scales, sums, totals) =
                (groups.scales.as_ptr(), groups.sums.as_ptr(), groups.totals.as_ptr());
            let mut results: [[L::Floats; 2]; C] =
                std::array::from_fn(|c| [L::load(ys[c]), L::load(ys[c].add(LANES))]);
            for g in 0..count {
                let head = lines.as_ptr().add(g * group_bytes);
                let mut line = head.add(heads);
                let mut dots: [[L::Sums; 2]; C] = std::array::from_fn(|c| {
                    [L::sums(if LEAST { 0 } else { -bias * sums.add(at[c] + g).read() }); 2]
                });
                for ahead in (0..heads).step_by(64) {
                    L::prefetch(head.wrapping_add(AHEAD + ahead));
                }
                for step in 0..steps {
                    L::prefetch(line.wrapping_add(AHEAD));
                    L::prefetch(line.wrapping_add(AHEAD + 64));
                    let ws = [L::bytes(line), L::bytes(line.add(64))];
                    line = line.add(128);
                    let quad = |c: usize, at: usize| -> i32 {
                        xs[c].add(g * GROUP + at).cast::<i32>().read_unaligned()
                    };
                    if NIBBLES {
                        let (low, high) = (ws.map(|w| L::low(w)), ws.map(|w| L::high(w)));
                        for (c, dots) in dots.iter_mut().enumerate() {
                            let (x, y) = (quad(c, 4 * step), quad(c, GROUP / 2 + 4 * step));
                            for (v, dot) in dots.iter_mut().enumerate() {
                                *dot = L::dot_nibbles(*dot, low[v], x);
                                *dot = L::dot_nibbles(*dot, high[v], y);
                            }
                        }
                    } else {
                        for (c, dots) in dots.iter_mut().enumerate() {
                            for (dot, w) in dots.iter_mut().zip(ws) {
                                *dot = L::dot(*dot, w, quad(c, 4 * step));
                            }
                        }
                    }
                }
                for v in 0..2 {
                    let d = S::load::<L>(head.add(v * LANES * S::BYTES));
                    for c in 0..C {
                        let scale = L::mul(d, L::splat(scales.add(at[c] + g).read()));
                        results[c][v] = L::mul_add(L::to_floats(dots[c][v]), scale, results[c][v]);
                    }
                    if LEAST {
                        let m = S::load::<L>(head.add((TILE + v * LANES) * S::BYTES));
                        for c in 0..C {
                            let total = L::splat(totals.add(at[c] + g).read());
                            results[c][v] = L::mul_add(m, total, results[c][v]);
                        }
                    }
                }
            }
            for c in 0..C {
                L::store(results[c][0], ys[c]);
                L::store(results[c][1], ys[c].add(LANES));
            }
        }
    }
}

/// Plain numbers `[input][32]`.
struct Numbers<'a, N> {
    inputs: &'a Inputs,
    number: PhantomData<N>,
}

impl<N: Number> Pass for Numbers<'_, N> {
    #[inline(always)]
    unsafe fn columns<L: Lanes, const C: usize>(
        &self,
        lines: &[u8],
        column: usize,
        ys: [*mut f32; C],
    ) {
        let inputs = self.inputs;
        let width = inputs.width();
        // SAFETY: by the contract of the trait.
        unsafe {
            let xs = inputs.floats().as_ptr().add(column * width);
            let mut results: [[L::Floats; 2]; C] =
                std::array::from_fn(|c| [L::load(ys[c]), L::load(ys[c].add(LANES))]);
            for k in 0..width {
                let line = lines.as_ptr().add(k * TILE * N::BYTES);
                for ahead in (0..TILE * N::BYTES).step_by(64) {
                    L::prefetch(line.wrapping_add(AHEAD + ahead));
                }
                let ws = [N::load::<L>(line), N::load::<L>(line.add(LANES * N::BYTES))];
                for (c, results) in results.iter_mut().enumerate() {
                    let x = L::splat(xs.add(c * width + k).read());
                    for (result, w) in results.iter_mut().zip(ws) {
                        *result = L::mul_add(w, x, *result);
                    }
                }
            }
            for c in 0..C {
                L::store(results[c][0], ys[c]);
                L::store(results[c][1], ys[c].add(LANES));
            }
        }
    }
}
