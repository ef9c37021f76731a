//! What a token may depend on.

use core_layers::audit;

use super::*;

#[test]
fn no_token_has_a_gradient_from_itself_or_a_later_one() {
    for (family, config) in families() {
        let (_vs, model) = random(&config);
        let law = audit::causality(&model, &TextContext::full(1), 16, 1);
        assert!(law.holds(), "{family}: {law:?}");
    }
}

#[test]
fn changing_a_token_leaves_every_earlier_logit_as_it_is_to_the_bit() {
    for (family, config) in families() {
        let (_vs, model) = random(&config);
        let before = tokens(&config, 3, 16);
        for place in [0, 5, 15] {
            let after = before.copy();
            let column = after.narrow(1, place, 1);
            column.shallow_clone().copy_(&(&column + 1).remainder(config.vocabulary));
            let [a, b] = [&before, &after].map(|xs| model.forward(xs, false));
            assert_eq!(a.narrow(1, 0, place), b.narrow(1, 0, place), "{family}, {place}");
            let changed =
                (a - b).narrow(1, place, 16 - place).abs().amin([-1i64].as_slice(), false);
            assert!(changed.select(1, 0).min().double_value(&[]) > 0., "{family}, {place}");
        }
    }
}

#[test]
fn a_text_is_the_same_beside_others() {
    for (family, config) in families() {
        let (_vs, model) = random(&config);
        let xs = tokens(&config, 3, 16);
        let together = model.forward(&xs, false);
        let alone = model.forward(&xs.narrow(0, 1, 1), false);
        let difference = (together.narrow(0, 1, 1) - alone).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{family}: {difference}");
    }
}

#[test]
fn one_banded_layer_sees_its_band_and_nothing_before() {
    let config = DecoderConfig { attention: Attention::Alternating { band: 4 }, ..tiny_gpt2() };
    let (_vs, model) = random(&config);
    // layer 0 is dense: attend nowhere there, so that layer 1 alone mixes positions
    tch::no_grad(|| {
        let output = &model.blocks[0].attention.output;
        let _ = output.ws.shallow_clone().zero_();
    });
    let texts = Texts { model: &model, tokens: 16 };
    let xs = audit::symbol_tensor(&audit::random_symbols(
        &core_layers::Autoregressive::layout(&texts),
        1,
        3,
    ));
    for k in [2, 7, 15usize] {
        let strength = audit::influence(&texts, &xs, &TextContext::full(1), k);
        let seen: Vec<usize> = (0..16).filter(|&i| strength[i] > 0.).collect();
        // the last token read is k - 1, and the band holds it and three before
        assert_eq!(seen, (k.saturating_sub(4)..k).collect::<Vec<_>>(), "{k}");
    }
}

#[test]
fn a_band_as_wide_as_the_context_is_dense() {
    let dense = tiny_gpt2();
    let (_vs, model) = random(&dense);
    let banded = DecoderConfig { attention: Attention::Alternating { band: 16 }, ..dense.clone() };
    let banded = Decoder::load(&banded, &model.weights(), Device::Cpu).expect("the same weights");
    let xs = tokens(&dense, 2, 16);
    assert_eq!(model.forward(&xs, false), banded.forward(&xs, false));
}
