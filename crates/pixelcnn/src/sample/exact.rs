//! Convolutional models on the exact engine: rows of features kept in rings, nothing allocated per pixel.

use core_layers::{
    Conditional, Context, Stepper,
    kernels::exact::{Buffer, Kernel, Past, Tap, Variant},
};

use super::{
    context::Features,
    cursor::Cursor,
    plan::{Convolution, Plan, Slot, Step, Sum},
};
use crate::model::{ConvolutionalModel, ImageContext, MapId, Reach, coordinate};

/// Draws images of one plan, all rows in lockstep.
pub(super) struct ExactStepper<'p> {
    plan: &'p Plan,
    kernel: Kernel,
    context: ImageContext,
    maps: Vec<Buffer>,   // [rows][padding + columns + padding][channels][lanes]
    starts: Vec<Buffer>, // by step: bias and class [outputs][lanes]
    sums: Vec<Buffer>,   // by step: what is known at the row's start [width][outputs][lanes]
    pasts: Vec<Past>,    // by step: what attention reads
    features: Features,  // of the context map
    cursor: Cursor,
    /// Whether the features of the current colour, and its head, are there.
    has_features: bool,
    has_head: bool,
}

impl<'p> ExactStepper<'p> {
    pub(super) fn new(plan: &'p Plan, variant: Variant, context: &ImageContext) -> Self {
        let kernel = Kernel::new(variant, context.rows());
        let lanes = kernel.lanes();
        let maps = plan
            .slots
            .iter()
            .map(|slot| Buffer::new(slot.rows * slot.stride() * slot.map.channels * lanes));
        let features = plan.context.as_ref().map(|stack| {
            context.ensure_map(Some(stack.shape())).unwrap_or_else(|error| panic!("{error}"));
            context.map().map(|map| stack.run(&kernel, map)).unwrap_or_default()
        });
        let mut stepper = Self {
            plan,
            kernel,
            context: context.clone(),
            maps: maps.collect(),
            starts: Vec::new(),
            sums: Vec::new(),
            pasts: Vec::new(),
            features: features.unwrap_or_default(),
            cursor: Cursor::default(),
            has_features: false,
            has_head: false,
        };
        for step in &plan.steps {
            let (start, sum) = match step {
                Step::Convolution(conv) => stepper.start(conv),
                _ => Default::default(),
            };
            stepper.pasts.push(match *step {
                Step::Attention { output, .. } => {
                    kernel.past(plan.slots[output].map.channels, plan.height * plan.width)
                }
                _ => Past::default(),
            });
            stepper.starts.push(start);
            stepper.sums.push(sum);
        }
        stepper.start_row();
        stepper
    }

    /// Bias and class of every lane, and room for a row's sums.
    fn start(&self, conv: &Convolution) -> (Buffer, Buffer) {
        let lanes = self.kernel.lanes();
        let outs = conv.bias.len();
        let mut start = Buffer::new(outs * lanes);
        self.kernel.fill(&conv.bias, 1, &mut start, 0);
        if let (Some(table), Some(labels)) = (&conv.class, self.context.class()) {
            for (lane, &label) in labels.iter().enumerate() {
                for (out, added) in table[label as usize * outs..][..outs].iter().enumerate() {
                    start[out * lanes + lane] += added;
                }
            }
        }
        let sums =
            if conv.pixel.is_empty() || conv.row.sources.is_empty() { 0 } else { self.plan.width };
        (start, Buffer::new(sums * outs * lanes))
    }

    /// Floats from the start of a map's buffer to its pixel in `row`, `column`.
    fn at(&self, map: MapId, row: usize, column: usize) -> usize {
        let slot: &Slot = &self.plan.slots[map];
        let column = if slot.columns == 1 { 0 } else { column };
        ((row % slot.rows) * slot.stride() + slot.padding + column) * self.floats(map)
    }

    /// Floats of one pixel of a map.
    fn floats(&self, map: MapId) -> usize {
        self.plan.slots[map].map.channels * self.kernel.lanes()
    }

    /// Everything that is known before the row's first pixel is drawn.
    fn start_row(&mut self) {
        self.load_row();
        let plan = self.plan;
        for (index, step) in plan.steps.iter().enumerate() {
            if plan.slots[step.output()].map.reach == Reach::Row {
                self.row_step(index, step);
            } else if let Step::Convolution(conv) = step
                && !self.sums[index].is_empty()
            {
                let mut sums = std::mem::take(&mut self.sums[index]);
                let stride = conv.bias.len() * self.kernel.lanes();
                self.convolve_row(index, conv, &mut sums, stride);
                self.sums[index] = sums;
            }
        }
    }

