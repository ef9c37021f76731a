//! The laws of an autoencoder.

use anyhow::Result;
use core_layers::quantise::QuantiserConfig;
use tch::{Device, Kind, Tensor, nn};

use super::*;
use crate::config::{Reconstruction, VqVaeConfig};

fn config(height: i64, width: i64, factors: &[i64], reconstruction: Reconstruction) -> VqVaeConfig {
    VqVaeConfig {
        height,
        width,
        colours: 3,
        levels: 7,
        channels: 8,
        residual_channels: 4,
        residual_blocks: 2,
        factors: factors.to_vec(),
        quantiser: QuantiserConfig {
            codes: 16,
            dim: 3,
            codebooks: 2,
            ..QuantiserConfig::default()
        },
        reconstruction,
    }
}

fn model(config: &VqVaeConfig) -> Result<(nn::VarStore, Autoencoder)> {
    tch::manual_seed(3);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Autoencoder::new(&vs.root(), config)?;
    Ok((vs, model))
}

fn images(config: &VqVaeConfig, count: i64) -> Tensor {
    let size = [count, config.colours, config.height, config.width];
    Tensor::randint(config.levels, size, (Kind::Int64, Device::Cpu))
}

#[test]
fn sizes_are_those_of_the_factors_and_come_back() -> Result<()> {
    for (height, width, factors) in
        [(28, 20, vec![4]), (16, 8, vec![2, 2]), (32, 32, vec![4, 2, 2])]
    {
        let config = config(height, width, &factors, Reconstruction::Softmax);
        let (_vs, model) = model(&config)?;
        let levels = images(&config, 2);
        let latents = model.encode(&model.inputs(&levels));
        let found: Vec<_> = latents.iter().map(|it| it.quantised.codes.size()).collect();
        let wanted: Vec<_> = config.sizes().iter().map(|&(h, w)| vec![2, 2, h, w]).collect();
        assert_eq!(found, wanted);
        let codes: Vec<Tensor> =
            latents.iter().map(|it| it.quantised.codes.shallow_clone()).collect();
        let outputs = model.decode(&codes);
        let Outputs::Logits(logits) = &outputs else { panic!("a softmax gives logits") };
        assert_eq!(logits.size(), [2, 3, 7, height, width]);
        assert_eq!(model.levels(&outputs).size(), [2, 3, height, width]);
    }
    Ok(())
}

#[test]
fn codes_decode_to_what_their_vectors_do() -> Result<()> {
    let config = config(16, 16, &[2, 4], Reconstruction::Gaussian);
    let (_vs, model) = model(&config)?;
    let latents = model.encode(&model.inputs(&images(&config, 3)));
    let vectors: Vec<&Tensor> = latents.iter().map(|it| &it.quantised.vectors).collect();
    let codes: Vec<Tensor> = latents.iter().map(|it| it.quantised.codes.shallow_clone()).collect();
    let (Outputs::Means(a), Outputs::Means(b)) =
        (model.decode_vectors(&vectors), model.decode(&codes))
    else {
        panic!("a Gaussian gives means")
    };
    assert!((a - b).abs().max().double_value(&[]) < 1e-5);
    Ok(())
}

#[test]
fn every_level_reaches_the_image_and_every_weight_the_loss() -> Result<()> {
    let config = config(16, 16, &[2, 2], Reconstruction::Gaussian);
    let (vs, model) = model(&config)?;
    let levels = images(&config, 2);
    model.start_codebooks(&model.inputs(&levels), 1);
    let (losses, latents) = model.losses(&levels);
    (losses.reconstruction + losses.quantisation).backward();
    for (name, weight) in vs.variables() {
        let is_moved_by_means =
            ["codes", "counts", "sums", "variance"].iter().any(|it| name.ends_with(it));
        let grad = weight.grad();
        let reached = grad.defined() && grad.abs().max().double_value(&[]) > 0.;
        assert_eq!(reached, !is_moved_by_means, "{name}");
    }
    let codes: Vec<Tensor> = latents.iter().map(|it| it.quantised.codes.shallow_clone()).collect();
    let image = |codes: &[Tensor]| match model.decode(codes) {
        Outputs::Means(means) => means,
        Outputs::Logits(_) => panic!("a Gaussian gives means"),
    };
    let before = image(&codes);
    for level in 0..2 {
        let mut other: Vec<Tensor> = codes.iter().map(Tensor::copy).collect();
        other[level] = (&other[level] + 1).remainder(config.quantiser.codes);
        assert_ne!(image(&other), before, "level {level} is not seen");
    }
    Ok(())
}

