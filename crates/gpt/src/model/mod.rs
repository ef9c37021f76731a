//! The decoder in libtorch operations: the definition, on any device (Radford et al., "GPT-2", 2019; Brown et al.,
//! "GPT-3", 2020, <https://arxiv.org/abs/2005.14165>; Touvron et al., "LLaMA", 2023, <https://arxiv.org/abs/2302.13971>).
//! Letters: B texts, T tokens, V vocabulary, D width, L layers.
//!
//! `h_0 = embedding[x]` (plus `position` where positions are learnt), `h' = h + attention(norm(h))`,
//! `h = h' + feed_forward(norm(h'))` for each layer, and `logits = head norm(h_L)`. What the three papers do
//! differently is configuration. Dropout acts as in GPT-2: on what enters the residual stream and on the weights of
//! attention, which takes the pass over a head apart.

mod adapt;
mod attention;
mod block;
mod context;
mod feed_forward;
mod linear;
mod parameters;
#[cfg(test)]
pub(crate) mod tests;
mod texts;

use attention::Attend;
pub(crate) use attention::Heads;
pub use context::TextContext;
pub use linear::Linear;
pub use texts::Texts;

use core_layers::{
    Conditionals, ConfigError,
    cross_entropy::log_prob_and_log_z,
    kernels::step::Layer,
    norm::Norm,
    rope::{Rotations, Turn},
    training::{Network, Part},
};
use tch::{Device, Kind, Tensor, nn};

use self::{
    block::{Block, Stream, dropped, norm},
    linear::normal,
};
use crate::config::{DecoderConfig, Positions};

/// What was read before, and keeps what is read now.
pub(crate) trait Past {
    /// What the heads of layer `index` find, `[B, H, T, E]`.
    fn attend(&mut self, index: usize, heads: &Heads) -> Tensor;

    /// All that layer `index` makes of `xs`, where a kernel makes that of one token a row.
    fn step(
        &mut self,
        index: usize,
        layer: &Layer<'_>,
        xs: &dyn Fn() -> Tensor,
        turn: Option<&Turn>,
    ) -> Option<Tensor>;
}

/// The decoder.
#[derive(Debug)]
pub struct Decoder {
    pub(crate) config: DecoderConfig,
    pub(crate) embedding: Tensor,        // [V, D]
    pub(crate) position: Option<Tensor>, // [N, D]
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Norm,
    pub(crate) head: Option<Tensor>, // [V, D]; none if it is the embedding
    rotations: Option<Rotations>,
}

impl Decoder {
    /// Creates the weights of `config` under `vs`, by the names of [`crate::weights`].
    ///
    /// Weights start from `N(0, std)`, positions from half of that, what writes to the residual stream from
    /// `N(0, std / sqrt(2 L))`, norms at one, biases at zero.
    ///
    /// # Errors
    /// [`ConfigError`] for a configuration that no decoder can be built from.
    pub fn new(vs: &nn::Path<'_>, config: &DecoderConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::with_std(vs, config, config.initial_std))
    }

    /// The same with another standard deviation; zero draws no random numbers.
    fn with_std(vs: &nn::Path<'_>, config: &DecoderConfig, std: f64) -> Self {
        let drawn = DecoderConfig { initial_std: std, ..config.clone() };
        let table = |name: &str, rows: i64, std: f64| {
            (vs / name).var("weight", &[rows, config.d_model], normal(std))
        };
        let is_learned = config.positions == Positions::Learned;
        Self {
            embedding: table("embedding", config.vocabulary, std),
            position: is_learned.then(|| table("position", config.context, std / 2.)),
            blocks: (0..config.layers)
                .map(|index| Block::new(&(vs / "layers" / index), &drawn))
                .collect(),
            norm: norm(&(vs / "norm"), config),
            head: (!config.tied).then(|| table("head", config.vocabulary, std)),
            rotations: config.frequencies().map(|it| Rotations::new(&it, vs.device())),
            config: config.clone(),
        }
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Where its weights lie.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Logits after every token; `train` lets dropout act.
    ///
    /// # Shape
    /// Tokens `[B, T]`, int64, the start token included, to `[B, T, V]`.
    ///
    /// # Panics
    /// If there are more tokens than the context.
    pub fn forward(&self, tokens: &Tensor, train: bool) -> Tensor {
        self.logits(&self.hidden(tokens, train))
    }

    /// What the head reads: the last layer's output behind the last norm.
    ///
    /// # Shape
    /// Tokens `[B, T]` to `[B, T, D]`.
    ///
    /// # Panics
    /// If there are more tokens than the context.
    pub fn hidden(&self, tokens: &Tensor, train: bool) -> Tensor {
        self.hidden_of_embedded(&self.embed(tokens), train)
    }

    /// The head: `[.., D]` to `[.., V]`.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        let no_bias: Option<Tensor> = None;
        hidden.linear(self.head.as_ref().unwrap_or(&self.embedding), no_bias)
    }

    /// Mean `-log p` of the tokens that follow each other, in nats a token.
    ///
    /// # Shape
    /// Tokens `[B, T + 1]`: each but the first is predicted from those before it. The mean is a scalar, f32.
    pub fn nll(&self, tokens: &Tensor, train: bool) -> Tensor {
        self.log_prob(tokens, train).mean(Kind::Float).neg()
    }