    /// The row of the context's features, and of the coordinates.
    fn load_row(&mut self) {
        let Plan { height, width, .. } = *self.plan;
        let row = self.cursor.row;
        if self.plan.context.is_some() {
            let (start, stride) = (self.at(1, row, 0), self.floats(1));
            for column in 0..width {
                let features = self.features.under([row, column], [height, width]);
                self.maps[1][start + column * stride..][..stride].copy_from_slice(features);
            }
        }
        if let Some(map) = self.plan.position {
            let (start, stride) = (self.at(map, row, 0), self.floats(map));
            for column in 0..width {
                let position = [coordinate(row, height), coordinate(column, width)];
                let to = &mut self.maps[map][start + column * stride..][..stride];
                self.kernel.fill(&position, 1, to, stride);
            }
        }
    }

    /// A step whose output is a row map, for the whole row.
    fn row_step(&mut self, index: usize, step: &Step) {
        let output = step.output();
        let stride = self.floats(output);
        let start = self.at(output, self.cursor.row, 0);
        let mut ys = std::mem::take(&mut self.maps[output]);
        let to = &mut ys[start..start + self.plan.width * stride];
        match *step {
            Step::Convolution(ref conv) => self.convolve_row(index, conv, to, stride),
            Step::Gate { input, .. } => {
                let channels = self.plan.slots[output].map.channels;
                let pre = &self.maps[input][self.at(input, self.cursor.row, 0)..];
                self.kernel.gate(pre, channels, self.plan.width, to, stride);
            }
            _ => self.elementwise(step, to, 0),
        }
        self.maps[output] = ys;
    }

    /// Bias, class, and the taps that are known at the start of the row.
    fn convolve_row(&self, index: usize, conv: &Convolution, ys: &mut [f32], stride: usize) {
        for column in ys.chunks_exact_mut(stride) {
            column.copy_from_slice(&self.starts[index]);
        }
        self.with_taps(&conv.row, None, |taps| {
            self.kernel.accumulate(&conv.row.weights, taps, self.plan.width, ys, stride);
        });
    }

