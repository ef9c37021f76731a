//! The fast engine: linear maps in bfloat16, everything else in f32. What it gives differs from the full pass by the
//! rounding of weights and activations to 8 bits, and between processors.

use core_layers::{
    Conditional, Context as _, Stepper,
    kernels::{
        bf16::{Kernel, Packed, Tap},
        exact::{self, Buffer, Variant},
    },
};

use super::{
    condition::Track,
    entrance::Entrance,
    plan::{Linear, Plan},
    ring::Ring,
    taps::with_taps,
};
use crate::model::SoundContext;

/// A tap that reads nothing.
const NOTHING: Tap<'static> = Tap { xs: &[], stride: 0 };

/// Voices of one plan in lockstep: groups of 16 side by side, or each by itself where they are few.
pub(super) struct FastStepper<'p> {
    plan: &'p Plan<Packed>,
    kernel: Kernel,
    plain: exact::Kernel, // elementwise functions, for the lanes of one group
    rows: usize,
    groups: Vec<Group<'p>>,
    rings: Vec<Ring<u16>>, // by layer: its input h [groups][pairs of R]
    starts: Vec<Buffer>,   // by layer: bias and speaker [groups][2 G]
    hs: Buffer,            // h of the current layer [groups][R]
    pre: Buffer,           // [groups][2 G]
    gate: Buffer,          // of one group and layer [G]
    gates: Vec<u16>,       // [groups][layers][pairs of G]
    rounded: Vec<u16>,     // input of the head's layers [groups][pairs]
    skip: Buffer,
    head: Buffer,
    output: Buffer,
    t: usize,
    has_features: bool,
    has_output: bool,
}

/// Voices of one row of the kernel.
struct Group<'p> {
    voices: std::ops::Range<usize>,
    entrance: Entrance<'p>,
    track: Option<Track<'p>>,
    condition: Vec<u16>, // pairs of C
}

impl<'p> FastStepper<'p> {
    pub(super) fn new(plan: &'p Plan<Packed>, variant: Variant, context: &SoundContext) -> Self {
        let rows = context.rows();
        let kernel = Kernel::new(variant, rows);
        let lanes = kernel.lanes();
        let plain = exact::Kernel::new(variant, lanes);
        let groups: Vec<Group<'p>> = (0..rows)
            .step_by(lanes)
            .map(|first| {
                let voices = first..(first + lanes).min(rows);
                let own = context.select(&voices.clone().collect::<Vec<_>>());
                let track = plan.condition.as_ref().map(|it| Track::new(it, &own, lanes));
                let channels = plan.condition.as_ref().map_or(0, super::plan::Condition::channels);
                let condition = vec![0; kernel.width(channels)];
                Group { voices, entrance: Entrance::new(plan, plain), track, condition }
            })
            .collect();
        let count = groups.len();
        let room =
            |linear: &Linear<Packed>| Buffer::new(count * linear.weights.padded_outs() * lanes);
        let starts = plan.layers.iter().map(|layer| {
            let mut start = room(&layer.gates);
            let width = layer.gates.weights.padded_outs() * lanes;
            for (group, start) in groups.iter().zip(start.chunks_exact_mut(width)) {
                let speakers = context.speakers().map(|all| &all[group.voices.clone()]);
                layer.start(plain, speakers, start);
            }
            start
        });
        let starts = starts.collect();
        let rings = plan.layers.iter().map(|layer| {
            Ring::new((plan.taps - 1) * layer.dilation + 1, count * kernel.width(plan.residual))
        });
        let widest = plan.skip.bias.len().max(plan.head.bias.len());
        Self {
            plan,
            kernel,
            plain,
            rows,
            rings: rings.collect(),
            starts,
            hs: Buffer::new(count * plan.residual.next_multiple_of(16) * lanes),
            pre: plan.layers.first().map(|layer| room(&layer.gates)).unwrap_or_default(),
            gate: Buffer::new(plan.gate * lanes),
            gates: vec![0; count * plan.layers.len() * kernel.width(plan.gate)],
            rounded: vec![0; count * kernel.width(widest)],
            skip: room(&plan.skip),
            head: room(&plan.head),
            output: room(&plan.output),
            groups,
            t: 0,
            has_features: false,
            has_output: false,
        }
    }

