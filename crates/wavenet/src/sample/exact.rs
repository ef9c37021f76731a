//! The exact engine: f32 of defined bits, rings of past activations, nothing allocated per sample
//! (with up to 8 taps a layer).

use core_layers::{
    Conditional, Context as _, Stepper,
    kernels::exact::{Buffer, Kernel, Packed, Tap, Variant},
};

use super::{
    condition::Track,
    entrance::Entrance,
    plan::{Linear, Plan},
    ring::Ring,
    taps::with_taps,
};
use crate::model::SoundContext;

/// Clips of one plan, all rows in lockstep.
pub(super) struct ExactStepper<'p> {
    plan: &'p Plan<Packed>,
    kernel: Kernel,
    rows: usize,
    entrance: Entrance<'p>,
    rings: Vec<Ring<f32>>, // by layer: its input h
    starts: Vec<Buffer>,   // by layer: bias and speaker [2 G][lanes]
    track: Option<Track<'p>>,
    pre: Buffer,   // [2 G][lanes]
    gates: Buffer, // [layers][G][lanes]
    skip: Buffer,
    head: Buffer,
    output: Buffer,
    apart: Buffer, // [lanes][outputs]
    t: usize,
    has_features: bool,
    has_output: bool,
}

impl<'p> ExactStepper<'p> {
    pub(super) fn new(plan: &'p Plan<Packed>, variant: Variant, context: &SoundContext) -> Self {
        let kernel = Kernel::new(variant, context.rows());
        let lanes = kernel.lanes();
        let room = |linear: &Linear<Packed>| Buffer::new(linear.bias.len() * lanes);
        let starts = plan.layers.iter().map(|layer| {
            let mut start = room(&layer.gates);
            layer.start(kernel, context.speakers(), &mut start);
            start
        });
        let rings = plan
            .layers
            .iter()
            .map(|layer| Ring::new((plan.taps - 1) * layer.dilation + 1, plan.residual * lanes));
        Self {
            plan,
            kernel,
            rows: context.rows(),
            entrance: Entrance::new(plan, kernel),
            rings: rings.collect(),
            starts: starts.collect(),
            track: plan.condition.as_ref().map(|condition| Track::new(condition, context, lanes)),
            pre: Buffer::new(2 * plan.gate * lanes),
            gates: Buffer::new(plan.layers.len() * plan.gate * lanes),
            skip: room(&plan.skip),
            head: room(&plan.head),
            output: room(&plan.output),
            apart: room(&plan.output),
            t: 0,
            has_features: false,
            has_output: false,
        }
    }

    /// Gates of every layer, and what later samples need of this one.
    fn compute_features(&mut self) {
        if self.has_features {
            return;
        }
        let (plan, kernel, t) = (self.plan, self.kernel, self.t);
        self.entrance.enter(t, self.rings[0].at_mut(t));
        let condition = self.track.as_mut().map(|track| track.at(t));
        let width = plan.gate * kernel.lanes();
        for (index, layer) in plan.layers.iter().enumerate() {
            self.pre.copy_from_slice(&self.starts[index]);
            let ring = &self.rings[index];
            let tap = |index| {
                let of_ring = || ring.at(t, (plan.taps - 1 - index) * layer.dilation);
                let xs = if index < plan.taps { of_ring() } else { condition.unwrap_or_default() };
                Tap { index, xs, stride: 0 }
            };
            let count = plan.taps + usize::from(condition.is_some());
            let filler = Tap { index: 0, xs: &[], stride: 0 };
            with_taps(count, filler, tap, |taps| {
                kernel.accumulate(&layer.gates.weights, taps, 1, &mut self.pre, 0);
            });
            let gates = &mut self.gates[index * width..][..width];
            kernel.gate(&self.pre, plan.gate, 1, gates, 0);
            if let Some(residual) = &layer.residual {
                let (before, after) = self.rings.split_at_mut(index + 1);
                let (from, to) = (before[index].at(t, 0), after[0].at_mut(t));
                kernel.fill(&residual.bias, 1, to, 0);
                kernel.add_assign(to, from);
                kernel.accumulate(
                    &residual.weights,
                    &[Tap { index: 0, xs: gates, stride: 0 }],
                    1,
                    to,
                    0,
                );
            }
        }
        self.has_features = true;
    }

    /// The head's outputs.
    fn compute_output(&mut self) {
        if self.has_output {
            return;
        }
        let (plan, kernel) = (self.plan, self.kernel);
        let linear = |linear: &Linear<Packed>, xs: &[f32], ys: &mut [f32]| {
            kernel.fill(&linear.bias, 1, ys, 0);
            kernel.accumulate(&linear.weights, &[Tap { index: 0, xs, stride: 0 }], 1, ys, 0);
        };
        linear(&plan.skip, &self.gates, &mut self.skip);
        kernel.relu(&mut self.skip);
        linear(&plan.head, &self.skip, &mut self.head);
        kernel.relu(&mut self.head);
        linear(&plan.output, &self.head, &mut self.output);
        kernel.split(&self.output, &mut self.apart);
        self.has_output = true;
    }
}

impl Stepper for ExactStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        self.compute_features();
        self.compute_output();
        let outputs = self.output.len() / self.kernel.lanes();
        let to = self.plan.room(out, self.rows);
        for (to, outputs) in to.chunks_exact_mut(outputs).zip(self.apart.chunks_exact(outputs)) {
            to.copy_from_slice(outputs);
            self.plan.finish(to);
        }
    }

    fn feed(&mut self, symbols: &[u32]) {
        self.compute_features();
        self.entrance.feed(self.t, symbols);
        self.t += 1;
        (self.has_features, self.has_output) = (false, false);
    }
}
