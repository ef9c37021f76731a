//! What the convolutional models share: embedding, network, head.

use core_layers::{
    Conditionals, ConfigError,
    conv::{Mask, MaskedConv2d, MaskedConv2dConfig},
    likelihood::Logistics,
};
use tch::{Device, Kind, Tensor, nn, nn::Module};

use super::{
    ImageContext,
    context_stack::{ContextLayer, ContextStack},
    gated::Gated,
    ordinal,
    program::{IMAGE, Map, Program},
    residual::Residual,
    simple::Simple,
    to_vec,
};
use crate::config::{Head, ImageConfig, Input, ModelConfig};

/// Least logarithm of a logistic's scale.
const MIN_LOG_SCALE: f64 = -7.;
/// Logarithm of every scale before training. Differs: about the spread of a photograph, where the paper starts at 0.
const LOG_SCALE_START: f64 = -1.5;

/// A network of masked convolutions with its embedding and its head.
#[derive(Debug)]
pub struct ConvolutionalModel {
    image: ImageConfig,
    embedding: Option<Tensor>, // [L, E]
    network: Network,
    head: MaskedConv2d,
}

#[derive(Debug)]
enum Network {
    Simple(Simple),
    Residual(Box<Residual>),
    Gated(Box<Gated>),
}

/// What a network is conditioned on, as tensors on its device.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) labels: Option<Tensor>, // [B]
    pub(super) map: Option<Tensor>,    // of the context stack: [B, C, H, W]
}

impl ConvolutionalModel {
    /// Creates the weights under `vs`. The head starts at zero, so every level starts equally likely.
    pub(super) fn new(vs: &nn::Path<'_>, config: &ModelConfig) -> Result<Self, ConfigError> {
        let image = config.image().clone();
        let embedding = match image.input {
            Input::Ordinal => None,
            Input::Categorical { embedding } => {
                Some(vs.randn_standard("embedding", &[image.levels, embedding]))
            }
        };
        let features = image.colours * image.features();
        let (network, width) = match config {
            ModelConfig::Simple(config) => {
                (Network::Simple(Simple::new(vs, config, features)?), config.channels)
            }
            ModelConfig::Pixelcnn(config) => (
                Network::Residual(Box::new(Residual::new(vs, config, features)?)),
                config.head_channels,
            ),
            ModelConfig::Gated(config) => {
                (Network::Gated(Box::new(Gated::new(vs, config, features)?)), config.channels)
            }
            ModelConfig::Nade(_) | ModelConfig::Made(_) => {
                return Err(ConfigError::new(
                    "model.kind",
                    config.kind(),
                    "a convolutional network",
                ));
            }
        };
        let head = MaskedConv2dConfig {
            groups: image.colours,
            zero: true,
            ..MaskedConv2dConfig::new([1, 1], Mask::B)
        };
        let outputs = image.colours * image.outputs();
        let head = MaskedConv2d::new(&(vs / "head"), width, outputs, head)?;
        Ok(Self { image, embedding, network, head })
    }

    /// Symbols `[B, N]` to `[B, N, E]`.
    pub(crate) fn embed(&self, xs: &Tensor) -> Tensor {
        match &self.embedding {
            None => ordinal(xs, self.image.levels),
            Some(table) => Tensor::embedding(table, xs, -1, false, false),
        }
    }

    /// What the levels become before the first layer: `[L, E]`, row-major.
    pub fn level_features(&self) -> Vec<f32> {
        let levels = Tensor::arange(self.image.levels, (Kind::Int64, self.device()));
        to_vec(&self.embed(&levels.unsqueeze(0)))
    }

    fn device(&self) -> Device {
        self.head.bias().map_or(Device::Cpu, Tensor::device)
    }

    fn context_stack(&self) -> Option<&ContextStack> {
        if let Network::Gated(network) = &self.network { network.context() } else { None }
    }

    /// Channels, rows and columns of the context map that it is conditioned on, if it is.
    pub fn context_shape(&self) -> Option<[usize; 3]> {
        self.context_stack().map(ContextStack::shape)
    }

    /// The convolutions that the context map goes through at its own size: none or the first, then two for each residual
    /// block `m + second(relu(first(relu(m))))`.
    pub fn context_layers(&self) -> Vec<ContextLayer> {
        self.context_stack().map(ContextStack::layers).unwrap_or_default()
    }

