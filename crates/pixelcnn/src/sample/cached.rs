//! Cached sampling in libtorch operations, on any device: a row of the vertical stack at once, then pixel by pixel, never
//! computing a feature twice. Letters: B rows, W columns, C channels.

use core_layers::{
    Autoregressive, Conditional, Conditionals, ConfigError, Context, Engine, Layout, Stepper,
};
use tch::{Device, Kind, Tensor};

use super::cursor::Cursor;
use crate::{
    config::Head,
    model::{
        Conv, ConvolutionalModel, Estimator, ImageContext, MapId, Model, Op, Program, Reach, Term,
        coordinates,
    },
};

/// Steppers of a convolutional model that keep features in tensors.
#[derive(Debug)]
pub struct CachedEngine<'m> {
    layout: Layout,
    model: &'m ConvolutionalModel,
    program: Program,
    convs: Vec<Option<Weights>>, // by step
    padding: Vec<i64>,           // by map
    device: Device,
}

/// The taps of one convolution, split by when they are known.
#[derive(Debug)]
struct Weights {
    row: Taps,
    pixel: Taps,
    bias: Tensor,          // [O]
    class: Option<Tensor>, // [classes, O]
}

#[derive(Debug)]
struct Taps {
    sources: Vec<(MapId, i64, i64)>, // map, rows down, columns to the right
    ws: Option<Tensor>,              // [sum of inputs, O]
}

impl<'m> CachedEngine<'m> {
    /// The engine of `model`, whose weights are on `device`.
    ///
    /// # Errors
    /// [`ConfigError`] for a model that is not convolutional.
    pub fn new(model: &'m Model, device: Device) -> Result<Self, ConfigError> {
        let Estimator::Convolutional(convolutional) = model.estimator() else {
            return Err(ConfigError::new(
                "--sampler",
                "cached",
                format!("plain or exact for {}", model.config().kind()),
            ));
        };
        let program = convolutional.program();
        let mut padding = vec![0; program.maps.len()];
        let mut convs = Vec::new();
        for op in &program.ops {
            convs.push(if let Op::Conv(conv) = op {
                for term in &conv.terms {
                    padding[term.input] = padding[term.input].max(term.dx.abs());
                }
                Some(Weights::new(conv, &program, device))
            } else {
                None
            });
        }
        Ok(Self { layout: model.layout(), model: convolutional, program, convs, padding, device })
    }
}

impl Weights {
    fn new(conv: &Conv, program: &Program, device: Device) -> Self {
        let outs = program.maps[conv.output].channels as i64;
        let (row, pixel): (Vec<&Term>, Vec<&Term>) = conv
            .terms
            .iter()
            .partition(|term| program.maps[term.input].reach == Reach::Row || term.dy < 0);
        let taps = |terms: &[&Term]| {
            let ws: Vec<Tensor> = terms
                .iter()
                .map(|term| Tensor::from_slice(&term.ws).reshape([outs, -1]).tr())
                .collect();
            Taps {
                sources: terms.iter().map(|term| (term.input, term.dy, term.dx)).collect(),
                ws: (!ws.is_empty()).then(|| Tensor::cat(&ws, 0).contiguous().to_device(device)),
            }
        };
        Self {
            row: taps(&row),
            pixel: taps(&pixel),
            bias: Tensor::from_slice(&conv.bias).to_device(device),
            class: conv
                .class
                .as_ref()
                .map(|table| Tensor::from_slice(table).reshape([-1, outs]).to_device(device)),
        }
    }
}

