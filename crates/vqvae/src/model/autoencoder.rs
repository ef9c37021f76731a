//! VQ-VAE (1711.00937) and VQ-VAE-2 (Razavi et al., "Generating Diverse High-Fidelity Images with VQ-VAE-2", 2019,
//! section 3.1, <https://arxiv.org/abs/1906.00446>): levels of codes, the lower ones told the upper ones.
//!
//! From the bottom up, `f_l = encoder_l(f_{l-1})`, `f_0 = x`; from the top down,
//! `e_l = quantise(W_l [decoder_{l+1}(e_{l+1}), f_l])`; the image is `decoder(e_0, upsampled e_1, ...)`.

use core_layers::{
    ConfigError,
    quantise::{self, Quantised, VectorQuantiser},
};
use tch::{
    Device, Kind, Tensor,
    nn::{self, Module},
};

use super::layers::{Decoder, Doublings, Encoder, pointwise};
use crate::config::{Reconstruction, VqVaeConfig};

/// Encoders, codebooks and decoders.
#[derive(Debug)]
pub struct Autoencoder {
    config: VqVaeConfig,
    levels: Vec<Level>, // from the bottom up
    decoder: Decoder,
    variance: Tensor, // [], of the training images, values in [-1/2, 1/2]
}

#[derive(Debug)]
struct Level {
    encoder: Encoder,
    to_vectors: nn::Conv2D, // M (+ D G of the level above) -> D G
    quantiser: VectorQuantiser,
    downwards: Option<Decoder>, // what the level below is told; none at the bottom
    to_bottom: Doublings,       // to the size of the bottom level
}

/// One level's share of a pass.
#[derive(Debug)]
pub struct Latent {
    /// What was quantised, a row a place: `[B H W, G D]`, without gradient.
    pub inputs: Tensor,
    /// What it became.
    pub quantised: Quantised,
}

/// What the decoder gives for a batch.
#[derive(Debug)]
pub enum Outputs {
    /// Means `[B, C, H, W]`, levels spread over `[-1/2, 1/2]`.
    Means(Tensor),
    /// Unnormalised log-probabilities of each level `[B, C, L, H, W]`.
    Logits(Tensor),
}

/// The terms of the loss, each a mean over what it is of.
#[derive(Debug)]
pub struct Losses {
    /// Squared error over variance, or nats, of a value.
    pub reconstruction: Tensor,
    /// Commitment and codebook, all levels.
    pub quantisation: Tensor,
}

impl Autoencoder {
    /// Creates the weights of `config` under `vs`.
    ///
    /// # Errors
    /// [`ConfigError`] for a configuration that no model can be built from.
    pub fn new(vs: &nn::Path<'_>, config: &VqVaeConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let width = config.quantiser.width();
        let count = config.factors.len();
        let mut levels = Vec::with_capacity(count);
        for (index, &factor) in config.factors.iter().enumerate() {
            let vs = vs / "levels" / index as i64;
            let ins = if index == 0 { config.colours } else { config.channels };
            let told = if index + 1 < count { width } else { 0 };
            let to_bottom = config.factors[1..=index].iter().product();
            levels.push(Level {
                encoder: Encoder::new(&(&vs / "encoder"), ins, factor, config),
                to_vectors: pointwise(&(&vs / "to_vectors"), config.channels + told, width),
                quantiser: VectorQuantiser::new(&(&vs / "quantiser"), &config.quantiser)?,
                downwards: (index > 0)
                    .then(|| Decoder::new(&(&vs / "downwards"), width, width, factor, config)),
                to_bottom: Doublings::new(&(&vs / "to_bottom"), [width; 3], to_bottom),
            });
        }
        let outputs = match config.reconstruction {
            Reconstruction::Gaussian => config.colours,
            Reconstruction::Softmax => config.colours * config.levels,
        };
        let ins = width * count as i64;
        Ok(Self {
            decoder: Decoder::new(&(vs / "decoder"), ins, outputs, config.factors[0], config),
            variance: vs.ones("variance", &[]),
            levels,
            config: config.clone(),
        })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &VqVaeConfig {
        &self.config
    }

    /// The codebooks of each level, from the bottom up.
    pub fn quantisers(&self) -> impl Iterator<Item = &VectorQuantiser> {
        self.levels.iter().map(|level| &level.quantiser)
    }

    /// Sets the variance that squared errors are divided by.
    pub fn set_variance(&self, variance: f64) {
        let _ = tch::no_grad(|| self.variance.shallow_clone().fill_(variance));
    }

    /// The variance that squared errors are divided by: that of the training images.
    pub fn variance(&self) -> f64 {
        self.variance.double_value(&[])
    }

    /// Levels as the numbers that the first layer reads: `0..L` to `[-1/2, 1/2]`.
    pub fn inputs(&self, levels: &Tensor) -> Tensor {
        levels.to_kind(Kind::Float) / (self.config.levels - 1) as f64 - 0.5
    }

    /// Images `[B, C, H, W]` to the codes of each level, from the bottom up.
    pub fn encode(&self, xs: &Tensor) -> Vec<Latent> {
        self.walk(xs, |level, map| level.quantiser.forward(map))
    }

    /// From the bottom up and down again; `quantise` makes codes of each level's map, the top one's first.
    fn walk(
        &self,
        xs: &Tensor,
        mut quantise: impl FnMut(&Level, &Tensor) -> Quantised,
    ) -> Vec<Latent> {
        let mut features = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            let below = features.last().unwrap_or(xs);
            features.push(level.encoder.forward(below));
        }
        let mut latents = Vec::with_capacity(self.levels.len());
        let mut told: Option<Tensor> = None;
        for (level, features) in self.levels.iter().zip(features).rev() {
            let seen = match told {
                Some(told) => Tensor::cat(&[told, features], 1),
                None => features,
            };
            let map = level.to_vectors.forward(&seen);
            let quantised = quantise(level, &map);
            told = level.downwards.as_ref().map(|it| it.forward(&quantised.vectors));
            let inputs = quantise::rows(&map.detach()).to_kind(Kind::Float);
            latents.push(Latent { inputs, quantised });
        }
        latents.reverse();
        latents
    }

