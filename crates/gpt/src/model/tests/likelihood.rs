//! Nats.

use core_layers::{Autoregressive as _, audit, autocast::Precision, likelihood::nll};

use super::*;

#[test]
fn an_untrained_decoder_gives_every_token_the_same_chance() {
    for (family, config) in families() {
        let config = DecoderConfig { vocabulary: 997, initial_std: 0.02, ..config };
        let vs = nn::VarStore::new(Device::Cpu);
        let model = Decoder::new(&vs.root(), &config).expect("a sound configuration");
        let nats = model.nll(&tokens(&config, 8, 17), false).double_value(&[]);
        assert!((nats - 997f64.ln()).abs() < 0.05, "{family}: {nats}");
    }
}

#[test]
fn probabilities_of_all_short_texts_sum_to_one() {
    for (family, config) in families() {
        let (_vs, model) = random(&DecoderConfig { vocabulary: 5, ..config });
        let all: Vec<i64> = (0..125).flat_map(|i| [i / 25, i / 5 % 5, i % 5]).collect();
        let all = Tensor::from_slice(&all).view([125, 3]);
        let texts = Texts { model: &model, tokens: 3 };
        let total = nll(&texts, &all, &TextContext::full(125)).neg().exp().sum(Kind::Double);
        assert!((total.double_value(&[]) - 1.).abs() < 1e-5, "{family}");
        let law = audit::sums_to_one(&texts, &TextContext::full(2), 1);
        assert!(law.holds(), "{family}: {law:?}");
    }
}

#[test]
fn texts_are_predicted_from_the_start_token_on() {
    for (family, config) in families() {
        let (_vs, model) = random(&config);
        let xs = tokens(&config, 2, 16);
        let start = Tensor::full([2, 1], i64::from(config.start), (Kind::Int64, Device::Cpu));
        let wanted = model.log_prob(&Tensor::cat(&[start, xs.shallow_clone()], 1), false);
        let context = TextContext::full(2);
        let found = model.conditionals(&model.embed(&xs), &context).log_prob(&xs);
        assert!((found - wanted).abs().max().double_value(&[]) < 1e-5, "{family}");
        assert_eq!(model.layout().len(), 16, "{family}");
    }
}

#[test]
fn a_mask_chooses_and_weighs_what_is_counted() {
    let config = tiny_llama();
    let (_vs, model) = random(&config);
    let xs = tokens(&config, 2, 9);
    let nats = model.log_prob(&xs, false).neg();
    let ones = Tensor::ones([2, 8], (Kind::Float, Device::Cpu));
    let close = |a: &Tensor, b: f64| (a.double_value(&[]) - b).abs() < 1e-5;
    assert!(close(&model.nll(&xs, false), nats.mean(Kind::Double).double_value(&[])));
    assert!(close(&model.nll_masked(&xs, &ones, false), nats.mean(Kind::Double).double_value(&[])));
    let mask = ones.zeros_like();
    let empty = model.nll_masked(&xs, &mask, false);
    assert_eq!(empty.double_value(&[]), 0., "not NaN");
    let _ = mask.get(0).get(3).fill_(1.);
    let _ = mask.get(1).get(7).fill_(3.);
    let wanted = (nats.double_value(&[0, 3]) + 3. * nats.double_value(&[1, 7])) / 4.;
    assert!(close(&model.nll_masked(&xs, &mask, false), wanted));
}

#[test]
fn half_precision_is_near() {
    if !core_layers::autocast::cpu_has_bf16() {
        return;
    }
    // heads of 16 are attended to in one pass, those of 4 by libtorch
    let both = families().into_iter().flat_map(|it| [4, 16].map(|d_head| (it.clone(), d_head)));
    for ((family, config), d_head) in both {
        let config = DecoderConfig { d_head, initial_std: 0.1, ..config };
        let (_vs, model) = random(&config);
        let xs = tokens(&config, 4, 17);
        let run = |precision: Precision| {
            let guard = precision.autocast(Device::Cpu);
            let nats = model.nll(&xs, true);
            drop(guard);
            assert_eq!(nats.kind(), Kind::Float);
            let key = &model.blocks[1].attention.key.ws;
            let gradient = Tensor::run_backward(&[&nats], &[key], false, false).remove(0);
            (nats.double_value(&[]), gradient)
        };
        let (exact, wanted) = run(Precision::F32);
        let (near, found) = run(Precision::Bf16);
        assert!((near - exact).abs() < 0.01 * exact, "{family}");
        let error = ((found - &wanted).norm() / wanted.norm()).double_value(&[]);
        // libtorch's own operations round between the steps of attention too
        let most = if core_layers::kernels::are_on() { 0.05 } else { 0.1 };
        assert!(error < most, "{family}, heads of {d_head}: {error}");
    }
}
