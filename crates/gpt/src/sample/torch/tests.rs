use core_layers::{
    encoded::Encoding,
    kernels::{
        self,
        emulated::{Order, emulated},
    },
    random::uniform_at,
};
use tch::nn;

use super::*;
use crate::{
    config::DecoderConfig,
    model::tests::{families, random},
    weights::quantise,
};

/// A model and a text of as many tokens as its context.
fn model_and_text(config: &DecoderConfig) -> (nn::VarStore, Decoder, Vec<u32>) {
    let (vs, model) = random(config);
    let u = |place| uniform_at(7, "text", 0, place) * config.vocabulary as f64;
    let text = (0..config.context as u64).map(|place| u(place) as u32).collect();
    (vs, model, text)
}

/// Logits of the full pass, by place.
fn full(model: &Decoder, text: &[u32]) -> Vec<Vec<f32>> {
    let ids: Vec<i64> = text.iter().map(|&token| i64::from(token)).collect();
    let logits = no_grad(|| model.forward(&Tensor::from_slice(&ids).unsqueeze(0), false));
    (0..text.len() as i64).map(|place| Vec::try_from(logits.get(0).get(place)).unwrap()).collect()
}

fn ensure_near(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-4, "{what}: {found} but {wanted}");
    }
}

#[test]
fn chunks_of_any_size_and_single_steps_give_the_full_pass() {
    for (family, config) in families() {
        let (_vs, model, text) = model_and_text(&config);
        let wanted = full(&model, &text);
        for chunk in [1, 7, 256] {
            let engine = TorchEngine::new(&model, usize::MAX).with_chunk(chunk);
            let mut session = engine.session(1);
            let mut logits = Vec::new();
            session.feed(0, &text[..11], 5, &mut logits);
            ensure_near(&logits, &wanted[6..11].concat(), &format!("{family}, chunks of {chunk}"));
            for (place, &token) in text.iter().enumerate().skip(11) {
                session.step(&[0], &[token], &mut logits);
                ensure_near(&logits, &wanted[place], &format!("{family}, token {place}"));
            }
            assert_eq!(session.len(0), 16);
        }
    }
}

#[test]
fn rows_of_unequal_length_are_as_if_alone() {
    for (family, config) in families() {
        let (_vs, model, text) = model_and_text(&config);
        let texts = [&text[..], &text[5..], &text[2..]];
        let wanted = texts.map(|text| full(&model, text));
        let engine = TorchEngine::new(&model, 16);
        let mut session = engine.session(3);
        let mut logits = Vec::new();
        for (row, len) in [(0, 9), (1, 1), (2, 4)] {
            session.feed(row, &texts[row][..len], 0, &mut logits);
            assert!(logits.is_empty(), "no logits were wanted");
        }
        for rows in [&[0, 1, 2][..], &[2, 0], &[1], &[1, 2], &[0, 1, 2]] {
            let tokens: Vec<u32> = rows.iter().map(|&row| texts[row][session.len(row)]).collect();
            session.step(rows, &tokens, &mut logits);
            for (&row, logits) in rows.iter().zip(logits.chunks(23)) {
                let place = session.len(row) - 1;
                ensure_near(logits, &wanted[row][place], &format!("{family}: row {row}"));
            }
        }
        session.step(&[], &[], &mut logits);
        assert!(logits.is_empty());
    }
}

#[test]
fn steps_in_kernels_give_the_full_pass_for_rows_of_unequal_length() {
    if !kernels::are_on() {
        return;
    }
    for (family, config) in families() {
        let (_vs, model, text) = model_and_text(&config);
        let texts = [&text[..], &text[5..]];
        let wanted = texts.map(|text| full(&model, text));
        emulated(Order::Shuffled, || {
            assert!(step::is_there(model.device()));
            let engine = TorchEngine::new(&model, 16);
            let (mut session, mut logits) = (engine.session(2), Vec::new());
            session.feed(0, &texts[0][..9], 0, &mut logits);
            session.feed(1, &texts[1][..2], 0, &mut logits);
            for at in 0..3 {
                session.step(&[1, 0], &[texts[1][2 + at], texts[0][9 + at]], &mut logits);
                let wanted = [&wanted[1][2 + at][..], &wanted[0][9 + at]].concat();
                ensure_near(&logits, &wanted, &format!("{family}, step {at}"));
            }
        });
    }
}

