//! WaveNet (van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016, <https://arxiv.org/abs/1609.03499>).
//! Letters: B clips, T samples, L levels, R residual, G gate, S skip, A head channels, C condition channels.
//!
//! `p(x) = prod_t p(x_t | x_{t-1}, ..., x_{t-RF}, speaker, features)`. Of each layer with dilation d (equations 2 and 3):
//! `z = tanh(W_f * h + V_f y + U_f c) sigmoid(W_g * h + V_g y + U_g c)`, `h' = h + W_r z`, and the skip path sums
//! `W_s z` of all layers; then `p = softmax(W_2 relu(W_1 relu(s)))`.
//!
//! Differs: nothing reads the last layer's residual, so it has no `W_r`; the skip weights of all layers are one matrix
//! `[S, layers G]`, which is the same sum in one product; the last matrix starts at zero, so that training starts at ln L.

mod context;
mod upsampler;

pub(crate) use context::MARGIN;
pub use context::SoundContext;
pub(crate) use upsampler::{FRAME_KERNEL, Upsampler};

use core_layers::{
    Autoregressive, Conditionals, ConfigError, Context as _, Layout,
    conv::{CausalConv1d, CausalConv1dConfig, gate},
    likelihood::Logistics,
};
use tch::{Device, Kind, Tensor, nn, nn::Module};

use crate::config::{Head, Input, WaveNetConfig};

/// What a scale starts from: `e^-3` of the range `[-1, 1]`, and the least, far below a level of 16 bits.
const LOG_SCALE_START: f64 = -3.;
const MIN_LOG_SCALE: f64 = -14.;

/// One dilated layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) dilated: CausalConv1d,           // R -> 2 G, k taps
    pub(crate) speaker: Option<Tensor>,         // [speakers, 2 G]
    pub(crate) condition: Option<CausalConv1d>, // C -> 2 G, 1 tap, no bias
    pub(crate) residual: Option<CausalConv1d>,  // G -> R, 1 tap; none in the last layer
}

impl Layer {
    fn new(vs: &nn::Path<'_>, config: &WaveNetConfig, index: usize) -> Result<Self, ConfigError> {
        let wide = 2 * config.gate_channels;
        let dilated = CausalConv1dConfig::new(config.kernel_size, config.dilations[index]);
        let pointwise = CausalConv1dConfig::new(1, 1);
        let unbiased = CausalConv1dConfig { bias: false, ..pointwise };
        let residual = (index + 1 < config.dilations.len()).then(|| {
            CausalConv1d::new(
                &(vs / "residual"),
                config.gate_channels,
                config.residual_channels,
                pointwise,
            )
        });
        let condition = (config.features > 0).then(|| {
            CausalConv1d::new(&(vs / "condition"), config.condition_channels, wide, unbiased)
        });
        Ok(Self {
            dilated: CausalConv1d::new(&(vs / "dilated"), config.residual_channels, wide, dilated)?,
            speaker: (config.speakers > 0).then(|| vs.zeros("speaker", &[config.speakers, wide])),
            condition: condition.transpose()?,
            residual: residual.transpose()?,
        })
    }

    /// What speaker and condition add before the gate: `[B, 2 G, 1]` or `[B, 2 G, T]`.
    pub(crate) fn added(&self, condition: &Condition) -> Option<Tensor> {
        let speaker = self.speaker.as_ref().zip(condition.speakers.as_ref());
        let speaker =
            speaker.map(|(table, speakers)| table.index_select(0, speakers).unsqueeze(-1));
        let local = self.condition.as_ref().zip(condition.upsampled.as_ref());
        let local = local.map(|(conv, upsampled)| conv.forward(upsampled));
        match (speaker, local) {
            (Some(speaker), Some(local)) => Some(speaker + local),
            (speaker, local) => speaker.or(local),
        }
    }

    /// `z` `[B, G, T]` of `h` `[B, R, T]`.
    fn gated(&self, hs: &Tensor, condition: &Condition) -> Tensor {
        let pre = match (&self.condition, &condition.upsampled) {
            (Some(conv), Some(upsampled)) => self.dilated.sum(hs, conv, upsampled),
            _ => self.dilated.forward(hs),
        }; // [B, 2 G, T]
        match (&self.speaker, &condition.speakers) {
            (Some(table), Some(speakers)) => {
                gate(&pre, Some(&table.index_select(0, speakers))) // [B, 2 G]
            }
            _ => gate(&pre, None),
        }
    }
}

/// A context as tensors.
#[derive(Debug)]
pub(crate) struct Condition {
    speakers: Option<Tensor>,             // [B]
    pub(crate) upsampled: Option<Tensor>, // [B, C, T]
}

