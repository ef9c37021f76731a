//! Drawing on a GPU: one kernel computes and draws a row of pixels of many images (`core_layers::kernels::program`). Weights
//! are in the kind that is asked for; features and sums are f32.
//!
//! A model with attention is refused, as are those that are not convolutional; without `--sampler`, the cached engine draws
//! in their stead. Letters: B images, W columns, G colours, C channels.

use core_layers::{
    Autoregressive, Conditional, Conditionals, ConfigError, Context, Engine, Layout, Stepper,
    kernels::program::{
        self as kernel, Description, Function, Images, Map, Program, Start, Step, Tap, Target,
    },
    random,
    sampling::{self, Draws, SamplingConfig},
};
use ndarray::{Array2, ArrayViewMut2, Axis, s};
use tch::{Device, Kind, Tensor};

use super::plan::{outputs, slots};
use crate::{
    config::Head,
    model::{
        Conv, ConvolutionalModel, Estimator, ImageContext, Model, Op, Program as Steps, Reach,
        Term, coordinates,
    },
};

/// Steppers whose values one kernel makes: for convolutional models on a GPU.
#[derive(Debug)]
pub struct CudaEngine<'m> {
    layout: Layout,
    model: &'m ConvolutionalModel,
    position: Option<usize>,
    device: Device,
    program: Program,
}

impl<'m> CudaEngine<'m> {
    /// The convolutional model that kernels on `device` can step.
    ///
    /// # Errors
    /// [`ConfigError`] where no kernels run there, or for a model that is not convolutional or has attention.
    fn serves(model: &Model, device: Device) -> Result<&ConvolutionalModel, ConfigError> {
        let refused = |rule: String| ConfigError::new("--sampler", "cuda", rule);
        if !kernel::is_there(device) {
            return Err(refused("exact, cached or plain where no CUDA kernels run".into()));
        }
        let Estimator::Convolutional(found) = model.estimator() else {
            return Err(refused(format!("plain or exact for {}", model.config().kind())));
        };
        if found.program().ops.iter().any(|op| matches!(op, Op::Attention { .. })) {
            return Err(refused("cached, plain or exact for a model with attention".into()));
        }
        Ok(found)
    }

    /// The engine of `model`, whose weights are on `device` and are rounded to `kind`.
    ///
    /// # Errors
    /// As `serves`, or for a model too large for the kernel.
    pub fn new(model: &'m Model, kind: Kind, device: Device) -> Result<Self, ConfigError> {
        let convolutional = Self::serves(model, device)?;
        let steps = convolutional.program();
        let program = Program::new(&describe(convolutional, &steps), kind, device)
            .map_err(|error| ConfigError::new("--sampler", "cuda", format!("another: {error}")))?;
        let (layout, position) = (model.layout(), steps.position);
        Ok(Self { layout, model: convolutional, position, device, program })
    }

    /// Completes `symbols` `[B, N]` as [`sampling::draw`] does, from the same uniform numbers; of a softmax that is neither
    /// sharpened nor cut, a row of pixels a launch.
    ///
    /// # Panics
    /// When the kernel cannot run, as operations of libtorch.
    pub fn draw(
        &self,
        context: &ImageContext,
        mut symbols: ArrayViewMut2<'_, u32>,
        draws: Draws,
        tick: &dyn Fn(usize),
    ) {
        let image = self.model.image();
        if image.head != Head::Softmax || draws.config != SamplingConfig::default() {
            let mut stepper = self.stepper(context);
            return sampling::draw(stepper.as_mut(), &self.layout, symbols, 0, draws, tick);
        }
        let mut images = self.images(context);
        let (rows, values) = symbols.dim();
        for column in symbols.slice(s![.., ..draws.known]).columns() {
            images.feed(&column.to_vec()).unwrap_or_else(|error| panic!("{error}"));
            tick(rows);
        }
        let generator = |row| {
            let mut generator = random::generator(draws.seed, "draw", row as u64);
            generator.set_word_pos(2 * draws.known as u128);
            generator
        };
        let mut generators: Vec<_> = (0..rows).map(generator).collect();
        let share = (image.width * image.colours) as usize;
        let mut rest = symbols.slice_mut(s![.., draws.known..values]);
        for mut part in rest.axis_chunks_iter_mut(Axis(1), share) {
            let uniforms = Array2::from_shape_fn(part.dim(), |(row, _)| {
                random::uniform(&mut generators[row]) as f32
            });
            let drawn = images.draw(uniforms.view()).unwrap_or_else(|error| panic!("{error}"));
            part.assign(&drawn);
            tick(part.len());
        }
    }

    fn images(&self, context: &ImageContext) -> Images<'_> {
        let image = self.model.image();
        let images = self.program.images(context.rows(), context.class());
        let mut images = images.unwrap_or_else(|error| panic!("{error}"));
        let mut load = |map, values: &Tensor| {
            let loaded = images.load(map, &values.permute([0, 2, 3, 1]));
            loaded.unwrap_or_else(|error| panic!("{error}"));
        };
        tch::no_grad(|| {
            if let Some(features) = self.model.context_features(context, self.device) {
                load(1, &features);
            }
            if let Some(map) = self.position {
                load(map, &coordinates(image.height, image.width, self.device));
            }
        });
        images
    }
}