    /// The taps of `sum` for the pixel in `column`, or for the whole row: those that do not lie outside the image.
    fn with_taps(&self, sum: &Sum, column: Option<usize>, work: impl FnOnce(&[Tap<'_>])) {
        const FEW: usize = 16;
        let none = Tap { index: 0, xs: &[], stride: 0 };
        let mut few = [none; FEW]; // on the stack: this runs for every pixel
        let mut many = Vec::new();
        let taps = if sum.sources.len() <= FEW {
            &mut few[..]
        } else {
            many.resize(sum.sources.len(), none);
            &mut many[..]
        };
        let mut count = 0;
        for (index, source) in sum.sources.iter().enumerate() {
            let Some(row) = self.cursor.row.checked_add_signed(source.dy as isize) else {
                continue;
            };
            if column.is_some_and(|column| column.checked_add_signed(source.dx as isize).is_none())
            {
                continue;
            }
            let stride = self.floats(source.input);
            let pixel = self.at(source.input, row, column.unwrap_or(0));
            let from = pixel.strict_add_signed(source.dx as isize * stride as isize);
            taps[count] = Tap { index, xs: &self.maps[source.input][from..], stride };
            count += 1;
        }
        work(&taps[..count]);
    }

    /// The features of the current colour, without the head; then, if asked for, the head.
    fn compute(&mut self, head: bool) {
        let plan = self.plan;
        let last = plan.steps.len() - 1;
        if !self.has_features {
            for (index, step) in plan.steps[..last].iter().enumerate() {
                self.pixel_step(index, step);
            }
            self.has_features = true;
        }
        if head && !self.has_head {
            self.pixel_step(last, &plan.steps[last]);
            self.has_head = true;
        }
    }

    /// A step whose output is a pixel map, for the current pixel and colour.
    fn pixel_step(&mut self, index: usize, step: &Step) {
        let output = step.output();
        let map = self.plan.slots[output].map;
        if map.reach != Reach::Pixel {
            return;
        }
        let share = self.floats(output) / self.plan.colours;
        let start =
            self.at(output, self.cursor.row, self.cursor.column) + self.cursor.colour * share;
        let mut ys = std::mem::take(&mut self.maps[output]);
        let to = &mut ys[start..start + share];
        match *step {
            Step::Convolution(ref conv) => self.convolve_pixel(index, conv, self.cursor.colour, to),
            Step::Attention { queries, heads, .. } => {
                let from = self.at(queries, self.cursor.row, self.cursor.column)
                    + self.cursor.colour * share;
                let queries = &self.maps[queries][from..from + share];
                let first = self.cursor.colour * share / self.kernel.lanes();
                let heads = heads / self.plan.colours;
                self.kernel.attend(&mut self.pasts[index], queries, first, heads, to);
            }
            Step::Gate { input, .. } => {
                let pre = self.at(input, self.cursor.row, self.cursor.column)
                    + self.cursor.colour * 2 * share;
                let channels = map.channels / self.plan.colours;
                self.kernel.gate(&self.maps[input][pre..], channels, 1, to, share);
            }
            _ => self.elementwise(step, to, self.cursor.colour * share),
        }
        self.maps[output] = ys;
    }

    /// The current pixel of a convolution, for the outputs of one of its [pixel sums](Convolution::pixel).
    fn convolve_pixel(&self, index: usize, conv: &Convolution, part: usize, ys: &mut [f32]) {
        let known: &[f32] = if self.sums[index].is_empty() {
            &self.starts[index]
        } else {
            &self.sums[index][self.cursor.column * self.floats(conv.output)..]
        };
        ys.copy_from_slice(&known[part * ys.len()..][..ys.len()]);
        let (sum, width) = (&conv.pixel[part], ys.len());
        self.with_taps(sum, Some(self.cursor.column), |taps| {
            self.kernel.accumulate(&sum.weights, taps, 1, ys, width);
        });
    }

    /// Computes the maps that are known now that the pixel is drawn, and keeps what attention reads.
    fn remember(&mut self) {
        let plan = self.plan;
        for (index, step) in plan.steps.iter().enumerate() {
            match *step {
                Step::Convolution(ref conv)
                    if plan.slots[conv.output].map.reach == Reach::Drawn =>
                {
                    let mut ys = std::mem::take(&mut self.maps[conv.output]);
                    self.convolve_pixel(index, conv, 0, &mut ys);
                    self.maps[conv.output] = ys;
                }
                Step::Attention { past, .. } => {
                    self.kernel.remember(&mut self.pasts[index], &self.maps[past]);
                }
                _ => {}
            }
        }
    }

    /// A step that works number by number: writes `ys`, which starts `offset` floats into the current pixel or row.
    fn elementwise(&self, step: &Step, ys: &mut [f32], offset: usize) {
        let read = |map| &self.maps[map][self.here(map) + offset..][..ys.len()];
        match *step {
            Step::Relu { input, .. } => {
                let xs = read(input);
                ys.copy_from_slice(xs);
                self.kernel.relu(ys);
            }
            Step::Elu { input, .. } => {
                let xs = read(input);
                ys.copy_from_slice(xs);
                self.kernel.elu(ys);
            }
            Step::Add { a, b, .. } => {
                let (xs, zs) = (read(a), read(b));
                ys.copy_from_slice(xs);
                self.kernel.add_assign(ys, zs);
            }
            Step::Convolution(_) | Step::Gate { .. } | Step::Attention { .. } => {
                unreachable!("not elementwise")
            }
        }
    }

    /// Where the current pixel of a pixel map, or the current row of a row map, starts.
    fn here(&self, map: MapId) -> usize {
        let column =
            if self.plan.slots[map].map.reach == Reach::Row { 0 } else { self.cursor.column };
        self.at(map, self.cursor.row, column)
    }
}

impl Slot {
    /// Columns of a row with its padding.
    fn stride(&self) -> usize {
        self.columns + 2 * self.padding
    }
}

impl Stepper for ExactStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        self.compute(true);
        let plan = self.plan;
        let lanes = self.kernel.lanes();
        let share = plan.slots[plan.output].map.channels / plan.colours;
        let from = self.at(plan.output, self.cursor.row, self.cursor.column)
            + self.cursor.colour * share * lanes;
        let outputs = &self.maps[plan.output][from..from + share * lanes];
        let to = out.reset(self.context.rows(), plan.levels);
        let mut of_row = vec![0.; if plan.logistics { share } else { 0 }];
        for (row, logits) in to.chunks_exact_mut(plan.levels).enumerate() {
            if plan.logistics {
                for (value, lane) in of_row.iter_mut().zip(outputs.chunks_exact(lanes)) {
                    *value = lane[row];
                }
                let (weights, means, log_scales) = ConvolutionalModel::logistics(&of_row);
                self.kernel.discretised_logistics(weights, means, &log_scales, logits);
            } else {
                for (logit, lane) in logits.iter_mut().zip(outputs.chunks_exact(lanes)) {
                    *logit = lane[row];
                }
            }
        }
    }

    fn feed(&mut self, symbols: &[u32]) {
        self.compute(false);
        let plan = self.plan;
        let lanes = self.kernel.lanes();
        let features = plan.level_features.len() / plan.levels;
        let from =
            self.at(0, self.cursor.row, self.cursor.column) + self.cursor.colour * features * lanes;
        for (lane, &symbol) in symbols.iter().enumerate() {
            for feature in 0..features {
                self.maps[0][from + feature * lanes + lane] =
                    plan.level_features[symbol as usize * features + feature];
            }
        }
        if self.cursor.colour + 1 == plan.colours {
            self.remember();
        }
        (self.has_features, self.has_head) = (false, false);
        if self.cursor.advance(plan.width, plan.colours) && self.cursor.row < plan.height {
            self.start_row();
        }
    }
}