impl Condition {
    /// That of one sample, `[B, C, 1]`.
    pub(crate) fn at(&self, t: i64) -> Self {
        Self {
            speakers: self.speakers.as_ref().map(Tensor::shallow_clone),
            upsampled: self.upsampled.as_ref().map(|all| all.narrow(2, t, 1)),
        }
    }
}

/// The network.
#[derive(Debug)]
pub struct WaveNet {
    pub(crate) config: WaveNetConfig,
    pub(crate) embedding: Option<Tensor>, // [L, k0 R], one vector a tap
    pub(crate) first: Option<CausalConv1d>, // 1 -> R, strict
    pub(crate) upsampler: Option<Upsampler>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) skip: CausalConv1d,   // layers G -> S
    pub(crate) head: CausalConv1d,   // S -> A
    pub(crate) output: CausalConv1d, // A -> L or 3 M
}

impl WaveNet {
    /// Creates the weights of `config` under `vs`.
    ///
    /// # Errors
    /// [`ConfigError`] for a configuration that no network can be built from.
    pub fn new(vs: &nn::Path<'_>, config: &WaveNetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let pointwise = CausalConv1dConfig::new(1, 1);
        let one_hot = config.input == Input::OneHot;
        let start =
            nn::Init::Randn { mean: 0., stdev: 1. / (config.first_kernel_size as f64).sqrt() };
        let strict = CausalConv1dConfig {
            strict: true,
            ..CausalConv1dConfig::new(config.first_kernel_size, 1)
        };
        let first = (!one_hot)
            .then(|| CausalConv1d::new(&(vs / "first"), 1, config.residual_channels, strict));
        let layers = config.dilations.len();
        let all_gates = layers as i64 * config.gate_channels;
        Ok(Self {
            embedding: one_hot
                .then(|| vs.var("embedding", &[config.levels, config.embedding()], start)),
            first: first.transpose()?,
            upsampler: (config.features > 0).then(|| Upsampler::new(&(vs / "upsampler"), config)),
            layers: (0..layers)
                .map(|index| Layer::new(&(vs / "layers" / index as i64), config, index))
                .collect::<Result<_, _>>()?,
            skip: CausalConv1d::new(&(vs / "skip"), all_gates, config.skip_channels, pointwise)?,
            head: CausalConv1d::new(
                &(vs / "head"),
                config.skip_channels,
                config.head_channels,
                pointwise,
            )?,
            output: CausalConv1d::new(
                &(vs / "output"),
                config.head_channels,
                config.outputs(),
                CausalConv1dConfig { zero: true, ..pointwise },
            )?,
            config: config.clone(),
        })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &WaveNetConfig {
        &self.config
    }

    /// Samples per second, Hz, of what it was trained on.
    pub fn sample_rate(&self) -> u32 {
        self.config.sample_rate
    }

    /// Levels `[B, T]` to what the first layer reads: `[B, T, k0 R]`, or `[B, T, 1]` spread over `[-1, 1]`.
    pub fn embed(&self, xs: &Tensor) -> Tensor {
        let xs = &xs.to_device(self.output.weight().device());
        match &self.embedding {
            Some(table) => {
                let (rows, time) = xs.size2().expect("levels are [B, T]");
                table.index_select(0, &xs.reshape([-1])).reshape([rows, time, -1])
            }
            None => (xs.to_kind(Kind::Float) * (2. / (self.config.levels - 1) as f64) - 1.)
                .unsqueeze(-1),
        }
    }

    /// Conditionals of every position from embedded levels `[B, T, E]`; `train` lets dropout act.
    pub fn forward(&self, embedded: &Tensor, context: &SoundContext, train: bool) -> Conditionals {
        let condition = self.condition(context, embedded.size()[1], embedded.device());
        let mut hs = self.enter(embedded); // [B, R, T]
        let mut gates = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let read = if train && self.config.dropout > 0. {
                hs.dropout(self.config.dropout, true)
            } else {
                hs.shallow_clone()
            };
            let zs = layer.gated(&read, &condition); // [B, G, T]
            if let Some(residual) = &layer.residual {
                let change = residual.forward(&zs);
                hs = hs.to_kind(change.kind()) + change;
            }
            gates.push(zs.transpose(1, 2));
        }
        let gates = Tensor::cat(&gates, 2).transpose(1, 2); // [B, layers G, T], a sample's channels side by side
        let skips = self.skip.forward(&gates).relu();
        let outputs = self.output.forward(&self.head.forward(&skips).relu());
        self.conditionals_of(&outputs.transpose(1, 2))
    }

