//! Activations as the kernels read them.

use super::{
    lanes::{Lanes, Task},
    level::LANES,
    packed::{Format, Packed},
};

/// Columns of activations `[column][inputs]`: floats, and whatever integers the matrices that read them need.
///
/// A group of 16, 32 or 64 (that of the weights) becomes `x = s q` with `s = max |x| / 127` and signed bytes q. That is
/// the engine's only loss beside rounding: half of s at most in each activation.
#[derive(Debug)]
pub struct Inputs {
    width: usize,
    columns: usize,
    floats: Vec<f32>,
    pub(super) groups: Vec<Groups>,
}

/// Activations as integers in groups of one size.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) size: usize,
    /// `[column][inputs]`.
    pub(super) values: Vec<i8>,
    /// s, `[column][group]`.
    pub(super) scales: Vec<f32>,
    /// The sum of q, which biases are taken times.
    pub(super) sums: Vec<i32>,
    /// s times that sum, which least values are taken times.
    pub(super) totals: Vec<f32>,
}

impl Inputs {
    /// Room for `columns` of what all of `readers` read.
    ///
    /// # Panics
    /// If they do not all have `width` inputs.
    pub fn new(width: usize, columns: usize, readers: &[&Packed]) -> Self {
        assert!(readers.iter().all(|it| it.inputs() == width), "readers have {width} inputs");
        let mut sizes: Vec<usize> = readers
            .iter()
            .filter_map(|it| match it.format() {
                Format::Integers(integers) => Some(integers.group),
                _ => None,
            })
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        let groups = sizes.into_iter().map(|size| {
            let count = columns * width / size;
            Groups {
                size,
                values: vec![0; columns * width],
                scales: vec![0.; count],
                sums: vec![0; count],
                totals: vec![0.; count],
            }
        });
        Self { width, columns: 0, floats: vec![0.; columns * width], groups: groups.collect() }
    }

    /// Activations of a column.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Columns in use.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// The floats of `columns`, to be written before [`super::Workers::quantise`].
    ///
    /// # Panics
    /// If there is no room for so many.
    pub fn floats_mut(&mut self, columns: usize) -> &mut [f32] {
        self.columns = columns;
        &mut self.floats[..columns * self.width]
    }

    /// The floats of all columns in use.
    pub fn floats(&self) -> &[f32] {
        &self.floats[..self.columns * self.width]
    }

    pub(super) fn groups(&self, size: usize) -> Option<&Groups> {
        self.groups.iter().find(|it| it.size == size)
    }

    /// Floats and integers apart.
    pub(super) fn parts(&mut self) -> (&[f32], &mut [Groups]) {
        (&self.floats[..self.columns * self.width], &mut self.groups)
    }
}

/// Turns floats into integers of one size of groups.
pub(super) struct Quantise<'a> {
    pub(super) size: usize,
    pub(super) xs: &'a [f32],
    pub(super) values: &'a mut [i8],
    pub(super) scales: &'a mut [f32],
    pub(super) sums: &'a mut [i32],
    pub(super) totals: &'a mut [f32],
}

/// Below this nothing is left of a group: its integers are zeros.
const LEAST: f32 = 1e-30;
/// 1.5 * 2^23: what is added to it is rounded to a whole number.
const ROUND: f32 = 12_582_912.;

impl Task for Quantise<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let groups = self.xs.chunks_exact(self.size).zip(self.values.chunks_exact_mut(self.size));
        let scales = self.scales.iter_mut().zip(self.sums).zip(self.totals);
        for ((xs, values), ((scale, sum), total)) in groups.zip(scales) {
            let xs = xs.as_chunks::<LANES>().0;
            let mut most = [0f32; LANES];
            for xs in xs {
                for (most, x) in most.iter_mut().zip(xs) {
                    *most = if x.abs() > *most { x.abs() } else { *most };
                }
            }
            let most = greatest(most);
            let inverse = if most > LEAST { 127. / most } else { 0. };
            let mut counted = [0i32; LANES];
            for (xs, values) in xs.iter().zip(values.as_chunks_mut::<LANES>().0) {
                let mut qs = [0i32; LANES];
                for (q, x) in qs.iter_mut().zip(xs) {
                    // the sum's last bits are the nearest whole number, ties to even
                    let bits = (x * inverse + ROUND).to_bits();
                    *q = bits.wrapping_sub(ROUND.to_bits()).cast_signed();
                }
                for (counted, q) in counted.iter_mut().zip(qs) {
                    *counted = counted.wrapping_add(q); // not a number gives anything
                }
                for (value, q) in values.iter_mut().zip(qs) {
                    *value = q as i8;
                }
            }
            *scale = most / 127.;
            *sum = counted.iter().fold(0, |sum, it| sum.wrapping_add(*it));
            *total = *scale * *sum as f32;
        }
    }
}

/// The greatest of 16, by halves.
#[inline(always)]
pub(super) fn greatest(mut xs: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            xs[i] = if xs[i + half] > xs[i] { xs[i + half] } else { xs[i] };
        }
        half /= 2;
    }
    xs[0]
}
