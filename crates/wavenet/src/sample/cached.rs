//! Cached generation in libtorch operations, on any device: queues of past activations (Le Paine et al., "Fast Wavenet
//! Generation Algorithm", 2016, <https://arxiv.org/abs/1611.09482>). Letters: B clips, R, G, S as in the network.

use core_layers::{Conditional, Context as _, Engine, Layout, Stepper};
use tch::{Device, IndexOp, Kind, Tensor};

use crate::model::{Condition, SoundContext, WaveNet};

/// Steppers that keep activations in tensors.
#[derive(Debug)]
pub struct CachedEngine<'m> {
    layout: Layout,
    model: &'m WaveNet,
    device: Device,
}

impl<'m> CachedEngine<'m> {
    /// The engine of `model`, whose weights are on `device`, for clips of `samples`.
    pub fn new(model: &'m WaveNet, samples: usize, device: Device) -> Self {
        Self { layout: Layout::uniform(samples, model.config().levels as u32), model, device }
    }
}

impl Engine for CachedEngine<'_> {
    type Context = SoundContext;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &SoundContext) -> Box<dyn Stepper + 'a> {
        let config = self.model.config();
        let rows = context.rows() as i64;
        let zeros = |sizes: &[i64]| Tensor::zeros(sizes, (Kind::Float, self.device));
        let queues = config.dilations.iter().map(|dilation| {
            zeros(&[(config.kernel_size - 1) * dilation + 1, rows, config.residual_channels])
        });
        let condition =
            tch::no_grad(|| self.model.condition(context, self.layout.len() as i64, self.device));
        Box::new(CachedStepper {
            engine: self,
            rows,
            history: zeros(&[config.first_kernel_size + 1, rows, config.embedding()]),
            queues: queues.collect(),
            condition,
            t: 0,
            gates: None,
        })
    }
}

struct CachedStepper<'e> {
    engine: &'e CachedEngine<'e>,
    rows: i64,
    history: Tensor, // embedded levels [k0 + 1, B, E], sample t in row t mod (k0 + 1)
    queues: Vec<Tensor>, // by layer: what it read [(k - 1) d + 1, B, R]
    condition: Condition,
    t: i64,
    gates: Option<Tensor>, // of all layers, for the current sample [B, layers G]
}

impl CachedStepper<'_> {
    fn compute(&mut self) -> Tensor {
        if let Some(gates) = &self.gates {
            return gates.shallow_clone();
        }
        let model = self.engine.model;
        let mut hs = self.enter(); // [B, R]
        let mut all = Vec::new();
        for (index, layer) in model.layers.iter().enumerate() {
            let (queue, config) = (&self.queues[index], layer.dilated.config());
            let slots = queue.size()[0];
            queue.i(self.t % slots).copy_(&hs);
            let mut pre = layer.dilated.bias().expect("it has one").unsqueeze(0);
            for tap in 0..config.kernel_size {
                let read = queue.i((self.t - config.delay(tap)).rem_euclid(slots));
                pre = &pre + read.matmul(&layer.dilated.weight().i((.., .., tap)).tr());
            }
            if let Some(added) = layer.added(&self.condition.at(self.t)) {
                pre = &pre + added.squeeze_dim(2);
            }
            let halves = pre.chunk(2, 1);
            let zs = halves[0].tanh() * halves[1].sigmoid();
            if let Some(residual) = &layer.residual {
                hs = &hs + zs.linear(&residual.weight().squeeze_dim(2), residual.bias());
            }
            all.push(zs);
        }
        let gates = Tensor::cat(&all, 1);
        self.gates = Some(gates.shallow_clone());
        gates
    }

    fn enter(&self) -> Tensor {
        let model = self.engine.model;
        let (taps, channels) = (model.config.first_kernel_size, model.config.residual_channels);
        let read = |tap: i64| self.history.i((self.t - (taps - tap)).rem_euclid(taps + 1));
        if let Some(first) = &model.first {
            let mut hs = first.bias().expect("it has one").unsqueeze(0);
            for tap in 0..taps {
                hs = &hs + read(tap).matmul(&first.weight().i((.., .., tap)).tr());
            }
            return hs.expand([self.rows, channels], false);
        }
        let vectors = (0..taps).map(|tap| read(tap).narrow(1, tap * channels, channels));
        vectors.reduce(|a, b| a + b).expect("a kernel has a tap")
    }
}

impl Stepper for CachedStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        let model = self.engine.model;
        tch::no_grad(|| {
            let linear = |conv: &core_layers::conv::CausalConv1d, xs: &Tensor| {
                xs.linear(&conv.weight().squeeze_dim(2), conv.bias())
            };
            let skips = linear(&model.skip, &self.compute()).relu();
            let outputs = linear(&model.output, &linear(&model.head, &skips).relu());
            model.conditionals_of(&outputs.unsqueeze(1)).write_to(out);
        });
    }

    fn feed(&mut self, symbols: &[u32]) {
        tch::no_grad(|| {
            let _ = self.compute();
            let symbols: Vec<i64> = symbols.iter().map(|&symbol| i64::from(symbol)).collect();
            let xs = Tensor::from_slice(&symbols).unsqueeze(1).to_device(self.engine.device);
            let embedded = self.engine.model.embed(&xs).squeeze_dim(1); // [B, E]
            self.history.i(self.t % self.history.size()[0]).copy_(&embedded);
        });
        self.t += 1;
        self.gates = None;
    }
}