impl Engine for CachedEngine<'_> {
    type Context = ImageContext;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &ImageContext) -> Box<dyn Stepper + 'a> {
        let image = self.model.image();
        let rows = context.rows() as i64;
        let maps = self.program.maps.iter().zip(&self.padding).map(|(map, padding)| {
            let sizes = [rows, image.height, image.width + 2 * padding, map.channels as i64];
            Tensor::zeros(sizes, (Kind::Float, self.device))
        });
        let labels = context.class().map(|labels| {
            let labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
            Tensor::from_slice(&labels).to_device(self.device)
        });
        let sums = vec![None; self.program.ops.len()].into_iter().map(|_: Option<()>| None);
        let mut stepper = CachedStepper {
            engine: self,
            rows,
            maps: maps.collect(),
            labels,
            sums: sums.collect(),
            cursor: Cursor::default(),
            is_computed: false,
        };
        tch::no_grad(|| {
            stepper.load(1, self.model.context_features(context, self.device).as_ref());
            if let Some(map) = self.program.position {
                let positions = coordinates(image.height, image.width, self.device);
                stepper.load(map, Some(&positions));
            }
            stepper.start_row();
        });
        Box::new(stepper)
    }
}

struct CachedStepper<'e> {
    engine: &'e CachedEngine<'e>,
    rows: i64,
    maps: Vec<Tensor>, // [B, H, padding + W + padding, C]
    labels: Option<Tensor>,
    sums: Vec<Option<Tensor>>, // by step: what is known at the row's start [B, W, O]
    cursor: Cursor,
    is_computed: bool,
}

impl CachedStepper<'_> {
    fn row(&self) -> i64 {
        self.cursor.row as i64
    }

    fn column(&self) -> i64 {
        self.cursor.column as i64
    }

    fn colour(&self) -> i64 {
        self.cursor.colour as i64
    }

    /// The columns from `column` on of a map's row: `[B, count, C]`.
    fn window(&self, map: MapId, row: i64, column: i64, count: i64) -> Tensor {
        self.maps[map].select(1, row).narrow(1, self.engine.padding[map] + column, count)
    }

    /// Writes a map that is known beforehand, `[B, C, H, W]`.
    fn load(&self, map: MapId, values: Option<&Tensor>) {
        let Some(values) = values else { return };
        let width = self.engine.model.image().width;
        let to = self.maps[map].narrow(2, self.engine.padding[map], width);
        to.shallow_clone().copy_(&values.permute([0, 2, 3, 1]).expand_as(&to));
    }

    /// `columns` pixels from `column` on of the sum of `taps` `[B, columns, O]`; rows above the image are zeros.
    fn sum(&self, taps: &Taps, column: i64, columns: i64) -> Option<Tensor> {
        let ws = taps.ws.as_ref()?;
        let read: Vec<Tensor> = taps
            .sources
            .iter()
            .map(|&(map, dy, dx)| {
                if self.row() + dy < 0 {
                    let channels = self.engine.program.maps[map].channels as i64;
                    Tensor::zeros([self.rows, columns, channels], (Kind::Float, self.engine.device))
                } else {
                    self.window(map, self.row() + dy, column + dx, columns)
                }
            })
            .collect();
        Some(Tensor::cat(&read, 2).matmul(ws))
    }

    fn start_row(&mut self) {
        let width = self.engine.model.image().width;
        for (index, op) in self.engine.program.ops.iter().enumerate() {
            let known = self.engine.convs[index].as_ref().map(|weights| {
                let mut bias = weights.bias.shallow_clone();
                if let (Some(table), Some(labels)) = (&weights.class, &self.labels) {
                    bias = &bias + table.index_select(0, labels).unsqueeze(1); // [B, 1, O]
                }
                let sum = self.sum(&weights.row, 0, width);
                sum.map_or_else(|| bias.expand([self.rows, width, -1], false), |sum| sum + &bias)
            });
            if self.engine.program.maps[op.output()].reach == Reach::Row {
                self.write(op, known, 0, width);
            } else {
                self.sums[index] = known;
            }
        }
    }

    fn compute(&mut self) {
        if !self.is_computed {
            self.compute_pixel(Reach::Pixel);
            self.is_computed = true;
        }
    }

    /// The current pixel of every map that is known when `reach` says.
    fn compute_pixel(&self, reach: Reach) {
        for (index, op) in self.engine.program.ops.iter().enumerate() {
            if self.engine.program.maps[op.output()].reach == reach {
                let known = self.sums[index].as_ref().map(|sums| sums.narrow(1, self.column(), 1));
                let pixel = self.engine.convs[index]
                    .as_ref()
                    .and_then(|it| self.sum(&it.pixel, self.column(), 1));
                let value = match (known, pixel) {
                    (Some(known), Some(pixel)) => Some(known + pixel),
                    (known, _) => known,
                };
                self.write(op, value, self.column(), 1);
            }
        }
    }

    /// What `heads` heads of the current pixel read of the pixels before it `[B, 1, C]`.
    fn attend(&self, queries: MapId, past: MapId, heads: i64) -> Tensor {
        let queries = self.window(queries, self.row(), self.column(), 1); // [B, 1, C]
        let before = self.row() * self.engine.model.image().width + self.column();
        if before == 0 {
            return queries.zeros_like();
        }
        let past = self.maps[past].flatten(1, 2).narrow(1, 0, before).chunk(2, -1); // [B, before, C]
        let of_heads =
            |xs: &Tensor| xs.unflatten(-1, [heads, xs.size()[2] / heads]).transpose(1, 2);
        let (queries, keys, values) = (of_heads(&queries), of_heads(&past[0]), of_heads(&past[1])); // [B, M, .., D]
        let depth = queries.size()[3] as f64;
        let scores = (queries / depth.sqrt()).matmul(&keys.transpose(2, 3)); // [B, M, 1, before]
        scores.softmax(-1, Kind::Float).matmul(&values).transpose(1, 2).flatten(2, 3)
    }

    /// Writes a step's output for `count` columns; `conv` is the value of a convolution.
    fn write(&self, op: &Op, conv: Option<Tensor>, column: i64, count: i64) {
        let read = |map| self.window(map, self.row(), column, count);
        let value = match (op, conv) {
            (Op::Conv(_), Some(value)) => value,
            (Op::Gate { input, .. }, _) => {
                let halves = read(*input).chunk(2, -1);
                halves[0].tanh() * halves[1].sigmoid()
            }
            (Op::Relu { input, .. }, _) => read(*input).relu(),
            (Op::Elu { input, .. }, _) => read(*input).elu(),
            (Op::Add { a, b, .. }, _) => read(*a) + read(*b),
            (Op::Attention { queries, past, heads, .. }, _) => {
                self.attend(*queries, *past, *heads as i64)
            }
            (Op::Conv(_), None) => unreachable!("a convolution has a bias"),
        };
        self.window(op.output(), self.row(), column, count).copy_(&value);
    }
}

