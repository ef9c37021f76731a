use core_layers::encoded::Encoded;
use proptest::prelude::*;
use safetensors::{Dtype, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::{
    config::{DecoderConfig, FeedForward},
    model::tests::{families, random, tiny_gpt2, tiny_llama, tokens},
    weights::Weights,
};

/// What a sound decoder says of a text.
fn reference(model: &Decoder, with_hidden: bool) -> Reference {
    let xs = tokens(model.config(), 3, 16);
    let states = no_grad(|| model.states(&xs));
    let logits = no_grad(|| model.forward(&xs, false));
    let hidden = if with_hidden { states.into_iter().enumerate().collect() } else { [].into() };
    Reference { tokens: xs, logits, hidden }
}

/// Which convention is suspected of weights that are not those of the reference.
fn found(config: &DecoderConfig, weights: &Weights, reference: &Reference) -> Option<String> {
    let model = Decoder::load(config, weights, Device::Cpu).expect("weights that fit");
    let layers = agreements(&model, reference);
    let last = layers.last().expect("logits");
    assert!(
        last.greatest_difference > 2e-4 && last.kl_nats > 0.,
        "a planted fault shows: {last:?}"
    );
    suspect(config, weights, reference, 1e-4, Device::Cpu)
        .expect("weights that fit")
        .map(|it| it.what)
}

fn changed(weights: &Weights, part: &str, change: impl Fn(&Encoded) -> Encoded) -> Weights {
    let one = |(name, weight): (&String, &Encoded)| {
        let it = if name.contains(part) { change(weight) } else { weight.clone() };
        (name.clone(), it)
    };
    Weights(weights.0.iter().map(one).collect())
}

#[test]
fn a_decoder_agrees_with_itself_in_every_layer() {
    for (family, config) in families() {
        let (_vs, model) = random(&config);
        let layers = agreements(&model, &reference(&model, true));
        let names: Vec<_> = layers.iter().map(|it| it.layer.as_str()).collect();
        assert_eq!(names, ["hidden.0", "hidden.1", "hidden.2", "logits"], "{family}");
        assert!(layers.iter().all(|it| it.greatest_difference < 1e-5 && it.kl_nats.abs() < 1e-9));
    }
}

#[test]
fn rotary_pairs_in_the_other_order_are_named_either_way() {
    let (_vs, model) = random(&tiny_llama());
    let weights = model.weights();
    // a head of four: halves pair (0, 2) and (1, 3), neighbours (0, 1) and (2, 3); its own inverse
    let swapped = |weight: &Encoded| {
        let rows: Vec<usize> =
            (0..weight.rows()).map(|row| row / 4 * 4 + [0, 2, 1, 3][row % 4]).collect();
        weight.with_rows(&rows)
    };
    let faulty = changed(&changed(&weights, "attention.query", swapped), "attention.key", swapped);
    let what = found(&tiny_llama(), &faulty, &reference(&model, false)).expect("a suspect");
    assert!(what.starts_with("RoPE pairing"), "{what}");

    let wide = DecoderConfig { d_head: 6, ..tiny_llama() };
    let (_vs, model) = random(&wide);
    for (order, wanted) in
        [([0, 3, 1, 4, 2, 5], "pair neighbours"), ([0, 2, 4, 1, 3, 5], "were reordered")]
    {
        let moved = |weight: &Encoded| {
            let rows: Vec<usize> =
                (0..weight.rows()).map(|row| row / 6 * 6 + order[row % 6]).collect();
            weight.with_rows(&rows)
        };
        let faulty =
            changed(&changed(&model.weights(), "attention.query", moved), "attention.key", moved);
        let what = found(&wide, &faulty, &reference(&model, true)).expect("a suspect");
        assert!(what.contains(wanted), "{what}");
    }
}

#[test]
fn the_other_form_of_gelu_is_named() {
    let (_vs, model) = random(&DecoderConfig { initial_std: 0.6, ..tiny_gpt2() });
    let faulty = DecoderConfig { feed_forward: FeedForward::Gelu, ..tiny_gpt2() };
    let what = found(&faulty, &model.weights(), &reference(&model, false)).expect("a suspect");
    assert_eq!(what, "GELU form: it is the approximation by tanh");
}

#[test]
fn a_transposed_projection_is_named_with_its_name() {
    for (part, config) in [
        ("attention.output", tiny_llama()),
        ("attention.value", tiny_gpt2()),
        ("feed_forward.up", tiny_gpt2()),
        ("feed_forward.gate", tiny_llama()),
    ] {
        let (_vs, model) = random(&config);
        let turned = |weight: &Encoded| {
            let (rows, columns) = (weight.rows() as i64, weight.columns() as i64);
            let values = Tensor::from_slice(&weight.to_f32()).view([rows, columns]);
            let values: Vec<f32> = Vec::try_from(values.tr().contiguous().view(-1)).unwrap();
            Encoded::from_f32(weight.rows(), weight.columns(), &values) // read as if it were [out, in]
        };
        let faulty = changed(&model.weights(), &format!("{part}.weight"), turned);
        let what = found(&config, &faulty, &reference(&model, false)).expect("a suspect");
        assert_eq!(what, format!("transposed projection: {part}"));
    }
}

#[test]
fn a_head_that_is_tied_and_should_not_be_is_named_and_the_other_way_round() {
    let untied = DecoderConfig { tied: false, ..tiny_gpt2() };
    for with_hidden in [true, false] {
        let (_vs, model) = random(&untied);
        let mut weights = model.weights();
        weights.0.remove("head.weight");
        let what =
            found(&tiny_gpt2(), &weights, &reference(&model, with_hidden)).expect("a suspect");
        assert_eq!(what, "tied head: the reference's head is not its embedding");

        let (_vs, model) = random(&tiny_gpt2());
        let mut weights = model.weights();
        let other = tch::Tensor::randn([23 * 12], (Kind::Float, Device::Cpu));
        let values: Vec<f32> = Vec::try_from(other).unwrap();
        weights.0.insert("head.weight".into(), Encoded::from_f32(23, 12, &values));
        let what = found(&untied, &weights, &reference(&model, with_hidden)).expect("a suspect");
        assert_eq!(what, "tied head: the reference's is its embedding");
    }
}

#[test]
fn another_model_altogether_is_suspected_of_nothing() {
    let (_vs, model) = random(&tiny_llama());
    let (_other, other) = random(&tiny_llama());
    assert_eq!(found(&tiny_llama(), &other.weights(), &reference(&model, false)), None);
}

/// A file with a text of zeros.
fn file(config: &DecoderConfig, hidden: &str) -> Vec<u8> {
    let zeros = |shape: &[usize], size: usize| vec![0u8; shape.iter().product::<usize>() * size];
    let (v, d) = (config.vocabulary as usize, config.d_model as usize);
    let shapes = [("tokens", vec![1, 4]), ("logits", vec![1, 4, v]), (hidden, vec![1, 4, d])];
    let data = shapes.each_ref().map(|(_, shape)| zeros(shape, 8));
    let kinds = [Dtype::I64, Dtype::F64, Dtype::F64];
    let views = shapes.iter().zip(&data).zip(kinds).map(|(((name, shape), data), kind)| {
        (*name, TensorView::new(kind, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn a_file_that_does_not_fit_is_refused_in_one_line() {
    let config = tiny_llama();
    let good = file(&config, "hidden.2");
    let read = Reference::parse(&good, &config).expect("a file that fits");
    assert_eq!(read.hidden.keys().copied().collect::<Vec<_>>(), [2]);
    let refusal = |bytes: &[u8], config: &DecoderConfig| {
        let error = format!("{:#}", Reference::parse(bytes, config).unwrap_err());
        assert!(!error.contains('\n'), "{error}");
        error
    };
    assert!(refusal(&file(&config, "hidden.3"), &config).contains("none of hidden.0 to hidden.2"));
    let other = DecoderConfig { vocabulary: 24, ..config.clone() };
    assert!(refusal(&good, &other).contains("\"logits\" has shape [1, 4, 23]"));
    let short = DecoderConfig { context: 3, ..config.clone() };
    assert!(refusal(&good, &short).contains("\"tokens\" has shape [1, 4]"));
    assert!(refusal(b"nothing", &config).starts_with("is no safetensors file"));
}

proptest! {
    #[test]
    fn damaged_files_never_panic(place in 0usize..700, byte: u8, len in 0usize..3000) {
        let config = tiny_llama();
        let mut bytes = file(&config, "hidden.0");
        let place = place.min(bytes.len() - 1);
        bytes[place] = byte;
        let _ = Reference::parse(&bytes, &config);
        bytes.truncate(len);
        let _ = Reference::parse(&bytes, &config);
    }
}
