//! How well images come back, how well the codes are used, and how probable they are.

use core_layers::{
    likelihood::Tally,
    quantise::{perplexity, usage},
};
use ndarray::{Array4, Axis, concatenate};
use pixelcnn::{data::Images, evaluate::batch};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::{config::VqVaeConfig, data::codes_of, model::Autoencoder};

/// Images that are evaluated at once.
const BATCH: usize = 32;

/// Images that went through codes and came back.
#[derive(Debug, Default)]
pub struct Reconstructed {
    /// Mean images as levels `[N, H, W, C]`; empty before the first.
    pub levels: Array4<u16>,
    /// Codes of each level, from the bottom up: `[N, h, w, G]`.
    pub codes: Vec<Array4<u16>>,
    /// Squared error over the training images' variance, or nats, of each image's values on the mean.
    pub losses: Vec<f64>,
    /// Mean squared error of each image, levels spread over `[0, 1]`.
    pub squared_errors: Vec<f64>,
}

/// How well a codebook is used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usage {
    /// Rows and columns of the level's codes.
    pub size: (i64, i64),
    /// How often each code of each codebook stands somewhere: G K counts.
    pub counts: Vec<u64>,
    /// Share of codes that stand anywhere.
    pub used: f64,
    /// `exp` of the entropy of the codes: how many, evenly used, would say as much; the mean over codebooks.
    pub perplexity: f64,
}

/// The images `rows` as levels `[B, C, H, W]`, int64.
pub fn image_batch(images: &Images, rows: &[usize], device: Device) -> Tensor {
    let [h, w, c] = [1, 2, 3].map(|axis| images.levels.len_of(Axis(axis)) as i64);
    batch(images, rows, device).reshape([rows.len() as i64, h, w, c]).permute([0, 3, 1, 2])
}

/// The codes of all images, from the bottom up: `[N, h, w, G]`. `tick` hears of images done.
pub fn encode(
    model: &Autoencoder,
    images: &Images,
    device: Device,
    tick: &mut dyn FnMut(usize),
) -> Vec<Array4<u16>> {
    let all: Vec<usize> = (0..images.len()).collect();
    let mut parts = vec![Vec::new(); model.config().factors.len()];
    for rows in all.chunks(BATCH) {
        let levels = image_batch(images, rows, device);
        let latents = tch::no_grad(|| model.encode(&model.inputs(&levels)));
        for (parts, latent) in parts.iter_mut().zip(&latents) {
            parts.push(codes_of(&latent.quantised.codes));
        }
        tick(rows.len());
    }
    parts.iter().map(|parts| join(parts)).collect()
}

fn join(parts: &[Array4<u16>]) -> Array4<u16> {
    let views: Vec<_> = parts.iter().map(Array4::view).collect();
    if views.is_empty() {
        return Array4::default([0; 4]);
    }
    concatenate(Axis(0), &views).expect("batches of one shape")
}

/// Sends all images through their codes and back. `tick` hears of images done.
pub fn reconstruct(
    model: &Autoencoder,
    images: &Images,
    device: Device,
    tick: &mut dyn FnMut(usize),
) -> Reconstructed {
    let all: Vec<usize> = (0..images.len()).collect();
    let mut done = Reconstructed::default();
    let mut codes = vec![Vec::new(); model.config().factors.len()];
    let mut means = Vec::new();
    for rows in all.chunks(BATCH) {
        let levels = image_batch(images, rows, device);
        let (latents, outputs) = tch::no_grad(|| {
            let latents = model.encode(&model.inputs(&levels));
            let found: Vec<Tensor> =
                latents.iter().map(|it| it.quantised.codes.shallow_clone()).collect();
            (latents, model.decode(&found))
        });
        for (codes, latent) in codes.iter_mut().zip(&latents) {
            codes.push(codes_of(&latent.quantised.codes));
        }
        done.losses.extend(to_vec(&tch::no_grad(|| model.reconstruction(&outputs, &levels))));
        let mean = model.levels(&outputs);
        let top = (model.config().levels - 1) as f64;
        let error = ((&mean - levels.to_device(Device::Cpu)).to_kind(Kind::Double) / top).square();
        let error = error.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double);
        done.squared_errors.extend(to_vec(&error));
        means.push(codes_of(&mean));
        tick(rows.len());
    }
    done.codes = codes.iter().map(|parts| join(parts)).collect();
    done.levels = join(&means);
    done
}

fn to_vec(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_kind(Kind::Double).to_device(Device::Cpu).flatten(0, -1);
    Vec::try_from(flat).expect("a flat double tensor is a vector")
}

impl Reconstructed {
    /// Peak signal-to-noise ratio of all values together, in decibels: `-10 log10(mean squared error)`.
    pub fn psnr(&self) -> f64 {
        -10. * mean(&self.squared_errors).log10()
    }

    /// How each level's codebook is used, from the bottom up.
    pub fn usage(&self, config: &VqVaeConfig) -> Vec<Usage> {
        usage_of(&self.codes, config)
    }

    /// The losses as nats of images, for a decoder that gives probabilities.
    pub fn tally(&self, config: &VqVaeConfig) -> Tally {
        let mut tally = Tally::default();
        tally.add(self.losses.iter().map(|loss| loss * config.dims() as f64));
        tally
    }
}

/// How codes of each level use their codebooks, from the bottom up.
pub fn usage_of(codes: &[Array4<u16>], config: &VqVaeConfig) -> Vec<Usage> {
    let num_codes = config.quantiser.codes as usize;
    let one = |(codes, &size): (&Array4<u16>, &(i64, i64))| {
        let books: Vec<Vec<u64>> = codes
            .axis_iter(Axis(3))
            .map(|book| usage(book.iter().map(|&code| u32::from(code)), num_codes))
            .collect();
        let each: Vec<f64> = books.iter().map(|book| perplexity(book)).collect();
        let counts = books.concat();
        let used = counts.iter().filter(|&&count| count > 0).count() as f64 / counts.len() as f64;
        Usage { size, used, perplexity: mean(&each), counts }
    };
    codes.iter().zip(&config.sizes()).map(one).collect()
}

/// Mean; not a number of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
