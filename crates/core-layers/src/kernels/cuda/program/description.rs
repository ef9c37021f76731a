//! A program as `csrc/cuda/program.cu` reads it: a description in whole numbers, weights of T, and numbers in f32.

use anyhow::{Result, anyhow, ensure};
use tch::{Device, Kind, Tensor};

use super::super::{
    Element, Gpu, of,
    stepper::{self, QUAD},
};

/// Lanes of a product when a row begins: `ROW_LANES` of the kernel.
pub(super) const ROW_LANES: usize = 8;
/// What fits the kernel's whole numbers of 32 bits with room for products.
const MOST: usize = 1 << 22;

/// Features of every pixel, of which the last rows are kept.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    /// Features of a pixel.
    pub channels: usize,
    /// Rows that are kept: the current one and those that a tap still reads; all, of a map that is loaded beforehand.
    pub rows: usize,
    /// Columns of zeros on either side.
    pub padding: usize,
    /// Columns between them: all, or one where only the pixel itself is read.
    pub columns: usize,
}

/// What a convolution reads: `input[r + dy, c + dx]`, the first channels of it.
#[derive(Debug, Clone, Copy)]
pub struct Tap {
    /// The map.
    pub map: usize,
    /// Rows down, never positive.
    pub dy: i64,
    /// Columns to the right.
    pub dx: i64,
    /// Channels.
    pub channels: usize,
}

/// What a convolution starts from.
#[derive(Debug, Clone)]
pub enum Start {
    /// A bias `[O]` and what each class adds `[classes, O]`, row-major.
    Bias(Vec<f32>, Option<Vec<f32>>),
    /// A row's sums: which, and the first of their channels.
    Sum(usize, usize),
}

/// What a convolution writes.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Channels of a map from one on.
    Map(usize, usize),
    /// All channels of a row's sums.
    Sum(usize),
}

impl Target {
    fn is_map(self, map: usize) -> bool {
        matches!(self, Self::Map(it, _) if it == map)
    }
}

/// A function of single numbers, and the maps that it reads.
#[derive(Debug, Clone, Copy)]
pub enum Function {
    /// `tanh(a) sigmoid(b)`, a and b of each colour one behind the other.
    Gate(usize),
    /// `max(x, 0)`.
    Relu(usize),
    /// `x` where positive, `exp(x) - 1` elsewhere.
    Elu(usize),
    /// The sum of two maps.
    Add(usize, usize),
}

/// What a step computes.
#[derive(Debug, Clone)]
pub enum Step {
    /// A sum of taps.
    Convolution {
        /// Taps in the order in which their inputs are summed.
        taps: Vec<Tap>,
        /// Weights `[inputs of all taps, O]`, row-major.
        weights: Vec<f32>,
        /// Outputs O.
        outs: usize,
        /// What the sum starts from.
        start: Start,
        /// What is written.
        to: Target,
    },
    /// A function of `count` channels of a map from `first` on.
    Pointwise {
        /// Which, and of what.
        of: Function,
        /// The map that is written.
        to: usize,
        /// The first of its channels.
        first: usize,
        /// How many.
        count: usize,
    },
}

/// A network as steps.
#[derive(Debug, Clone)]
pub struct Description {
    /// Rows H, columns W and colours G of an image.
    pub size: [usize; 3],
    /// What each level becomes, `[L, E]` row-major: map 0 has E channels a colour.
    pub table: Vec<f32>,
    /// Levels L.
    pub levels: usize,
    /// The map of the head, and the channels O of it that a colour has, one colour behind the other.
    pub output: (usize, usize),
    /// Every map; map 0 is the embedded image.
    pub maps: Vec<Map>,
    /// Channels of every row's sums.
    pub sums: Vec<usize>,
    /// What is computed of all columns when a row begins.
    pub row: Vec<Step>,
    /// What is computed of a pixel before each colour.
    pub pixel: Vec<Vec<Step>>,
}

/// A network on a GPU, in the order in which its kernel reads it.
#[derive(Debug)]
pub struct Program {
    pub(super) gpu: &'static dyn Gpu,
    pub(super) device: Device,
    pub(super) element: Element,
    pub(super) description: Tensor, // i64
    pub(super) weights: Tensor,     // T
    pub(super) floats: Tensor,
    pub(super) size: [usize; 3],
    pub(super) maps: Vec<(Map, i64)>, // and where they start
    pub(super) floats_of_maps: i64,
    pub(super) floats_of_sums: i64,
    pub(super) classes: Option<usize>, // the fewest that a table has
    pub(super) levels: i64,
    pub(super) outputs: i64,
    pub(super) threads: u32,
    /// Floats of shared memory for one lane of a pixel's products, and of a row's.
    pub(super) room: [usize; 2],
}

