//! Kernels change no training: loss and gradients with them are those of the plain operations.

use core_layers::{
    autocast::{Precision, cpu_has_bf16},
    kernels,
};

use super::*;

/// Loss and gradients by name. Keys' biases are left out: they move all scores of a query alike, so that their gradient is
/// zero and what is found is rounding.
fn learnt(model: &Decoder, xs: &Tensor, precision: Precision) -> Vec<(String, Tensor)> {
    let autocast = precision.autocast(Device::Cpu);
    let loss = model.nll(xs, true);
    drop(autocast);
    let mut tensors = model.tensors();
    tensors.retain(|(name, _)| !name.ends_with("key.bias"));
    let weights: Vec<&Tensor> = tensors.iter().map(|(_, it)| *it).collect();
    let gradients = Tensor::run_backward(&[&loss], &weights, false, false);
    let names = tensors.iter().map(|(name, _)| name.clone());
    std::iter::once(("loss".to_owned(), loss.detach())).chain(names.zip(gradients)).collect()
}

/// The difference of two, beside the size of the second.
fn error(found: &Tensor, wanted: &Tensor) -> f64 {
    ((found - wanted).norm() / (wanted.norm() + 1e-3)).double_value(&[])
}

/// Heads as wide as the one pass over a head takes them.
fn wide_heads((family, config): (&'static str, DecoderConfig)) -> (&'static str, DecoderConfig) {
    (family, DecoderConfig { d_model: 96, d_head: 16, initial_std: 0.1, ..config })
}

#[test]
fn training_in_f32_computes_the_same_with_kernels_and_without() {
    for (family, config) in families().map(wide_heads) {
        tch::manual_seed(7);
        let (_vs, model) = random(&config);
        let xs = tokens(&config, 3, 16);
        let found = learnt(&model, &xs, Precision::F32);
        let wanted = kernels::without(|| learnt(&model, &xs, Precision::F32));
        for ((name, found), (_, wanted)) in found.iter().zip(&wanted) {
            let error = error(found, wanted);
            assert!(error < 1e-5, "{family}: {name}: {error}");
        }
    }
}

#[test]
fn training_in_bf16_is_as_near_to_f32_with_kernels_as_without() {
    if !cpu_has_bf16() {
        return; // refused there
    }
    for (family, config) in families().map(wide_heads) {
        tch::manual_seed(7);
        let (_vs, model) = random(&config);
        let xs = tokens(&config, 3, 16);
        let wanted = kernels::without(|| learnt(&model, &xs, Precision::F32));
        let plain = kernels::without(|| learnt(&model, &xs, Precision::Bf16));
        let found = learnt(&model, &xs, Precision::Bf16);
        for (((name, found), (_, plain)), (_, wanted)) in found.iter().zip(&plain).zip(&wanted) {
            let [found, plain] = [found, plain].map(|it| error(it, wanted));
            assert!(found < 1.5 * plain + 5e-3, "{family}: {name}: {found}, not {plain}");
            assert!(found < 5e-2, "{family}: {name}: {found}");
        }
    }
}