    /// The same over tokens where `mask` is not zero, each weighted by it; nothing to count gives 0.
    ///
    /// # Shape
    /// A mask `[B, T]`, float, of the tokens that are predicted.
    pub fn nll_masked(&self, tokens: &Tensor, mask: &Tensor, train: bool) -> Tensor {
        let weight = mask.to_kind(Kind::Float);
        let total = (self.log_prob(tokens, train) * &weight).sum(Kind::Float).neg();
        let count = weight.sum(Kind::Float);
        total / count.where_self(&count.gt(0.), &count.ones_like())
    }

    /// `log p` of every token but the first, given those before it.
    ///
    /// # Shape
    /// Tokens `[B, T + 1]` to `[B, T]`.
    pub fn log_prob(&self, tokens: &Tensor, train: bool) -> Tensor {
        let tokens = tokens.to_device(self.device());
        let time = tokens.size()[1] - 1;
        let logits = self.forward(&tokens.narrow(1, 0, time), train);
        Conditionals::Logits(logits).log_prob(&tokens.narrow(1, 1, time))
    }

    /// `log p` of `targets` after each of `tokens`, and `log Z` of the logits there, both 0 where a target is
    /// [ignored](core_layers::cross_entropy::IGNORED).
    ///
    /// # Shape
    /// Tokens and targets `[B, T]` to twice `[B, T]`.
    pub fn log_prob_and_log_z(
        &self,
        tokens: &Tensor,
        targets: &Tensor,
        train: bool,
    ) -> [Tensor; 2] {
        log_prob_and_log_z(&self.forward(tokens, train), &targets.to_device(self.device()))
    }

    /// Token embeddings, where gradients of an audit enter: `[B, T]` to `[B, T, D]`.
    pub fn embed(&self, tokens: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, &tokens.to_device(self.device()), -1, false, false)
    }

    /// The start token's embedding, `[rows, 1, D]`.
    pub(crate) fn start(&self, rows: i64) -> Tensor {
        let start =
            Tensor::full([rows, 1], i64::from(self.config.start), (Kind::Int64, self.device()));
        self.embed(&start)
    }

    /// [`Decoder::hidden`] of token embeddings `[B, T, D]`.
    pub(crate) fn hidden_of_embedded(&self, embedded: &Tensor, train: bool) -> Tensor {
        let positions = self.positions(embedded.size()[1]);
        self.run(embedded, &positions, train, None, &mut |_, _| {})
    }

    /// The output of every layer: the embeddings, then each layer's, the last behind the last norm; `L + 1` tensors.
    ///
    /// # Shape
    /// Tokens `[B, T]` to `[B, T, D]` each.
    pub fn states(&self, tokens: &Tensor) -> Vec<Tensor> {
        let mut states = Vec::with_capacity(self.blocks.len() + 1);
        let embedded = self.embed(tokens);
        let positions = self.positions(embedded.size()[1]);
        let mut see = |_: usize, xs: &Tensor| states.push(xs.shallow_clone());
        let last = self.run(&embedded, &positions, false, None, &mut see);
        states.truncate(self.blocks.len());
        states.push(last);
        states
    }

    /// Positions `0..tokens`.
    fn positions(&self, tokens: i64) -> Tensor {
        assert!(
            tokens <= self.config.context,
            "{tokens} tokens do not fit a context of {}",
            self.config.context
        );
        Tensor::arange(tokens, (Kind::Int64, self.device()))
    }

    /// All layers over token embeddings `[B, T, D]` at positions `[T]` or `[B, T]`.
    ///
    /// `past` is asked, by layer, for what the heads find among what was read before; without it positions see each other.
    /// `see` is shown what enters layer 0, 1, .. and, as L, what leaves the last.
    pub(crate) fn run(
        &self,
        embedded: &Tensor,
        positions: &Tensor,
        train: bool,
        mut past: Option<&mut dyn Past>,
        see: &mut dyn FnMut(usize, &Tensor),
    ) -> Tensor {
        let turn = self.rotations.as_ref().map(|it| it.at(positions));
        let entered = match &self.position {
            Some(table) => embedded + Tensor::embedding(table, positions, -1, false, false),
            None => embedded.shallow_clone(),
        };
        let entered = dropped(entered, self.config.dropout, train); // [B, T, D]
        let mut stream = Stream { xs: entered, made: None };
        for (layer, block) in self.blocks.iter().enumerate() {
            let entered = || stream.sum();
            let step = block.as_step();
            let whole = past.as_mut().filter(|_| !block.is_packed());
            let made = whole.and_then(|it| it.step(layer, &step, &entered, turn.as_ref()));
            if let Some(made) = made {
                see(layer, &entered());
                stream = Stream { xs: made, made: None };
                continue;
            }
            let (xs, normed) = stream.normed(&block.attention_norm);
            see(layer, &xs);
            let band = self.config.attention.band(layer as i64);
            let mut of_layer =
                past.as_mut().map(|past| move |heads: &Heads| past.attend(layer, heads));
            let attend = match (&mut of_layer, band) {
                (Some(of_layer), _) => Attend::Kept(of_layer),
                (None, Some(band)) => Attend::Band(band),
                (None, None) => Attend::Causal,
            };
            stream = block.forward(&xs, &normed, turn.as_ref(), train, attend);
        }
        let (xs, normed) = stream.normed(&self.norm);
        see(self.blocks.len(), &xs);
        normed
    }
}

impl Network for Decoder {
    type Config = DecoderConfig;

    fn build(vs: &nn::Path<'_>, config: &DecoderConfig) -> Result<Self, ConfigError> {
        Self::new(vs, config)
    }
}
