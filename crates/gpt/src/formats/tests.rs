//! Fixtures that transformers and GGML's package wrote, read here and compared with their logits.

use std::path::PathBuf;

use core_layers::{
    autocast::{Precision, cpu_has_bf16},
    npy::Npy,
};
use proptest::{prelude::*, test_runner::Config};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::model::Decoder;

/// A file or folder among the fixtures.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/gpt")).join(name)
}

/// The model of a fixture.
pub(crate) fn fixture(name: &str) -> Delivered {
    open(&path(name), checkpoint::Weights::Ema).unwrap()
}

/// A model's logits and those that stand in a folder, `[B, T, V]` both.
fn both_logits(model: &Delivered, folder: &str, precision: Precision) -> [Tensor; 2] {
    let read = |name: &str| Npy::open(&path(folder).join(name)).unwrap();
    let tokens = read("tokens.npy");
    let shape: Vec<i64> = tokens.shape().iter().map(|&it| it as i64).collect();
    let ids: Vec<i64> =
        tokens.whole_numbers("token", i128::from(model.config.vocabulary) - 1).unwrap();
    let wanted = read("logits.npy").finite_numbers("logit").unwrap();
    let decoder = Decoder::load(&model.config, &model.weights, Device::Cpu).unwrap();
    let ids = Tensor::from_slice(&ids).view(shape.as_slice());
    let _guard = precision.autocast(Device::Cpu);
    let logits = tch::no_grad(|| decoder.forward(&ids, false)).to_kind(Kind::Float);
    let wanted = Tensor::from_slice(&wanted).view(logits.size().as_slice());
    [logits, wanted]
}

/// Greatest difference between a model's logits and those that stand in a folder.
pub(crate) fn greatest_difference(model: &Delivered, folder: &str) -> f64 {
    let [logits, wanted] = both_logits(model, folder, Precision::F32);
    (logits - wanted).abs().max().double_value(&[])
}

const OF_TRANSFORMERS: [&str; 5] =
    ["gpt2-tied", "gpt2-erf", "llama-grouped", "llama-scaled", "llama-linear"];

#[test]
fn logits_are_those_of_transformers() {
    for name in OF_TRANSFORMERS {
        let [logits, wanted] = both_logits(&fixture(name), name, Precision::F32);
        let best = |it: &Tensor| it.argmax(-1, false);
        assert_eq!(best(&logits), best(&wanted), "{name}: the likeliest tokens");
        let greatest = (logits - wanted).abs().max().double_value(&[]);
        assert!(greatest < 1e-4, "{name}: {greatest}");
    }
}

#[test]
fn probabilities_in_bf16_are_near_those_of_transformers() {
    if !cpu_has_bf16() {
        return;
    }
    for name in OF_TRANSFORMERS {
        let both = both_logits(&fixture(name), name, Precision::Bf16);
        let [found, wanted] = both.map(|it| it.log_softmax(-1, Kind::Double));
        let kl = (wanted.exp() * (wanted - found)).sum_dim_intlist(-1, false, Kind::Double);
        let kl = kl.mean(Kind::Double).double_value(&[]);
        assert!((0. ..1e-3).contains(&kl), "{name}: {kl} nats");
    }
}

#[test]
fn logits_of_gguf_files_are_those_of_the_values_that_ggml_decodes() {
    for name in ["gguf-text", "gguf-k"] {
        let greatest = greatest_difference(&fixture(&format!("{name}/model.gguf")), name);
        assert!(greatest < 1e-4, "{name}: {greatest}");
    }
}

#[test]
fn a_folder_with_neither_model_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{:#}", open(folder.path(), checkpoint::Weights::Ema).unwrap_err());
    assert!(
        line.ends_with(": holds no model.safetensors: neither a run nor a Hugging Face folder"),
        "{line}"
    );
    let line = format!("{:#}", open(&path("no/such"), checkpoint::Weights::Ema).unwrap_err());
    assert!(line.ends_with("no/such: cannot be read: no such file or folder"), "{line}");
}

#[test]
fn text_is_refused_where_the_model_has_too_few_tokens_for_bytes() {
    let line = format!("{:#}", fixture("gpt2-tied").ensure_text().unwrap_err());
    assert_eq!(line, "gpt2-tied: bytes need 257 tokens, the model knows 61");
    assert!(fixture("gguf-text/model.gguf").ensure_text().is_ok());
}

/// Runs a property over edits of bytes: places, what is put there, and where the end is cut.
pub(crate) fn for_edits(bytes: &[u8], cases: u32, check: impl Fn(Vec<u8>)) {
    let edits = prop::collection::vec((0..bytes.len(), any::<u8>()), 0..4);
    let config = Config { failure_persistence: None, ..Config::with_cases(cases) };
    proptest::test_runner::TestRunner::new(config)
        .run(&(edits, prop::option::of(0..bytes.len())), |(edits, cut)| {
            let mut bytes = bytes.to_vec();
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            bytes.truncate(cut.unwrap_or(bytes.len()));
            check(bytes);
            Ok(())
        })
        .unwrap();
}
