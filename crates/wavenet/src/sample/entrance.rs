//! The initial causal convolution of levels, sample by sample.

use core_layers::kernels::exact::{Kernel, Tap};

use super::{
    plan::{First, Plan},
    ring::Ring,
};

/// The last levels of the voices in one kernel's lanes, and what the first layer reads of them.
#[derive(Debug)]
pub(super) struct Entrance<'p> {
    first: &'p First,
    taps: usize,
    levels: usize,
    kernel: Kernel,
    symbols: Ring<u32>, // [lanes]
    scalars: Ring<f32>, // the same as numbers
}

impl<'p> Entrance<'p> {
    pub(super) fn new<P>(plan: &'p Plan<P>, kernel: Kernel) -> Self {
        let (taps, lanes) = (plan.first_taps, kernel.lanes());
        Self {
            first: &plan.first,
            taps,
            levels: plan.levels,
            kernel,
            symbols: Ring::new(taps + 1, lanes),
            scalars: Ring::new(taps + 1, lanes),
        }
    }

    /// Writes h of sample `t`, `[R][lanes]`: vectors of the last k0 levels, or the convolution of their numbers; the oldest
    /// first.
    pub(super) fn enter(&self, t: usize, to: &mut [f32]) {
        let lanes = self.kernel.lanes();
        match self.first {
            First::Table(table) => {
                let channels = to.len() / lanes;
                to.fill(0.);
                for (tap, delay) in (0..self.taps).map(|tap| (tap, self.taps - tap)) {
                    if delay > t {
                        continue; // before the start there is no level
                    }
                    for (lane, &symbol) in self.symbols.at(t, delay).iter().enumerate() {
                        let vector = (symbol as usize * self.taps + tap) * channels;
                        let vector = &table[vector..][..channels];
                        for (to, add) in to[lane..].iter_mut().step_by(lanes).zip(vector) {
                            *to += add;
                        }
                    }
                }
            }
            First::Scalar(linear) => {
                self.kernel.fill(&linear.bias, 1, to, 0);
                for tap in 0..self.taps {
                    let tap =
                        Tap { index: tap, xs: self.scalars.at(t, self.taps - tap), stride: 0 };
                    self.kernel.accumulate(&linear.weights, &[tap], 1, to, 0);
                }
            }
        }
    }

    /// The levels of sample `t`, one a voice.
    pub(super) fn feed(&mut self, t: usize, symbols: &[u32]) {
        self.symbols.at_mut(t)[..symbols.len()].copy_from_slice(symbols);
        let scale = 2. / (self.levels - 1) as f32;
        for (to, &symbol) in self.scalars.at_mut(t).iter_mut().zip(symbols) {
            *to = (symbol as f32).mul_add(scale, -1.);
        }
    }
}
