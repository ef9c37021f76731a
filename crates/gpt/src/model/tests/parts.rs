//! Norms, positions, heads and feed-forward networks, as the papers have them.

use tch::nn::Module;

use super::*;

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// A decoder of `config` with the weights of `model`, some of them changed.
fn with(
    config: &DecoderConfig,
    model: &Decoder,
    change: impl Fn(&mut crate::weights::Weights),
) -> Decoder {
    let mut weights = model.weights();
    change(&mut weights);
    Decoder::load(config, &weights, Device::Cpu).expect("weights that fit")
}

#[test]
fn both_forms_of_gelu_are_their_formulas_and_differ() {
    let x = 1.3f64;
    let by_tanh =
        0.5 * x * (1. + ((2. / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
    let by_erf = 0.5 * x * (1. + (Tensor::from(x) / 2f64.sqrt()).erf().double_value(&[]));
    assert!((by_tanh - by_erf).abs() > 1e-4);
    for (kind, wanted) in [(FeedForward::GeluTanh, by_tanh), (FeedForward::Gelu, by_erf)] {
        let config =
            DecoderConfig { d_model: 1, d_ff: 1, feed_forward: kind, biases: false, ..tiny_gpt2() };
        let vs = nn::VarStore::new(Device::Cpu);
        let network = feed_forward::FeedForwardNetwork::new(&vs.root(), &config, 1.);
        tch::no_grad(|| {
            for (_, tensor) in vs.variables() {
                let _ = tensor.shallow_clone().fill_(1.);
            }
        });
        let found = network.forward(&Tensor::from_slice(&[x as f32]).view([1, 1, 1]));
        assert!((found.double_value(&[0, 0, 0]) - wanted).abs() < 1e-6, "{kind:?}");
    }
}

#[test]
fn swiglu_gates_with_silu() {
    let (_vs, model) = random(&tiny_llama());
    let network = &model.blocks[0].feed_forward;
    let xs = Tensor::randn([2, 3, 12], (Kind::Float, Device::Cpu));
    let gate = xs.matmul(&network.gate.as_ref().unwrap().ws.tr());
    let up = xs.matmul(&network.up.ws.tr());
    let wanted = (&gate * gate.sigmoid() * up).matmul(&network.down.ws.tr());
    assert!(difference(&network.forward(&xs), &wanted) < 1e-5);
}

#[test]
fn grouped_heads_are_many_heads_with_repeated_weights() {
    let grouped = tiny_llama();
    let full = DecoderConfig { kv_heads: 6, ..grouped.clone() };
    let (_vs, model) = random(&grouped);
    let wide = with(&full, &model, |weights| {
        for (name, weight) in &mut weights.0 {
            if name.contains("attention.key") || name.contains("attention.value") {
                let values = weight.to_f32();
                let head = 4 * weight.columns();
                let repeated: Vec<f32> =
                    (0..6).flat_map(|h| values[h / 3 * head..][..head].to_vec()).collect();
                *weight = core_layers::encoded::Encoded::from_f32(24, weight.columns(), &repeated);
            }
        }
    });
    let xs = tokens(&grouped, 2, 16);
    assert!(difference(&model.forward(&xs, false), &wide.forward(&xs, false)) < 1e-5);
}

#[test]
fn rotations_make_the_decoder_depend_on_distances_only() {
    let config = tiny_llama();
    let (_vs, model) = random(&config);
    let xs = tokens(&config, 1, 8);
    let embedded = model.embed(&xs);
    let at = |first: i64| {
        let positions = Tensor::arange_start(first, first + 8, (Kind::Int64, Device::Cpu));
        model.run(&embedded, &positions, false, None, &mut |_, _| {})
    };
    assert!(difference(&at(0), &at(300)) < 1e-4);
}

#[test]
fn a_tied_head_is_one_tensor_with_one_gradient() {
    let (vs, model) = random(&tiny_gpt2());
    assert!(!vs.variables().contains_key("head.weight"));
    let xs = tokens(&tiny_gpt2(), 2, 9);
    let of = |embedding: &Tensor, head: &Tensor| {
        let embedded = Tensor::embedding(embedding, &xs.narrow(1, 0, 8), -1, false, false);
        let logits = model.hidden_of_embedded(&embedded, false).matmul(&head.tr());
        Conditionals::Logits(logits).log_prob(&xs.narrow(1, 1, 8)).mean(Kind::Float).neg()
    };
    let apart = [(); 2].map(|()| model.embedding.detach().set_requires_grad(true));
    let gradients = Tensor::run_backward(&[of(&apart[0], &apart[1])], &apart, false, false);
    model.nll(&xs, false).backward();
    let wanted = &gradients[0] + &gradients[1];
    assert!(difference(&model.embedding.grad(), &wanted) < 1e-6);
}

#[test]
fn dropout_acts_in_training_only() {
    let config = DecoderConfig { dropout: 0.3, ..tiny_gpt2() };
    let (_vs, model) = random(&config);
    let xs = tokens(&config, 2, 16);
    assert_eq!(model.forward(&xs, false), model.forward(&xs, false));
    assert_ne!(model.forward(&xs, true), model.forward(&xs, true));
    let without = Decoder::load(&tiny_gpt2(), &model.weights(), Device::Cpu).expect("its weights");
    assert_eq!(model.forward(&xs, false), without.forward(&xs, false));
}

#[test]
fn dropout_acts_on_the_weights_of_attention() {
    let config = DecoderConfig { dropout: 0.3, ..tiny_gpt2() };
    let (_vs, model) = random(&config);
    let attention = &model.blocks[0].attention; // before anything is dropped from what it writes
    let xs = Tensor::randn([2, 9, config.d_model], (Kind::Float, Device::Cpu));
    for band in [None, Some(4)] {
        let found = |train| {
            let attend = band.map_or(Attend::Causal, Attend::Band);
            attention.forward(&xs, None, train, attend)
        };
        assert_eq!(found(false), found(false), "{band:?}");
        assert_ne!(found(true), found(true), "{band:?}");
    }
}

#[test]
fn training_and_evaluation_compute_the_same_where_nothing_is_dropped() {
    for (family, config) in families() {
        let (_vs, model) = random(&config);
        let xs = tokens(&config, 2, 16);
        let found = difference(&model.forward(&xs, true), &model.forward(&xs, false));
        assert!(found < 1e-5, "{family}: {found}");
    }
}

#[test]
fn states_are_what_enters_each_layer_and_what_the_head_reads() {
    let (_vs, model) = random(&tiny_gpt2());
    let xs = tokens(&tiny_gpt2(), 1, 7);
    let states = model.states(&xs);
    assert_eq!(states.len(), 3);
    let positions = model.position.as_ref().expect("learnt positions").narrow(0, 0, 7);
    assert_eq!(states[0], model.embed(&xs) + positions);
    assert_eq!(states[2], model.hidden(&xs, false));
}

#[test]
#[should_panic(expected = "17 tokens do not fit a context of 16")]
fn a_text_beyond_the_context_is_refused() {
    let (_vs, model) = random(&tiny_llama());
    let _ = model.forward(&tokens(&tiny_llama(), 1, 17), false);
}
