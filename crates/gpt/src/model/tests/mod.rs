//! The laws of the decoder.

mod causality;
mod kernels;
mod learning;
mod likelihood;
mod parts;

use super::*;
use crate::{
    config::{Attention, FeedForward, Norm, Scaling},
    weights::names,
};

/// A decoder that fits a test: odd sizes, grouped heads.
pub(crate) fn tiny_llama() -> DecoderConfig {
    DecoderConfig {
        vocabulary: 23,
        context: 16,
        layers: 2,
        d_model: 12,
        heads: 6,
        kv_heads: 2,
        d_head: 4,
        d_ff: 20,
        norm: Norm::RmsNorm,
        norm_epsilon: 1e-6,
        positions: Positions::Rope { theta: 500., scaling: Scaling::None },
        feed_forward: FeedForward::SwiGlu,
        attention: Attention::Dense,
        biases: false,
        tied: false,
        dropout: 0.,
        initial_std: 0.3,
        start: 1,
    }
}

pub(crate) fn tiny_gpt2() -> DecoderConfig {
    DecoderConfig {
        kv_heads: 6,
        norm: Norm::LayerNorm,
        norm_epsilon: 1e-5,
        positions: Positions::Learned,
        feed_forward: FeedForward::GeluTanh,
        biases: true,
        tied: true,
        ..tiny_llama()
    }
}

pub(crate) fn tiny_gpt3() -> DecoderConfig {
    DecoderConfig { attention: Attention::Alternating { band: 4 }, ..tiny_gpt2() }
}

/// One of each family.
pub(crate) fn families() -> [(&'static str, DecoderConfig); 3] {
    [("gpt2", tiny_gpt2()), ("gpt3", tiny_gpt3()), ("llama", tiny_llama())]
}

/// A decoder of random weights; norms and biases are random as well.
pub(crate) fn random(config: &DecoderConfig) -> (nn::VarStore, Decoder) {
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Decoder::new(&vs.root(), config).expect("a sound configuration");
    tch::no_grad(|| {
        for (name, tensor) in vs.variables() {
            if tensor.dim() == 1 {
                let at = if name.ends_with("bias") { 0. } else { 1. };
                let _ = tensor.shallow_clone().normal_(at, 0.2);
            }
        }
    });
    (vs, model)
}

pub(crate) fn tokens(config: &DecoderConfig, rows: i64, time: i64) -> Tensor {
    Tensor::randint(config.vocabulary, [rows, time], (Kind::Int64, Device::Cpu))
}

#[test]
fn parameters_stand_under_their_names_and_are_as_many_as_counted() {
    for (family, config) in families() {
        let (vs, model) = random(&config);
        let wanted = names(&config);
        let found = vs.variables();
        assert_eq!(found.len(), wanted.len(), "{family}");
        let mut count = 0;
        for (name, (rows, columns)) in wanted {
            let size = found[&name].size();
            assert_eq!(size.iter().product::<i64>(), rows * columns, "{family}: {name}");
            assert_eq!(*size.last().unwrap(), columns, "{family}: {name}");
            count += rows * columns;
        }
        assert_eq!(count, config.parameters(), "{family}");
        for (name, tensor) in model.tensors() {
            assert_eq!(tensor.data_ptr(), found[&name].data_ptr(), "{family}: {name}");
        }
    }
}

#[test]
fn weights_taken_out_and_put_in_give_the_same_logits() -> anyhow::Result<()> {
    for (family, config) in families() {
        let (_vs, model) = random(&config);
        let weights = model.weights();
        let again = Decoder::load(&config, &weights, Device::Cpu)?;
        let xs = tokens(&config, 2, 16);
        // weights that learn are joined before they are multiplied: other sums, the same function
        let worst = (model.forward(&xs, false) - again.forward(&xs, false)).abs().max();
        assert!(worst.double_value(&[]) < 1e-5, "{family}: {worst:?}");
        assert_eq!(again.weights().0.len(), weights.0.len());
        for (name, weight) in &weights.0 {
            assert_eq!(again.weights().of(name).bytes(), weight.bytes(), "{family}: {name}");
        }
        assert_eq!(again.config(), &config);
        assert!(!again.forward(&xs, false).requires_grad());
    }
    Ok(())
}

#[test]
fn weights_of_another_shape_are_refused_by_name() {
    let (_vs, model) = random(&tiny_llama());
    let mut weights = model.weights();
    let other = DecoderConfig { d_ff: 19, ..tiny_llama() };
    let error = Decoder::load(&other, &weights, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("feed_forward.down") && !error.contains('\n'), "{error}");
    weights.0.remove("norm.weight");
    let error = model.copy_from(&weights).unwrap_err().to_string();
    assert!(error.contains("norm.weight"), "{error}");
}