impl Stepper for CachedStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        let image = self.engine.model.image();
        let outputs = tch::no_grad(|| {
            self.compute();
            let all = self.window(self.engine.program.output, self.row(), self.column(), 1); // [B, 1, G outputs]
            all.narrow(2, self.colour() * image.outputs(), image.outputs())
        });
        let logits = match image.head {
            Head::Softmax => outputs,
            Head::Logistics { .. } => {
                Conditionals::Logistics(self.engine.model.logistics_of(&outputs)).log_probs()
            }
        };
        let to = out.reset(self.rows as usize, image.levels as usize);
        logits.to_device(Device::Cpu).contiguous().copy_data(to, to.len());
    }

    fn feed(&mut self, symbols: &[u32]) {
        let image = self.engine.model.image();
        let symbols: Vec<i64> = symbols.iter().map(|&symbol| i64::from(symbol)).collect();
        let features = image.features();
        tch::no_grad(|| {
            self.compute();
            let xs = Tensor::from_slice(&symbols).unsqueeze(-1).to_device(self.engine.device);
            self.window(0, self.row(), self.column(), 1)
                .narrow(2, self.colour() * features, features)
                .copy_(&self.engine.model.embed(&xs)); // [B, 1, E]
            if self.colour() + 1 == image.colours {
                self.compute_pixel(Reach::Drawn);
            }
        });
        self.is_computed = false;
        let (width, colours) = (image.width as usize, image.colours as usize);
        if self.cursor.advance(width, colours) && self.row() < image.height {
            tch::no_grad(|| self.start_row());
        }
    }
}