/// Everything packed so far.
#[derive(Debug, Default)]
struct Packing {
    weights: Vec<f32>,
    floats: Vec<f32>,
    instructions: Vec<[i64; INSTRUCTION]>,
    taps: Vec<[i64; 4]>,
    classes: Option<usize>,
    room: [usize; 2],
}

/// Numbers of an instruction.
const INSTRUCTION: usize = 15;

impl Map {
    fn span(&self) -> usize {
        self.columns + 2 * self.padding
    }
}

impl Description {
    /// Where `count` channels of a map from `first` on are in it.
    fn has(&self, map: usize, first: usize, count: usize) -> bool {
        self.maps.get(map).is_some_and(|it| first + count <= it.channels)
    }

    /// Whether a map has a pixel a column, not one that all share.
    fn is_row(&self, map: usize) -> bool {
        self.maps.get(map).is_some_and(|it| it.columns == self.size[1])
    }

    fn ensure_sound(&self) -> Result<()> {
        let [height, width, colours] = self.size;
        let (output, outputs) = self.output;
        let features = self.table.len() / self.levels.max(1);
        let map = |it: &Map| {
            let columns = it.columns == width || it.columns == 1 && it.padding == 0 && it.rows == 1;
            (1..MOST).contains(&it.channels) && (1..MOST).contains(&it.rows) && columns
        };
        ensure!(
            [height, width, colours, outputs, features].iter().all(|it| (1..MOST).contains(it))
                && self.levels > 1
                && self.table.len() == features * self.levels
                && self.pixel.len() == colours
                && self.maps.iter().all(map)
                && self.has(0, 0, features * colours)
                && self.has(output, 0, outputs * colours)
                && self.sums.iter().all(|it| (1..MOST).contains(it)),
            "no kernel steps a program of {:?} and {} maps",
            self.size,
            self.maps.len()
        );
        Ok(())
    }

    /// Appends a step of a colour, or of a row.
    fn pack(
        &self,
        step: &Step,
        colour: Option<usize>,
        threads: usize,
        to: &mut Packing,
    ) -> Result<()> {
        let number = colour.map_or(-1, |it| it as i64);
        let sums_before =
            |sum: usize| self.sums[..sum].iter().map(|it| it * self.size[1]).sum::<usize>() as i64;
        let bad = || anyhow!("a step of a program reads or writes what is not there: {step:?}");
        match step {
            Step::Pointwise { of, to: target, first, count } => {
                let (kind, a, b) = match *of {
                    Function::Gate(a) => (2, a, a),
                    Function::Relu(a) => (3, a, a),
                    Function::Elu(a) => (4, a, a),
                    Function::Add(a, b) => (5, a, b),
                };
                let times = if kind == 2 { 2 } else { 1 };
                let reads =
                    self.has(a, times * first, times * count) && self.has(b, *first, *count);
                let has_all = reads && self.has(*target, *first, *count);
                // a gate reads two channels of which it would write one
                let is_apart = kind != 2 || a != *target;
                let are_rows =
                    colour.is_some() || [a, b, *target].iter().all(|&it| self.is_row(it));
                ensure!(*count > 0 && has_all && is_apart && are_rows, bad());
                let [a, b, target, first, count] =
                    [a, b, *target, *first, *count].map(|it| it as i64);
                to.instructions
                    .push([kind, number, a, b, target, first, count, 0, 0, 0, 0, -1, 0, 0, -1]);
            }
            Step::Convolution { taps, weights, outs, start, to: target } => {
                let read = |tap: &Tap| {
                    let Some(map) = self.maps.get(tap.map) else { return false };
                    (1..=map.channels).contains(&tap.channels)
                        && (1 - map.rows as i64..=0).contains(&tap.dy)
                        && tap.dx.unsigned_abs() as usize <= map.padding
                        // of its own row, a row step may read no neighbour that it is about to write
                        && (colour.is_some() || self.is_row(tap.map))
                        && !(colour.is_none() && tap.dy == 0 && tap.dx != 0 && target.is_map(tap.map))
                };
                let ins = taps.iter().map(|it| it.channels).sum::<usize>();
                let (kind, target, first) = match *target {
                    Target::Map(map, first) => {
                        ensure!(self.has(map, first, *outs), bad());
                        ensure!(colour.is_some() || self.is_row(map), bad());
                        (0, map as i64, first)
                    }
                    Target::Sum(sum) => {
                        ensure!(colour.is_none() && self.sums.get(sum) == Some(outs), bad());
                        (1, sums_before(sum), 0)
                    }
                };
                let (mut from, mut sum_width, mut bias, mut classes) = (-1, 0, 0, -1);
                match start {
                    // the kernel adds the first channel that is written
                    Start::Sum(sum, at) => {
                        let width = self.sums.get(*sum).copied().unwrap_or(0);
                        ensure!(*at == first && at + outs <= width, bad());
                        (from, sum_width) = (sums_before(*sum), width as i64);
                    }
                    Start::Bias(added, of_class) => {
                        ensure!(added.len() == *outs, bad());
                        bias = to.floats.len() as i64;
                        to.floats.extend(added);
                        if let Some(table) = of_class {
                            ensure!(!table.is_empty() && table.len() % outs == 0, bad());
                            let count = table.len() / outs;
                            to.classes = Some(to.classes.map_or(count, |it| it.min(count)));
                            classes = to.floats.len() as i64;
                            to.floats.extend(table);
                        }
                    }
                }
                let sizes = (1..MOST).contains(outs) && ins < MOST && weights.len() == ins * outs;
                ensure!(sizes && taps.iter().all(read), bad());
                let (at, at_tap) = (to.weights.len() as i64, to.taps.len() as i64);
                let padding = outs.next_multiple_of(QUAD) - outs;
                for row in weights.chunks_exact(*outs) {
                    to.weights.extend(row.iter().copied().chain(std::iter::repeat_n(0., padding)));
                }
                let tap = |it: &Tap| [it.map as i64, it.dy, it.dx, it.channels as i64];
                to.taps.extend(taps.iter().map(tap));
                let room = &mut to.room[usize::from(colour.is_none())];
                *room = (*room).max(ins + stepper::parts(*outs, threads));
                let [first, outs, ins, count] = [first, *outs, ins, taps.len()].map(|it| it as i64);
                to.instructions.push([
                    kind, number, 0, 0, target, first, outs, at, ins, at_tap, count, from,
                    sum_width, bias, classes,
                ]);
            }
        }
        Ok(())
    }
}