/// The steps of a model as the kernel takes them. Of a convolution of pixels, the taps into rows above, and all of row maps,
/// are summed when a row begins; the others for each colour, whose outputs lie one behind the other.
fn describe(model: &ConvolutionalModel, program: &Steps) -> Description {
    let image = model.image();
    let [height, width, colours] = [image.height, image.width, image.colours].map(|it| it as usize);
    let mut maps: Vec<Map> = slots(program, width)
        .iter()
        .map(|slot| Map {
            channels: slot.map.channels,
            rows: slot.rows,
            padding: slot.padding,
            columns: slot.columns,
        })
        .collect();
    let context = program.has_context.then_some(1);
    for map in context.into_iter().chain(program.position) {
        maps[map].rows = height;
    }
    let mut all = Description {
        size: [height, width, colours],
        table: model.level_features(),
        levels: image.levels as usize,
        output: (program.output, image.outputs() as usize),
        maps,
        sums: Vec::new(),
        row: Vec::new(),
        pixel: vec![Vec::new(); colours],
    };
    for op in &program.ops {
        let of = match *op {
            Op::Conv(ref conv) => {
                convolution(conv, program, &mut all);
                continue;
            }
            Op::Gate { input, .. } => Function::Gate(input),
            Op::Relu { input, .. } => Function::Relu(input),
            Op::Elu { input, .. } => Function::Elu(input),
            Op::Add { a, b, .. } => Function::Add(a, b),
            Op::Attention { .. } => unreachable!("models with attention are refused"),
        };
        let to = op.output();
        let map = program.maps[to];
        if map.reach == Reach::Row {
            all.row.push(Step::Pointwise { of, to, first: 0, count: map.channels });
            continue;
        }
        let count = map.channels / colours;
        for (colour, steps) in all.pixel.iter_mut().enumerate() {
            steps.push(Step::Pointwise { of, to, first: colour * count, count });
        }
    }
    all
}

fn convolution(conv: &Conv, program: &Steps, all: &mut Description) {
    let map = program.maps[conv.output];
    let outs = outputs(map, program.colours);
    let at_row_start = |term: &&Term| program.maps[term.input].reach == Reach::Row || term.dy < 0;
    let (row, pixel): (Vec<&Term>, Vec<&Term>) = conv.terms.iter().partition(at_row_start);
    let permuted = |row: &[f32]| outs.iter().map(|&out| row[out]).collect::<Vec<f32>>();
    let class = conv.class.as_ref();
    let class = class.map(|table| table.chunks(map.channels).flat_map(permuted).collect());
    let start = Start::Bias(permuted(&conv.bias), class);
    if map.reach == Reach::Row {
        assert!(pixel.is_empty(), "a row map reads rows above only");
        all.row.push(sum(&row, &outs, program, start, Target::Map(conv.output, 0)));
        return;
    }
    let index = all.sums.len();
    all.sums.push(map.channels);
    all.row.push(sum(&row, &outs, program, start, Target::Sum(index)));
    let share = map.channels / program.colours;
    for (colour, (steps, outs)) in all.pixel.iter_mut().zip(outs.chunks(share)).enumerate() {
        let first = colour * share;
        let to = Target::Map(conv.output, first);
        steps.push(sum(&pixel, outs, program, Start::Sum(index, first), to));
    }
}

/// The taps of `terms` for the outputs `outs`, each with the inputs up to the last that any of them reads.
fn sum(terms: &[&Term], outs: &[usize], program: &Steps, start: Start, to: Target) -> Step {
    let (mut taps, mut weights) = (Vec::new(), Vec::new());
    for term in terms {
        let width = program.maps[term.input].channels;
        let weight = |k: usize, out: usize| term.ws[out * width + k];
        let is_read = |k: &usize| outs.iter().any(|&out| weight(*k, out) != 0.);
        let Some(last) = (0..width).rfind(is_read) else { continue };
        taps.push(Tap { map: term.input, dy: term.dy, dx: term.dx, channels: last + 1 });
        weights.extend((0..=last).flat_map(|k| outs.iter().map(move |&out| weight(k, out))));
    }
    Step::Convolution { taps, weights, outs: outs.len(), start, to }
}

impl Engine for CudaEngine<'_> {
    type Context = ImageContext;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &ImageContext) -> Box<dyn Stepper + 'a> {
        Box::new(CudaStepper { model: self.model, images: self.images(context) })
    }
}

struct CudaStepper<'e> {
    model: &'e ConvolutionalModel,
    images: Images<'e>,
}

impl Stepper for CudaStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        let image = self.model.image();
        let outputs = self.images.outputs().unwrap_or_else(|error| panic!("{error}")).unsqueeze(1);
        tch::no_grad(|| match image.head {
            Head::Softmax => Conditionals::Logits(outputs).write_to(out),
            Head::Logistics { .. } => {
                let table = Conditionals::Logistics(self.model.logistics_of(&outputs)).log_probs();
                Conditionals::Logits(table).write_to(out);
            }
        });
    }

    fn feed(&mut self, symbols: &[u32]) {
        self.images.feed(symbols).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[cfg(test)]
mod tests;
