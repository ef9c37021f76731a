//! A program made ready for the exact engine: weights packed, and split by when what they read is known.
//!
//! Of a convolution over earlier pixels, the taps into rows above are known when a row starts: they are summed for the
//! whole row at once. The taps to the left are summed pixel by pixel, and colour by colour: a colour's outputs read only
//! the channels that its mask leaves, which are a prefix of the pixel's. Letters: G colours, C channels.

use core_layers::kernels::exact::Packed;

use super::context::ContextPlan;
use crate::{
    config::{Head, ImageConfig},
    model::{Conv, ConvolutionalModel, Map, MapId, Op, Program, Reach, Term},
};

/// How the values of a map are kept while an image is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) map: Map,
    /// Rows that are kept: the current one and those that a tap still reads.
    pub(super) rows: usize,
    /// Columns of zeros on either side.
    pub(super) padding: usize,
    /// Columns between them: all, or one where only the pixel itself is read.
    pub(super) columns: usize,
}

/// What a tap reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) input: MapId,
    pub(super) dy: i64,
    pub(super) dx: i64,
}

/// Packed taps and what each reads.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) weights: Packed,
    pub(super) sources: Vec<Source>,
}

/// A convolution, split.
#[derive(Debug)]
pub(super) struct Convolution {
    pub(super) output: MapId,
    /// What is known for a whole row at its start; all outputs.
    pub(super) row: Sum,
    /// What is known pixel by pixel, for the outputs of each colour; of a drawn map for all outputs; empty for a row map.
    pub(super) pixel: Vec<Sum>,
    pub(super) bias: Vec<f32>,
    /// `[classes, outputs]`.
    pub(super) class: Option<Vec<f32>>,
}

#[derive(Debug)]
pub(super) enum Step {
    Convolution(Convolution),
    Gate { input: MapId, output: MapId },
    Relu { input: MapId, output: MapId },
    Elu { input: MapId, output: MapId },
    Add { a: MapId, b: MapId, output: MapId },
    Attention { queries: MapId, past: MapId, output: MapId, heads: usize },
}

impl Step {
    pub(super) fn output(&self) -> MapId {
        match *self {
            Self::Convolution(Convolution { output, .. })
            | Self::Gate { output, .. }
            | Self::Relu { output, .. }
            | Self::Elu { output, .. }
            | Self::Add { output, .. }
            | Self::Attention { output, .. } => output,
        }
    }
}

/// A convolutional model, ready to be stepped.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) slots: Vec<Slot>,
    pub(super) steps: Vec<Step>,
    pub(super) output: MapId,
    pub(super) colours: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) context: Option<ContextPlan>,
    /// The map of coordinates.
    pub(super) position: Option<MapId>,
    /// What a level becomes `[L, E]`.
    pub(super) level_features: Vec<f32>,
    pub(super) levels: usize,
    pub(super) logistics: bool,
}

impl Plan {
    pub(super) fn new(model: &ConvolutionalModel) -> Self {
        let program = model.program();
        let image: &ImageConfig = model.image();
        let width = image.width as usize;
        Self {
            slots: slots(&program, width),
            steps: program.ops.iter().map(|op| step(op, &program)).collect(),
            output: program.output,
            colours: program.colours,
            height: image.height as usize,
            width,
            context: ContextPlan::new(model),
            position: program.position,
            level_features: model.level_features(),
            levels: image.levels as usize,
            logistics: matches!(image.head, Head::Logistics { .. }),
        }
    }
}

/// How much of each map its readers need.
pub(super) fn slots(program: &Program, width: usize) -> Vec<Slot> {
    let mut slots: Vec<Slot> = program
        .maps
        .iter()
        .map(|&map| Slot {
            map,
            rows: 1,
            padding: 0,
            columns: if map.reach == Reach::Row { width } else { 1 },
        })
        .collect();
    for op in &program.ops {
        let Op::Conv(conv) = op else { continue };
        for term in &conv.terms {
            let slot = &mut slots[term.input];
            slot.rows = slot.rows.max(1 + term.dy.unsigned_abs() as usize);
            slot.padding = slot.padding.max(term.dx.unsigned_abs() as usize);
            if (term.dy, term.dx) != (0, 0) {
                slot.columns = width;
            }
        }
    }
    slots
}

fn step(op: &Op, program: &Program) -> Step {
    match *op {
        Op::Conv(ref conv) => Step::Convolution(convolution(conv, program)),
        Op::Gate { input, output } => Step::Gate { input, output },
        Op::Relu { input, output } => Step::Relu { input, output },
        Op::Elu { input, output } => Step::Elu { input, output },
        Op::Add { a, b, output } => Step::Add { a, b, output },
        Op::Attention { queries, past, output, heads } => {
            Step::Attention { queries, past, output, heads }
        }
    }
}

fn convolution(conv: &Conv, program: &Program) -> Convolution {
    let out = program.maps[conv.output];
    let outs = outputs(out, program.colours);
    let at_row_start = |term: &&Term| program.maps[term.input].reach == Reach::Row || term.dy < 0;
    let (row, pixel): (Vec<&Term>, Vec<&Term>) = conv.terms.iter().partition(at_row_start);
    let pixel = match out.reach {
        Reach::Row => {
            assert!(pixel.is_empty(), "a row map reads rows above only");
            Vec::new()
        }
        Reach::Pixel => {
            let colours = outs.chunks(out.channels / program.colours);
            colours.map(|outs| sum(&pixel, outs, program)).collect()
        }
        Reach::Drawn => vec![sum(&pixel, &outs, program)],
    };
    let permuted = |row: &[f32]| outs.iter().map(|&out| row[out]).collect::<Vec<f32>>();
    Convolution {
        output: conv.output,
        row: sum(&row, &outs, program),
        pixel,
        bias: permuted(&conv.bias),
        class: conv
            .class
            .as_ref()
            .map(|table| table.chunks(out.channels).flat_map(permuted).collect()),
    }
}

/// The channels of a map in the order in which the engine keeps them: those of a colour one behind the other, so tanh and
/// sigmoid halves of a colour are neighbours.
pub(super) fn outputs(map: Map, colours: usize) -> Vec<usize> {
    if map.reach != Reach::Pixel {
        return (0..map.channels).collect();
    }
    let half = map.channels / map.halves;
    let share = half / colours;
    let of_colour = |colour| {
        (0..map.halves).flat_map(move |h| (0..share).map(move |i| h * half + colour * share + i))
    };
    (0..colours).flat_map(of_colour).collect()
}

/// Packs the taps of `terms` for the outputs `outs`, each with the prefix of inputs that any of them reads.
fn sum(terms: &[&Term], outs: &[usize], program: &Program) -> Sum {
    let inputs = |term: &Term| {
        let channels = program.maps[term.input].channels;
        let used = |k: &usize| outs.iter().any(|out| term.ws[out * channels + k] != 0.);
        (0..channels).rfind(used).map_or(0, |last| last + 1)
    };
    let live: Vec<(&Term, usize)> =
        terms.iter().map(|&term| (term, inputs(term))).filter(|it| it.1 > 0).collect();
    let sizes: Vec<usize> = live.iter().map(|it| it.1).collect();
    let weights = Packed::new(outs.len(), &sizes, |tap, k, out| {
        let term = live[tap].0;
        term.ws[outs[out] * program.maps[term.input].channels + k]
    });
    let sources = live
        .iter()
        .map(|(term, _)| Source { input: term.input, dy: term.dy, dx: term.dx })
        .collect();
    Sum { weights, sources }
}
