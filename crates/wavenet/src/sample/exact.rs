//! The exact engine: f32 of defined bits, rings of past activations, nothing allocated per sample.

use core_layers::{
    Conditional, Context as _, Stepper,
    kernels::exact::{Buffer, Kernel, Tap, Variant},
};

use super::{
    condition::Track,
    plan::{First, Linear, Plan},
};
use crate::model::{SoundContext, WaveNet};

/// Taps whose list lies on the stack.
const FEW: usize = 8;

/// What a layer has read, as far back as it reads: `[slots][channels][lanes]`, the sample t in slot t mod slots.
#[derive(Debug)]
struct Ring {
    values: Buffer,
    slots: usize,
    width: usize,
}

impl Ring {
    fn new(slots: usize, width: usize) -> Self {
        Self { values: Buffer::new(slots * width), slots, width }
    }

    /// What was read `delay` samples before `t`; zeros before the start.
    fn at(&self, t: usize, delay: usize) -> &[f32] {
        let slot = (t + self.slots - delay) % self.slots;
        &self.values[slot * self.width..][..self.width]
    }

    fn at_mut(&mut self, t: usize) -> &mut [f32] {
        &mut self.values[t % self.slots * self.width..][..self.width]
    }
}

/// Clips of one plan, all rows in lockstep.
pub(super) struct ExactStepper<'p> {
    plan: &'p Plan,
    kernel: Kernel,
    rows: usize,
    symbols: Vec<u32>,   // the last k0 of each lane [k0][lanes]
    scalars: Ring,       // the same as numbers, where they enter so
    rings: Vec<Ring>,    // by layer: its input h
    starts: Vec<Buffer>, // by layer: bias and speaker [2 G][lanes]
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
    pub(super) fn new(plan: &'p Plan, variant: Variant, context: &SoundContext) -> Self {
        let kernel = Kernel::new(variant, context.rows());
        let lanes = kernel.lanes();
        let room = |linear: &Linear| Buffer::new(linear.bias.len() * lanes);
        let starts = plan.layers.iter().map(|layer| {
            let mut start = room(&layer.gates);
            kernel.fill(&layer.gates.bias, 1, &mut start, 0);
            if let (Some(table), Some(speakers)) = (&layer.speaker, context.speakers()) {
                let outs = layer.gates.bias.len();
                for (lane, &speaker) in speakers.iter().enumerate() {
                    for (out, added) in table[speaker as usize * outs..][..outs].iter().enumerate()
                    {
                        start[out * lanes + lane] += added;
                    }
                }
            }
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
            symbols: vec![0; plan.first_taps * lanes],
            scalars: Ring::new(plan.first_taps + 1, lanes),
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

    /// The first layer's input: vectors of the last k0 levels, the oldest first, or the convolution of their numbers.
    fn enter(&mut self) {
        let (plan, lanes, t) = (self.plan, self.kernel.lanes(), self.t);
        let to = self.rings[0].at_mut(t);
        match &plan.first {
            First::Table(table) => {
                to.fill(0.);
                for tap in 0..plan.first_taps {
                    let delay = plan.first_taps - tap;
                    if delay > t {
                        continue; // before the start
                    }
                    let symbols = &self.symbols[(t - delay) % plan.first_taps * lanes..][..lanes];
                    for (lane, &symbol) in symbols.iter().enumerate() {
                        let vector = (symbol as usize * plan.first_taps + tap) * plan.residual;
                        let vector = &table[vector..][..plan.residual];
                        for (to, add) in to[lane..].iter_mut().step_by(lanes).zip(vector) {
                            *to += add;
                        }
                    }
                }
            }
            First::Scalar(linear) => {
                self.kernel.fill(&linear.bias, 1, to, 0);
                for tap in 0..plan.first_taps {
                    let xs = self.scalars.at(t, plan.first_taps - tap);
                    self.kernel.accumulate(
                        &linear.weights,
                        &[Tap { index: tap, xs, stride: 0 }],
                        1,
                        to,
                        0,
                    );
                }
            }
        }
    }

    /// Gates of every layer, and what later samples need of this one.
    fn compute_features(&mut self) {
        if self.has_features {
            return;
        }
        self.enter();
        let (plan, kernel, t) = (self.plan, self.kernel, self.t);
        let condition = self.track.as_mut().map(|track| track.at(t));
        let width = plan.gate * kernel.lanes();
        for (index, layer) in plan.layers.iter().enumerate() {
            self.pre.copy_from_slice(&self.starts[index]);
            let ring = &self.rings[index];
            let read = |tap| ring.at(t, (plan.taps - 1 - tap) * layer.dilation);
            with_taps(plan.taps, read, condition, |taps| {
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
        let linear = |linear: &Linear, xs: &[f32], ys: &mut [f32]| {
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

/// Calls `work` with the taps of a layer: what `read` gives of each, and the condition.
fn with_taps<'a>(
    count: usize,
    read: impl Fn(usize) -> &'a [f32],
    condition: Option<&'a [f32]>,
    work: impl FnOnce(&[Tap<'a>]),
) {
    let tap = |index| {
        let xs = if index < count { read(index) } else { condition.unwrap_or_default() };
        Tap { index, xs, stride: 0 }
    };
    let all = count + usize::from(condition.is_some());
    if all <= FEW {
        let mut few = [Tap { index: 0, xs: &[], stride: 0 }; FEW];
        for (index, to) in few[..all].iter_mut().enumerate() {
            *to = tap(index);
        }
        work(&few[..all]);
    } else {
        work(&(0..all).map(tap).collect::<Vec<_>>());
    }
}

impl Stepper for ExactStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        self.compute_features();
        self.compute_output();
        let outputs = self.output.len() / self.kernel.lanes();
        let to = out.reset(self.rows, self.plan.levels);
        for (logits, outputs) in
            to.chunks_exact_mut(self.plan.levels).zip(self.apart.chunks_exact(outputs))
        {
            if self.plan.is_mixture {
                let (weights, means, log_scales) = WaveNet::logistics(outputs);
                self.kernel.discretised_logistics(weights, &means, &log_scales, logits);
            } else {
                logits.copy_from_slice(outputs);
            }
        }
    }

    fn feed(&mut self, symbols: &[u32]) {
        self.compute_features();
        let lanes = self.kernel.lanes();
        let slot = self.t % self.plan.first_taps;
        self.symbols[slot * lanes..][..symbols.len()].copy_from_slice(symbols);
        let scale = 2. / (self.plan.levels - 1) as f32;
        for (to, &symbol) in self.scalars.at_mut(self.t).iter_mut().zip(symbols) {
            *to = (symbol as f32).mul_add(scale, -1.);
        }
        self.t += 1;
        (self.has_features, self.has_output) = (false, false);
    }
}