impl Program {
    /// Packs a program for `device`, its weights rounded to `kind`.
    ///
    /// # Errors
    /// Where no kernels run on the device, or a step reads or writes what is not there.
    pub fn new(of_what: &Description, kind: Kind, device: Device) -> Result<Self> {
        let gpu = of(device).ok_or_else(|| anyhow!("no kernels run on {device:?}"))?;
        let element = Element::of(kind).ok_or_else(|| anyhow!("no kernel takes {kind:?}"))?;
        of_what.ensure_sound()?;
        let steps = || {
            let pixel = of_what.pixel.iter().enumerate();
            let pixel =
                pixel.flat_map(|(colour, all)| all.iter().map(move |it| (it, Some(colour))));
            of_what.row.iter().map(|it| (it, None)).chain(pixel)
        };
        let outs = |(step, _)| match step {
            &Step::Convolution { outs, .. } => outs,
            Step::Pointwise { .. } => 1,
        };
        let threads = stepper::threads(steps().map(outs).max().unwrap_or(1));
        let mut packing = Packing::default();
        for (step, colour) in steps() {
            of_what.pack(step, colour, threads, &mut packing)?;
        }
        let table = packing.floats.len();
        packing.floats.extend(&of_what.table);
        let mut size = 0;
        let mut maps = Vec::new();
        let mut described = Vec::new();
        for map in &of_what.maps {
            let step = i64::from(map.columns > 1 || of_what.size[1] == 1);
            let [channels, rows, span, padding] =
                [map.channels, map.rows, map.span(), map.padding].map(|it| it as i64);
            described.extend([size, channels, rows, span, padding, step]);
            maps.push((*map, size));
            size += rows * span * channels;
        }
        let sums = of_what.sums.iter().map(|it| it * of_what.size[1]).sum::<usize>() as i64;
        let [_, width, colours] = of_what.size;
        let (output, outputs) = of_what.output;
        let features = of_what.table.len() / of_what.levels;
        let head = [width, colours, outputs, of_what.levels, features, of_what.maps.len()];
        let counts = [packing.instructions.len(), of_what.row.len(), output, table];
        let mut description: Vec<i64> =
            head.into_iter().chain(counts).map(|it| it as i64).collect();
        description.extend([size, sums]);
        description.extend(described);
        description.extend(packing.instructions.as_flattened());
        description.extend(packing.taps.as_flattened());
        Ok(tch::no_grad(|| Self {
            gpu,
            device,
            element,
            description: Tensor::from_slice(&description).to_device(device),
            weights: Tensor::from_slice(&packing.weights).to_kind(kind).to_device(device),
            floats: Tensor::from_slice(&packing.floats).to_device(device),
            size: of_what.size,
            maps,
            floats_of_maps: size,
            floats_of_sums: sums,
            classes: packing.classes,
            levels: of_what.levels as i64,
            outputs: outputs as i64,
            threads: threads as u32,
            room: packing.room,
        }))
    }
}