    /// What the gates read of a context map, `[B, C, H, W]`.
    ///
    /// # Panics
    /// If the map does not [fit](ImageContext::ensure_map).
    pub(crate) fn context_features(
        &self,
        context: &ImageContext,
        device: Device,
    ) -> Option<Tensor> {
        let stack = self.context_stack()?;
        context.ensure_map(self.context_shape()).unwrap_or_else(|error| panic!("{error}"));
        Some(stack.forward(&context.map_tensor(device)?))
    }

    /// The images that it models.
    pub fn image(&self) -> &ImageConfig {
        &self.image
    }

    pub(super) fn forward(
        &self,
        embedded: &Tensor,
        context: &ImageContext,
        train: bool,
    ) -> Conditionals {
        let device = embedded.device();
        let condition = Condition {
            labels: context.label_tensor(device),
            map: self.context_features(context, device),
        };
        self.forward_on(embedded, &condition, train)
    }

    /// Conditionals of `embedded` `[B, N, E]` under a context map `[B, K, h, w]` that gradients flow back to; no class.
    pub fn forward_under(&self, embedded: &Tensor, map: &Tensor, train: bool) -> Conditionals {
        let map = self.context_stack().map(|stack| stack.forward(map));
        self.forward_on(embedded, &Condition { labels: None, map }, train)
    }

    fn forward_on(&self, embedded: &Tensor, condition: &Condition, train: bool) -> Conditionals {
        let ImageConfig { height, width, colours, .. } = self.image;
        let rows = embedded.size()[0];
        // [B, N, E] is an image with channels last already: only its axes are named anew
        let xs = embedded
            .reshape([rows, height, width, colours * self.image.features()])
            .permute([0, 3, 1, 2]);
        let features = match &self.network {
            Network::Simple(network) => network.forward(&xs),
            Network::Residual(network) => network.forward(&xs),
            Network::Gated(network) => network.forward(&xs, condition, train),
        };
        let outputs = self
            .head
            .forward(&features) // [B, C outputs, H, W]
            .permute([0, 2, 3, 1])
            .reshape([rows, self.image.dims(), self.image.outputs()]); // [B, N, outputs]
        match self.image.head {
            Head::Softmax => Conditionals::Logits(outputs),
            Head::Logistics { .. } => Conditionals::Logistics(self.logistics_of(&outputs)),
        }
    }

    /// The mixtures that head outputs `[B, N, 3 M]` stand for.
    pub(crate) fn logistics_of(&self, outputs: &Tensor) -> Logistics {
        let parts = outputs.to_kind(Kind::Float).chunk(3, -1);
        Logistics {
            logits: parts[0].shallow_clone(),
            means: parts[1].shallow_clone(),
            log_scales: (&parts[2] + LOG_SCALE_START).clamp_min(MIN_LOG_SCALE),
            levels: self.image.levels,
        }
    }

    pub(super) fn live_parameters(&self) -> i64 {
        let network = match &self.network {
            Network::Simple(network) => network.live_parameters(),
            Network::Residual(network) => network.live_parameters(),
            Network::Gated(network) => network.live_parameters(),
        };
        let embedding = self.embedding.as_ref().map_or(0, |table| table.numel() as i64);
        network + embedding + self.head.live_parameters()
    }

    /// The network as steps.
    pub fn program(&self) -> Program {
        let features = (self.image.colours * self.image.features()) as usize;
        let context = self.context_stack().map_or(0, |stack| stack.channels() as usize);
        let mut program = Program::new(self.image.colours as usize, features, context);
        let features = match &self.network {
            Network::Simple(network) => network.lower(&mut program, IMAGE),
            Network::Residual(network) => network.lower(&mut program, IMAGE),
            Network::Gated(network) => network.lower(&mut program, IMAGE),
        };
        let outputs = Map::pixel(self.image.colours * self.image.outputs());
        program.output = program.conv(&[(&self.head, features)], None, outputs);
        program
    }

    /// Log-weights, means and log-scales of one value's head outputs `[3 M]`, as the full pass reads them.
    pub fn logistics(outputs: &[f32]) -> (&[f32], &[f32], Vec<f32>) {
        let mixtures = outputs.len() / 3;
        let log_scale = |s: &f32| (s + LOG_SCALE_START as f32).max(MIN_LOG_SCALE as f32);
        let log_scales = outputs[2 * mixtures..].iter().map(log_scale).collect();
        (&outputs[..mixtures], &outputs[mixtures..2 * mixtures], log_scales)
    }
}
