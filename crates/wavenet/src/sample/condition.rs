//! The local condition, sample by sample.

use core_layers::Context as _;
use ndarray::s;

use super::plan::Condition;
use crate::model::{FRAME_KERNEL, SoundContext, Upsampler};

/// Frames of all rows, and the condition of the current sample.
#[derive(Debug)]
pub(super) struct Track<'p> {
    plan: &'p Condition,
    frames: Vec<f32>,  // g [frames, C, lanes]
    current: Vec<f32>, // c [C, lanes]
    lanes: usize,
}

impl<'p> Track<'p> {
    /// Frames of `context` in `lanes` lanes; lanes without a row stay zero.
    pub(super) fn new(plan: &'p Condition, context: &SoundContext, lanes: usize) -> Self {
        let channels = plan.channels();
        let count =
            context.features().map_or(0, |all| all.dim().1.saturating_sub(FRAME_KERNEL - 1));
        let mut frames = vec![0.; count * channels * lanes];
        for row in 0..context.rows() {
            for frame in 0..count {
                let Some(all) = context.features() else { continue };
                let read = all.slice(s![row, frame..frame + FRAME_KERNEL, ..]);
                let read: Vec<f32> = read.iter().copied().collect();
                for channel in 0..channels {
                    frames[(frame * channels + channel) * lanes + row] = plan.frame(&read, channel);
                }
            }
        }
        Self { plan, frames, current: vec![0.; channels * lanes], lanes }
    }

    /// The condition of sample `t`, `[C, lanes]`: `fma(u[q], g_j, u[q + h] g_{j - 1})`; zeros behind the last frame.
    pub(super) fn at(&mut self, t: usize) -> &[f32] {
        let hop = self.plan.hop;
        let place = t + Upsampler::offset(hop);
        let (frame, tap) = (place / hop, place % hop);
        let width = self.current.len();
        let of = |frame: usize| self.frames.get(frame * width..(frame + 1) * width);
        let (Some(earlier), Some(later)) = (of(frame - 1), of(frame)) else {
            self.current.fill(0.);
            return &self.current;
        };
        let weights = self.plan.interpolation.chunks_exact(2 * hop);
        let lanes = self.lanes;
        let each = self
            .current
            .chunks_exact_mut(lanes)
            .zip(earlier.chunks_exact(lanes))
            .zip(later.chunks_exact(lanes));
        for (((to, earlier), later), weights) in each.zip(weights) {
            for ((to, earlier), later) in to.iter_mut().zip(earlier).zip(later) {
                *to = weights[tap].mul_add(*later, weights[tap + hop] * earlier);
            }
        }
        &self.current
    }
}
