//! Posterior collapse, shown: a VAE trained by its bound, the KL followed step by step.

use anyhow::Result;
use core_layers::{
    dataset::Batches,
    optim::{self, AdamW, AdamWConfig},
    random,
    training::TrainConfig,
};
use pixelcnn::data::{Dataset, Images};
use tch::{Device, Kind, Tensor, nn};

use crate::{config::VqVaeConfig, evaluate::image_batch, model::Vae};

/// Numbers of the latent.
pub const LATENT: i64 = 16;

/// Mean terms of the bound, in nats an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Optimiser steps taken.
    pub step: u64,
    /// `-log p(x | z)`.
    pub reconstruction: f64,
    /// `KL(q(z | x) || p(z))`.
    pub kl: f64,
}

/// Trains a VAE on `dataset`, with a `PixelCNN` for its decoder or a factorised one; returns it and how the terms went on the
/// validation images. `tick` hears of every step.
///
/// # Errors
/// A configuration that no model can be built from.
pub fn train_vae(
    config: &VqVaeConfig,
    train: &TrainConfig,
    dataset: &Dataset,
    with_pixelcnn: bool,
    tick: &mut dyn FnMut(u64, Terms),
) -> Result<(nn::VarStore, Vae, Vec<Terms>)> {
    let device = train.open()?;
    tch::manual_seed(train.seed as i64);
    let vs = nn::VarStore::new(device);
    let vae = Vae::new(&vs.root(), config, LATENT, with_pixelcnn)?;
    let mut optimiser = AdamW::new(&optim::parameters(&vs), AdamWConfig::default());
    let mut batches = Batches::new(train.seed, dataset.train.len(), train.batch_size);
    let mut path = vec![terms(&vae, &dataset.valid, 0, device)];
    for step in 1..=train.num_steps {
        optimiser.zero_grad();
        let rows = batches.rows(step);
        let loss = vae.loss(
            &image_batch(&dataset.train, &rows, device),
            &noise(train.seed, step, rows.len(), device),
        );
        (loss.reconstruction + loss.kl).mean(Kind::Float).backward();
        optimiser.clip(100.);
        optimiser.step(train.rate(step));
        if step % train.save_every == 0 || step == train.num_steps {
            path.push(terms(&vae, &dataset.valid, step, device));
        }
        tick(step, path[path.len() - 1]);
    }
    Ok((vs, vae, path))
}

/// Standard normal numbers `[B, Z]`, a function of (seed, step).
pub fn noise(seed: u64, step: u64, count: usize, device: Device) -> Tensor {
    let mut generator = random::generator(seed, "vae.noise", step);
    let mut normal = || {
        let (u, v) = (1. - random::uniform(&mut generator), random::uniform(&mut generator));
        ((-2. * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32 // Box and Muller
    };
    let numbers: Vec<f32> = (0..count as i64 * LATENT).map(|_| normal()).collect();
    Tensor::from_slice(&numbers).view([-1, LATENT]).to_device(device)
}

/// Mean terms over images, one draw of `z` each.
pub fn terms(vae: &Vae, images: &Images, step: u64, device: Device) -> Terms {
    let all: Vec<usize> = (0..images.len()).collect();
    let (mut reconstruction, mut kl) = (0., 0.);
    for (part, rows) in all.chunks(64).enumerate() {
        let levels = image_batch(images, rows, device);
        let noise = noise(u64::MAX, part as u64, rows.len(), device);
        let loss = tch::no_grad(|| vae.loss(&levels, &noise));
        reconstruction += loss.reconstruction.sum(Kind::Double).double_value(&[]);
        kl += loss.kl.sum(Kind::Double).double_value(&[]);
    }
    let count = images.len() as f64;
    Terms { step, reconstruction: reconstruction / count, kl: kl / count }
}