#[test]
fn steps_of_quantised_weights_give_the_full_pass_of_the_decoded_ones() {
    if !kernels::are_on() {
        return;
    }
    let sizes = |config| DecoderConfig { d_model: 64, d_head: 16, d_ff: 128, ..config };
    for (family, config) in families().map(|(family, config)| (family, sizes(config))) {
        let (_vs, model, text) = model_and_text(&config);
        for encoding in [Encoding::Int8, Encoding::Int4] {
            let delivered = quantise(&model.weights(), encoding).unwrap();
            let wanted = full(&Decoder::load(&config, &delivered, Device::Cpu).unwrap(), &text);
            emulated(Order::Forward, || {
                let model = Decoder::load(&config, &delivered, Device::Cpu).unwrap();
                assert!(model.copy_from(&delivered).is_err(), "{family}: nothing was packed");
                let engine = TorchEngine::new(&model, 16);
                let (mut session, mut logits) = (engine.session(1), Vec::new());
                session.feed(0, &text[..9], 0, &mut logits);
                for at in 9..12 {
                    session.step(&[0], &text[at..=at], &mut logits);
                    ensure_near(&logits, &wanted[at], &format!("{family}, {encoding}, {at}"));
                }
            });
        }
    }
}

#[test]
fn what_is_truncated_is_forgotten_and_rows_can_be_forked_and_dropped() {
    for (family, config) in families() {
        let (_vs, model, text) = model_and_text(&config);
        let engine = TorchEngine::new(&model, 16);
        let mut session = engine.session(2);
        let mut logits = Vec::new();
        session.feed(0, &text[..8], 0, &mut logits);
        session.feed(1, &text[3..16], 0, &mut logits);
        session.truncate(1, 2);
        session.gather(&[1, 0, 1]);
        assert_eq!([0, 1, 2].map(|row| session.len(row)), [2, 8, 2], "{family}");
        let texts = [&text[3..], &text[..], &[text[3], text[4], 9, 9]];
        session.step(&[0, 1, 2], &[texts[0][2], texts[1][8], texts[2][2]], &mut logits);
        for (row, (logits, text)) in logits.chunks(23).zip(texts).enumerate() {
            let place = session.len(row) - 1;
            ensure_near(logits, &full(&model, text)[place], &format!("{family}: row {row}"));
        }
        session.gather(&[2]);
        session.feed(0, &[9], 1, &mut logits);
        ensure_near(&logits, &full(&model, texts[2])[3], family);
        session.gather(&[]);
        assert_eq!(session.rows(), 0);
    }
}

#[test]
fn greedy_text_is_that_of_full_passes() {
    for (family, config) in families() {
        let config = DecoderConfig { context: 256, ..config };
        let (_vs, model, text) = model_and_text(&config);
        let best = |logits: &[f32]| (0..23).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let engine = TorchEngine::new(&model, 256);
        let mut session = engine.session(1);
        let mut logits = Vec::new();
        let (mut plain, mut cached) = (text[..3].to_vec(), text[..3].to_vec());
        session.feed(0, &cached, 1, &mut logits);
        while cached.len() < 256 {
            let token = best(&logits).unwrap() as u32;
            cached.push(token);
            session.step(&[0], &[token], &mut logits);
            plain.push(best(full(&model, &plain).last().unwrap()).unwrap() as u32);
        }
        assert_eq!(cached, plain, "{family}");
    }
}

#[test]
fn no_gradient_is_recorded_and_the_room_of_a_row_does_not_grow() {
    let (_, config) = &families()[2];
    let (_vs, model, text) = model_and_text(config);
    let engine = TorchEngine::new(&model, 16);
    let config = model.config();
    assert_eq!(engine.bytes_per_row(), 16 * 2 * 2 * 2 * 4 * 4);
    let sizes = [1, config.kv_heads, 16, config.d_head];
    let mut session = TorchSession {
        model: &model,
        context: 16,
        chunk: 4,
        caches: (0..2)
            .map(|_| {
                let nan = || Tensor::full(sizes, f64::NAN, (Kind::Float, Device::Cpu));
                Cache { keys: nan(), values: nan() }
            })
            .collect(),
        cleared: 0,
        lengths: vec![0],
    };
    let before: Vec<_> = session.caches.iter().map(|it| it.keys.data_ptr()).collect();
    let mut logits = Vec::new();
    for _ in 0..3 {
        session.feed(0, &text, 16, &mut logits);
        session.truncate(0, 0);
    }
    let after: Vec<_> = session.caches.iter().map(|it| it.keys.data_ptr()).collect();
    assert_eq!(before, after);
    assert!(session.caches.iter().all(|it| !it.keys.requires_grad()));
    assert!(logits.iter().all(|it| it.is_finite()), "what was never written is never read");
}

#[test]
#[should_panic(expected = "17 tokens do not fit a context of 16")]
fn a_full_row_is_refused() {
    let (_vs, model, text) = model_and_text(&families()[0].1);
    let engine = TorchEngine::new(&model, 99);
    let mut session = engine.session(1);
    let mut logits = Vec::new();
    session.feed(0, &text, 0, &mut logits);
    session.step(&[0], &[1], &mut logits);
}
