//! The processor's peak, to measure the other kernels against.

use std::hint::black_box;

use super::Kernel;
use super::vector::{Task, Vector, dispatch};

const CHAINS: usize = 12;

impl Kernel {
    /// Runs `steps` steps of 12 fused multiply-adds of whole vectors that never leave the registers; returns how many
    /// floating-point operations that was.
    pub fn run_at_peak(&self, steps: usize) -> f64 {
        dispatch(self.lane_machine(), Peak { steps })
    }
}

struct Peak {
    steps: usize,
}

impl Task for Peak {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self) -> f64 {
        let (x, w) = (V::splat(black_box(0.5)), V::splat(black_box(0.25)));
        let mut sums = [V::splat(0.0); CHAINS];
        for _ in 0..self.steps {
            for sum in &mut sums {
                *sum = x.mul_add(*sum, w);
            }
        }
        let mut out = [0.0; 16];
        for sum in sums {
            sum.write(&mut out);
            black_box(&out);
        }
        (2 * CHAINS * V::N * self.steps) as f64
    }
}