    fn compute_features(&mut self) {
        if self.has_features {
            return;
        }
        let (plan, kernel, plain, t) = (self.plan, self.kernel, self.plain, self.t);
        let lanes = kernel.lanes();
        let count = self.groups.len();
        let h_width = plan.residual.next_multiple_of(16) * lanes;
        let h_used = plan.residual * lanes;
        for (group, hs) in self.groups.iter_mut().zip(self.hs.chunks_exact_mut(h_width)) {
            group.entrance.enter(t, &mut hs[..h_used]);
            if let Some(track) = &mut group.track {
                kernel.round(track.at(t), &mut group.condition);
            }
        }
        let (g_width, all_gates) =
            (kernel.width(plan.gate), plan.layers.len() * kernel.width(plan.gate));
        for (index, layer) in plan.layers.iter().enumerate() {
            let ring = &mut self.rings[index];
            let r_width = kernel.width(plan.residual);
            for (hs, to) in
                self.hs.chunks_exact(h_width).zip(ring.at_mut(t).chunks_exact_mut(r_width))
            {
                kernel.round(&hs[..h_used], to);
            }
            self.pre.copy_from_slice(&self.starts[index]);
            let pre_width = layer.gates.weights.padded_outs() * lanes;
            let read = |tap| Tap {
                xs: ring.at(t, (plan.taps - 1 - tap) * layer.dilation),
                stride: r_width,
            };
            if plan.condition.is_none() {
                with_taps(plan.taps, NOTHING, read, |taps| {
                    kernel.accumulate(&layer.gates.weights, taps, count, &mut self.pre);
                });
            } else {
                for (row, (group, pre)) in
                    self.groups.iter().zip(self.pre.chunks_exact_mut(pre_width)).enumerate()
                {
                    let of_row = |tap| Tap { xs: &read(tap).xs[row * r_width..], stride: 0 };
                    let more = Tap { xs: &group.condition, stride: 0 };
                    let tap = |index| if index < plan.taps { of_row(index) } else { more };
                    with_taps(plan.taps + 1, NOTHING, tap, |taps| {
                        kernel.accumulate(&layer.gates.weights, taps, 1, pre);
                    });
                }
            }
            for (pre, all) in
                self.pre.chunks_exact(pre_width).zip(self.gates.chunks_exact_mut(all_gates))
            {
                plain.gate(pre, plan.gate, 1, &mut self.gate, 0);
                kernel.round(&self.gate, &mut all[index * g_width..][..g_width]);
            }
            if let Some(residual) = &layer.residual {
                for hs in self.hs.chunks_exact_mut(h_width) {
                    add_bias(&residual.bias, &mut hs[..h_used], lanes);
                }
                let xs = Tap { xs: &self.gates[index * g_width..], stride: all_gates };
                kernel.accumulate(&residual.weights, &[xs], count, &mut self.hs);
            }
        }
        self.has_features = true;
    }

    fn compute_output(&mut self) {
        if self.has_output {
            return;
        }
        let (plan, kernel, plain) = (self.plan, self.kernel, self.plain);
        let (lanes, count) = (kernel.lanes(), self.groups.len());
        let linear = |linear: &Linear<Packed>, xs: &[u16], ys: &mut Buffer| {
            for ys in ys.chunks_exact_mut(linear.weights.padded_outs() * lanes) {
                plain.fill(&linear.bias, 1, ys, 0);
            }
            let stride = xs.len() / count;
            kernel.accumulate(&linear.weights, &[Tap { xs, stride }], count, ys);
        };
        let relu = |from: &Linear<Packed>, ys: &mut Buffer, rounded: &mut Vec<u16>| {
            plain.relu(ys);
            let (used, width) = (from.bias.len() * lanes, kernel.width(from.bias.len()));
            rounded.resize(count * width, 0); // within what was allocated at first
            let rounded = rounded.chunks_exact_mut(width);
            for (ys, to) in ys.chunks_exact(from.weights.padded_outs() * lanes).zip(rounded) {
                kernel.round(&ys[..used], to);
            }
        };
        linear(&plan.skip, &self.gates, &mut self.skip);
        relu(&plan.skip, &mut self.skip, &mut self.rounded);
        linear(&plan.head, &self.rounded, &mut self.head);
        relu(&plan.head, &mut self.head, &mut self.rounded);
        linear(&plan.output, &self.rounded, &mut self.output);
        self.has_output = true;
    }
}

fn add_bias(bias: &[f32], hs: &mut [f32], lanes: usize) {
    for (hs, bias) in hs.chunks_exact_mut(lanes).zip(bias) {
        for h in hs {
            *h += bias;
        }
    }
}

impl Stepper for FastStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        self.compute_features();
        self.compute_output();
        let (plan, lanes) = (self.plan, self.kernel.lanes());
        let outputs = plan.output.bias.len();
        let width = plan.output.weights.padded_outs() * lanes;
        let to = plan.room(out, self.rows);
        for (voice, to) in to.chunks_exact_mut(outputs).enumerate() {
            let (group, lane) = (voice / lanes, voice % lanes);
            let from = &self.output[group * width..][..outputs * lanes];
            for (to, from) in to.iter_mut().zip(from.chunks_exact(lanes)) {
                *to = from[lane];
            }
            plan.finish(to);
        }
    }

    fn feed(&mut self, symbols: &[u32]) {
        self.compute_features();
        for group in &mut self.groups {
            group.entrance.feed(self.t, &symbols[group.voices.clone()]);
        }
        self.t += 1;
        (self.has_features, self.has_output) = (false, false);
    }
}
