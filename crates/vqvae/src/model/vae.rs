//! A variational autoencoder (Kingma and Welling, "Auto-Encoding Variational Bayes", 2013,
//! <https://arxiv.org/abs/1312.6114>), small: it shows what VQ-VAE is for.
//!
//! `-log p(x) <= E_q[-log p(x | z)] + KL(q(z | x) || N(0, I))`. Where `p(x | z)` is a `PixelCNN`, it can do without `z`: the
//! KL falls to zero, and `z` says nothing (posterior collapse). The KL of a VQ-VAE under an even prior is the constant
//! `log K` a code. Letters: B batch, Z numbers of a latent.

use core_layers::ConfigError;
use pixelcnn::{
    config::{GatedConfig, ImageConfig, ModelConfig},
    model::{Estimator, ImageContext, Model},
};
use tch::{
    Kind, Tensor,
    nn::{self, Module},
};

use super::layers::{Decoder, Encoder};
use crate::config::VqVaeConfig;

/// Encoder, and a decoder that sees earlier pixels, or none.
#[derive(Debug)]
pub struct Vae {
    config: VqVaeConfig, // of encoder and plain decoder; its codebooks are not used
    encoder: Encoder,
    to_posterior: nn::Linear, // -> mean and log-variance, 2 Z
    decoder: VaeDecoder,
    latent: i64,
}

#[derive(Debug)]
enum VaeDecoder {
    /// Pixels are independent given z.
    Factorised { from_latent: nn::Linear, decoder: Box<Decoder> },
    /// `prod_i p(x_i | x_<i, z)`; z is a context map of one place.
    PixelCnn(Box<Model>),
}

/// The two terms of the bound, nats of each image `[B]`.
#[derive(Debug)]
pub struct VaeLoss {
    /// `-log p(x | z)` for a `z` drawn from the posterior.
    pub reconstruction: Tensor,
    /// `KL(q(z | x) || N(0, I))`.
    pub kl: Tensor,
}

impl Vae {
    /// Creates the weights under `vs` with a latent of `latent` numbers; `with_pixelcnn` chooses the decoder.
    ///
    /// # Errors
    /// [`ConfigError`] for a configuration that no model can be built from.
    pub fn new(
        vs: &nn::Path<'_>,
        config: &VqVaeConfig,
        latent: i64,
        with_pixelcnn: bool,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let (h, w) = config.sizes()[0];
        let features = config.channels * h * w;
        let linear =
            |name: &str, ins, outs| nn::linear(vs / name, ins, outs, nn::LinearConfig::default());
        let decoder = if with_pixelcnn {
            let image = ImageConfig {
                colours: config.colours,
                ..ImageConfig::grey(config.height, config.width, config.levels)
            };
            let gated = GatedConfig {
                channels: 24,
                context_channels: latent,
                context_height: 1,
                context_width: 1,
                ..GatedConfig::new(image)
            };
            VaeDecoder::PixelCnn(Box::new(Model::new(
                &(vs / "pixelcnn"),
                &ModelConfig::Gated(gated),
            )?))
        } else {
            let outs = config.colours * config.levels;
            VaeDecoder::Factorised {
                from_latent: linear("from_latent", latent, features),
                decoder: Box::new(Decoder::new(
                    &(vs / "decoder"),
                    config.channels,
                    outs,
                    config.factors[0],
                    config,
                )),
            }
        };
        Ok(Self {
            encoder: Encoder::new(&(vs / "encoder"), config.colours, config.factors[0], config),
            to_posterior: linear("to_posterior", features, 2 * latent),
            decoder,
            config: config.clone(),
            latent,
        })
    }

    /// Mean and logarithm of the variance of `q(z | x)` for levels `[B, C, H, W]`: `[B, Z]` each.
    pub fn posterior(&self, levels: &Tensor) -> (Tensor, Tensor) {
        let xs = levels.to_kind(Kind::Float) / (self.config.levels - 1) as f64 - 0.5;
        let features = self.encoder.forward(&xs).flatten(1, -1);
        let parts = self.to_posterior.forward(&features).chunk(2, 1);
        (parts[0].shallow_clone(), parts[1].shallow_clone())
    }