#[test]
fn the_lower_codes_are_told_the_upper_ones() -> Result<()> {
    let config = config(16, 16, &[2, 2], Reconstruction::Gaussian);
    let (_vs, model) = model(&config)?;
    let levels = images(&config, 4);
    model.start_codebooks(&model.inputs(&levels), 1);
    let before = model.encode(&model.inputs(&levels));
    // other vectors of the top codes change what the bottom level quantises, though not the image
    let top = model.quantisers().nth(1).expect("two levels").codebooks();
    tch::no_grad(|| top.shallow_clone().copy_(&(&top * -3.)));
    let after = model.encode(&model.inputs(&levels));
    assert_ne!(before[0].inputs, after[0].inputs);
    Ok(())
}

#[test]
fn sizes_that_do_not_divide_are_refused_with_those_that_do() {
    let refusal = |height, width, factors: &[i64]| {
        config(height, width, factors, Reconstruction::Gaussian).validate().unwrap_err().to_string()
    };
    assert_eq!(
        refusal(30, 28, &[4]),
        "model.height is 30, but must be a multiple of 4, such as 28 or 32, for model.factors [4]"
    );
    assert!(refusal(32, 2, &[2, 2]).contains("such as 4, for model.factors [2, 2]"));
    assert!(refusal(32, 32, &[3]).contains("powers of two from 2 to 64"));
    assert!(refusal(32, 32, &[]).contains("model.factors"));
}

#[test]
fn an_even_loss_is_ln_of_the_levels_and_a_bound_needs_no_more_than_its_terms() -> Result<()> {
    let config = config(8, 8, &[2], Reconstruction::Softmax);
    let (vs, model) = model(&config)?;
    for (name, weight) in vs.variables() {
        if name.starts_with("decoder.doublings") {
            tch::no_grad(|| {
                let _ = weight.shallow_clone().zero_();
            });
        }
    }
    let (losses, _) = model.losses(&images(&config, 2));
    assert!((losses.reconstruction.double_value(&[]) - 7f64.ln()).abs() < 1e-6);
    Ok(())
}

#[test]
fn sixty_four_codes_of_512_are_three_sixteenths_of_a_bit_a_value() {
    let mut config = config(32, 32, &[4], Reconstruction::Softmax);
    (config.quantiser.codes, config.quantiser.codebooks) = (512, 1);
    let bits_per_dim = config.even_prior_nats() / (config.dims() as f64 * 2f64.ln());
    assert!((bits_per_dim - 0.1875).abs() < 1e-12, "{bits_per_dim}");
}

#[test]
fn a_vae_pays_for_its_latent_by_the_closed_form() -> Result<()> {
    let config = VqVaeConfig { colours: 1, ..config(8, 8, &[2], Reconstruction::Softmax) };
    for with_pixelcnn in [false, true] {
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let vae = Vae::new(&vs.root(), &config, 16, with_pixelcnn)?;
        let levels = images(&config, 5);
        let (mean, log_variance) = vae.posterior(&levels);
        let noise = Tensor::randn([5, 16], (Kind::Float, Device::Cpu));
        let found = vae.loss(&levels, &noise).kl;
        // E_q[log q(z) - log p(z)] for a Gaussian, written out by standard deviations
        let deviation = (&log_variance * 0.5).exp();
        let each: Tensor = deviation.square() / 2. + mean.square() / 2. - deviation.log() - 0.5;
        let wanted = each.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        assert!((found - wanted).abs().max().double_value(&[]) < 1e-4);
    }
    Ok(())
}

#[test]
fn a_pixelcnn_decoder_sees_its_latent_and_gradients_go_back_to_it() -> Result<()> {
    let config = VqVaeConfig { colours: 1, ..config(8, 8, &[2], Reconstruction::Softmax) };
    tch::manual_seed(1);
    let vs = nn::VarStore::new(Device::Cpu);
    let vae = Vae::new(&vs.root(), &config, 16, true)?;
    for (name, weight) in vs.variables() {
        if name.contains("head") {
            tch::no_grad(|| weight.shallow_clone().copy_(&(weight.randn_like() * 0.1)));
        }
    }
    let noise = Tensor::zeros([2, 16], (Kind::Float, Device::Cpu));
    vae.loss(&images(&config, 2), &noise).reconstruction.mean(Kind::Float).backward();
    let encoder = &vs.variables()["encoder.last.weight"];
    assert!(encoder.grad().abs().max().double_value(&[]) > 0.);
    Ok(())
}

#[test]
fn an_untrained_decoder_speaks_in_the_range_of_images() -> Result<()> {
    for factors in [&[4][..], &[4, 2], &[2, 2, 2]] {
        let config =
            VqVaeConfig { channels: 64, ..config(32, 32, factors, Reconstruction::Gaussian) };
        let (_vs, model) = model(&config)?;
        let levels = images(&config, 8);
        let inputs = model.inputs(&levels);
        model.set_variance(inputs.var(false).double_value(&[]));
        model.start_codebooks(&inputs, 0);
        let loss = model.losses(&levels).0.reconstruction.double_value(&[]);
        assert!(loss < 1.5, "{factors:?}: {loss} times the variance before the first step");
    }
    Ok(())
}