    /// What head outputs `[B, T, outputs]` stand for.
    pub(crate) fn conditionals_of(&self, outputs: &Tensor) -> Conditionals {
        match self.config.head {
            Head::Softmax => Conditionals::Logits(outputs.shallow_clone()),
            Head::Logistics { .. } => Conditionals::Logistics(self.logistics_of(outputs)),
        }
    }

    /// `h` of the first layer `[B, R, T]`: the initial causal convolution, which reads what came before t.
    fn enter(&self, embedded: &Tensor) -> Tensor {
        let xs = embedded.transpose(1, 2); // [B, E, T]
        if let Some(first) = &self.first {
            return first.forward(&xs);
        }
        let (time, channels) = (embedded.size()[1], self.config.residual_channels);
        let taps = self.config.first_kernel_size;
        let read = (0..taps).map(|tap| {
            let vectors = embedded.narrow(2, tap * channels, channels);
            vectors.constant_pad_nd([0, 0, taps - tap, 0]).narrow(1, 0, time)
        });
        read.reduce(|a, b| a + b).expect("a kernel has a tap").transpose(1, 2)
    }

    pub(crate) fn condition(
        &self,
        context: &SoundContext,
        samples: i64,
        device: Device,
    ) -> Condition {
        let speakers = context.speakers().filter(|_| self.config.speakers > 0).map(|speakers| {
            let speakers: Vec<i64> = speakers.iter().map(|&it| i64::from(it)).collect();
            Tensor::from_slice(&speakers).to_device(device)
        });
        let upsampled = self.upsampler.as_ref().zip(context.features()).map(|(upsampler, all)| {
            let (rows, frames, width) = all.dim();
            let flat: Vec<f32> = all.iter().copied().collect();
            let features = Tensor::from_slice(&flat)
                .reshape([rows as i64, frames as i64, width as i64])
                .transpose(1, 2)
                .to_device(device);
            upsampler.forward(&features, samples)
        });
        Condition { speakers, upsampled }
    }

    /// The mixtures that head outputs `[B, T, 3 M]` stand for.
    fn logistics_of(&self, outputs: &Tensor) -> Logistics {
        let parts = outputs.to_kind(Kind::Float).chunk(3, -1);
        Logistics {
            logits: parts[0].shallow_clone(),
            means: self.spread() + &parts[1],
            log_scales: (&parts[2] + LOG_SCALE_START).clamp_min(MIN_LOG_SCALE),
            levels: self.config.levels,
        }
    }

    /// Where the means of the mixture start: spread over the middle of the range, so that components differ.
    fn spread(&self) -> Tensor {
        let mixtures = self.config.outputs() as usize / 3;
        let means: Vec<f32> = (0..mixtures).map(|m| mean_start(m, mixtures)).collect();
        Tensor::from_slice(&means).to_device(self.output.weight().device())
    }

    /// Turns one sample's head outputs `[3 M]` into log-weights, means and log-scales, as the full pass reads them.
    pub(crate) fn to_mixture(outputs: &mut [f32]) {
        let mixtures = outputs.len() / 3;
        let (means, log_scales) = outputs[mixtures..].split_at_mut(mixtures);
        for (m, mean) in means.iter_mut().enumerate() {
            *mean += mean_start(m, mixtures);
        }
        for log_scale in log_scales {
            *log_scale = (*log_scale + LOG_SCALE_START as f32).max(MIN_LOG_SCALE as f32);
        }
    }
}

/// Where the mean of component m of `mixtures` starts: evenly over `[-1/4, 1/4]`.
fn mean_start(m: usize, mixtures: usize) -> f32 {
    (m as f32 + 0.5) / (2. * mixtures as f32) - 0.25
}

/// Parameters in `vs`.
pub fn parameters(vs: &nn::VarStore) -> i64 {
    vs.variables().values().map(|it| it.numel() as i64).sum()
}

/// A network seen as a distribution over clips of one length.
#[derive(Debug, Clone, Copy)]
pub struct Clips<'m> {
    /// The network.
    pub model: &'m WaveNet,
    /// Samples of a clip.
    pub samples: usize,
}

impl Autoregressive for Clips<'_> {
    type Context = SoundContext;

    fn layout(&self) -> Layout {
        Layout::uniform(self.samples, self.model.config.levels as u32)
    }

    /// # Shape
    /// `[B, T]` to `[B, T, E]`.
    fn embed(&self, xs: &Tensor) -> Tensor {
        self.model.embed(xs)
    }

    fn conditionals(&self, embedded: &Tensor, context: &SoundContext) -> Conditionals {
        debug_assert_eq!(embedded.size()[0], context.rows() as i64);
        self.model.forward(embedded, context, false)
    }
}

/// A row-major copy of a tensor's numbers.
pub(crate) fn to_vec(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view(-1);
    Vec::try_from(flat).expect("a flat float tensor on the CPU is a vector")
}