    /// Both terms of the bound, with `z = mean + exp(log_variance / 2) noise` for noise `[B, Z]`.
    pub fn loss(&self, levels: &Tensor, noise: &Tensor) -> VaeLoss {
        let (mean, log_variance) = self.posterior(levels);
        let z = &mean + (&log_variance * 0.5).exp() * noise;
        let kl: Tensor = (mean.square() + log_variance.exp() - 1. - log_variance) * 0.5;
        VaeLoss {
            reconstruction: self.nats(levels, &z),
            kl: kl.sum_dim_intlist([1i64].as_slice(), false, Kind::Float),
        }
    }

    /// `-log p(x | z)` of each image.
    fn nats(&self, levels: &Tensor, z: &Tensor) -> Tensor {
        let sum = |log_probs: &Tensor| {
            -log_probs.flatten(1, -1).sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
        };
        match &self.decoder {
            VaeDecoder::Factorised { .. } => {
                let log_probs = self.logits(z).log_softmax(2, Kind::Float);
                sum(&log_probs.gather(2, &levels.unsqueeze(2), false))
            }
            VaeDecoder::PixelCnn(model) => {
                let symbols = levels.permute([0, 2, 3, 1]).flatten(1, -1); // [B, H W C]
                let Estimator::Convolutional(network) = model.estimator() else {
                    unreachable!("a Gated PixelCNN is convolutional")
                };
                let embedded = core_layers::Autoregressive::embed(model.as_ref(), &symbols);
                let map = z.view([-1, self.latent, 1, 1]);
                sum(&network.forward_under(&embedded, &map, false).log_prob(&symbols))
            }
        }
    }

    /// Logits of the factorised decoder `[B, C, L, H, W]`.
    fn logits(&self, z: &Tensor) -> Tensor {
        let VaeDecoder::Factorised { from_latent, decoder } = &self.decoder else {
            unreachable!("asked of the factorised decoder only")
        };
        let (h, w) = self.config.sizes()[0];
        let map = from_latent.forward(z).view([-1, self.config.channels, h, w]).relu();
        let outputs = decoder.forward(&map);
        outputs.view([
            -1,
            self.config.colours,
            self.config.levels,
            self.config.height,
            self.config.width,
        ])
    }

    /// Mean levels `[B, C, H, W]` of the factorised decoder at `z` `[B, Z]`; none of the other.
    pub fn means(&self, z: &Tensor) -> Option<Tensor> {
        let VaeDecoder::Factorised { .. } = self.decoder else { return None };
        let levels = Tensor::arange(self.config.levels, (Kind::Float, z.device()));
        let weighted = self.logits(z).softmax(2, Kind::Float) * levels.view([1, 1, -1, 1, 1]);
        let means = weighted.sum_dim_intlist([2i64].as_slice(), false, Kind::Float);
        Some(means.round().to_kind(Kind::Int64))
    }

    /// The `PixelCNN` decoder with the context that stands for `z` `[B, Z]`, to be sampled; none of the other.
    pub fn pixelcnn(&self, z: &Tensor) -> Option<(&Model, ImageContext)> {
        let VaeDecoder::PixelCnn(model) = &self.decoder else { return None };
        let count = z.size()[0] as usize;
        let flat = z.to_device(tch::Device::Cpu).to_kind(Kind::Float).flatten(0, -1);
        let flat = Vec::<f32>::try_from(flat).expect("a flat float tensor is a vector");
        let map = ndarray::Array4::from_shape_vec((count, self.latent as usize, 1, 1), flat)
            .expect("as many numbers as z has");
        Some((model, ImageContext::none(count).with_map(map)))
    }
}