    /// Starts the codebooks by k-means on images `[B, C, H, W]`, the top one first, since the lower ones are told its codes.
    pub fn start_codebooks(&self, xs: &Tensor, seed: u64) {
        tch::no_grad(|| {
            self.walk(xs, |level, map| {
                level.quantiser.start(&quantise::rows(map), seed);
                level.quantiser.forward(map)
            });
        });
    }

    /// The vectors of each level `[B, G D, h, w]`, from the bottom up, to what the decoder says of the images.
    pub fn decode_vectors(&self, vectors: &[&Tensor]) -> Outputs {
        let maps: Vec<Tensor> = self
            .levels
            .iter()
            .zip(vectors)
            .map(|(level, map)| level.to_bottom.forward(map))
            .collect();
        let outputs = self.decoder.forward(&Tensor::cat(&maps, 1)).to_kind(Kind::Float);
        match self.config.reconstruction {
            Reconstruction::Gaussian => Outputs::Means(outputs),
            Reconstruction::Softmax => {
                let size = outputs.size();
                let shape = [size[0], self.config.colours, self.config.levels, size[2], size[3]];
                Outputs::Logits(outputs.reshape(shape))
            }
        }
    }

    /// The codes of each level `[B, G, h, w]`, from the bottom up, to what the decoder says of the images.
    pub fn decode(&self, codes: &[Tensor]) -> Outputs {
        let vectors: Vec<Tensor> = self
            .levels
            .iter()
            .zip(codes)
            .map(|(level, codes)| level.quantiser.decode(codes))
            .collect();
        self.decode_vectors(&vectors.iter().collect::<Vec<_>>())
    }

    /// The loss of images of levels `[B, C, H, W]`, and the codes that it came from.
    pub fn losses(&self, levels: &Tensor) -> (Losses, Vec<Latent>) {
        let latents = self.encode(&self.inputs(levels));
        let vectors: Vec<&Tensor> = latents.iter().map(|it| &it.quantised.vectors).collect();
        let reconstruction = self.reconstruction(&self.decode_vectors(&vectors), levels);
        let parts: Vec<Tensor> =
            latents.iter().map(|it| it.quantised.loss.shallow_clone()).collect();
        let quantisation = Tensor::stack(&parts, 0).sum(Kind::Float);
        (Losses { reconstruction: reconstruction.mean(Kind::Float), quantisation }, latents)
    }

    /// Squared error over variance, or nats, of each image's values on the mean: `[B]`.
    pub fn reconstruction(&self, outputs: &Outputs, levels: &Tensor) -> Tensor {
        let of_values = match outputs {
            Outputs::Means(means) => {
                (means - self.inputs(levels)).square() / self.variance.detach()
            }
            Outputs::Logits(logits) => {
                let log_probs = logits.log_softmax(2, Kind::Float);
                -log_probs.gather(2, &levels.unsqueeze(2), false).squeeze_dim(2)
            }
        };
        of_values.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float)
    }

    /// The mean image `[B, C, H, W]` as levels on the CPU, rounded to whole ones.
    pub fn levels(&self, outputs: &Outputs) -> Tensor {
        let top = (self.config.levels - 1) as f64;
        let means = match outputs {
            Outputs::Means(means) => (means + 0.5) * top,
            Outputs::Logits(logits) => {
                let levels = Tensor::arange(self.config.levels, (Kind::Float, logits.device()));
                let probabilities = logits.softmax(2, Kind::Float);
                (probabilities * levels.view([1, 1, -1, 1, 1])).sum_dim_intlist(
                    [2i64].as_slice(),
                    false,
                    Kind::Float,
                )
            }
        };
        means.round().clamp(0., top).to_kind(Kind::Int64).to_device(Device::Cpu)
    }
}
