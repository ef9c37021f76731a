//! Laws of a score.

use anyhow::Result;
use tch::{Device, Kind, Tensor, nn};

use super::*;
use crate::{
    model::Decoder,
    sample::{Decode, ExactEngine, FusedEngine, FusedOptions},
    train::tests::tiny,
};

fn decoder() -> Result<Decoder> {
    tch::manual_seed(3);
    let mut vs = nn::VarStore::new(Device::Cpu);
    let decoder = Decoder::new(&vs.root(), &tiny())?;
    vs.freeze();
    Ok(decoder)
}

/// Texts of the tiny vocabulary.
fn texts(lengths: &[usize]) -> Vec<Vec<u32>> {
    let text = |(row, &len): (usize, &usize)| {
        (0..len).map(|i| ((i * i + 3 * row + i / 4) % 11) as u32).collect()
    };
    lengths.iter().enumerate().map(text).collect()
}

fn of(decoder: &Decoder, texts: &impl Documents, context: usize, stride: usize) -> Score {
    let windows = windows(&texts.lengths(), context, stride);
    score(decoder, &Tokenizer::Bytes, texts, &windows, &mut |_| {})
}

#[test]
fn texts_within_the_context_cost_the_sum_of_their_conditionals() -> Result<()> {
    let decoder = decoder()?;
    let texts = texts(&[5, 8, 1]);
    let found = of(&decoder, &texts, 8, 8);
    let mut nats = 0.;
    for text in &texts {
        for known in 0..text.len() {
            // one pass a token, on nothing but what comes before it
            let read: Vec<i64> =
                std::iter::once(10).chain(text[..known].iter().map(|&it| i64::from(it))).collect();
            let logits =
                tch::no_grad(|| decoder.forward(&Tensor::from_slice(&read).unsqueeze(0), false));
            let log_prob = logits.select(1, -1).log_softmax(-1, Kind::Double);
            nats -= log_prob.double_value(&[0, i64::from(text[known])]);
        }
    }
    assert_eq!((found.tokens, found.bytes, found.example), (14, 14, "window"));
    assert!((found.nats_per_token() - nats / 14.).abs() < 1e-5);
    assert!((found.bits_per_byte() - nats / 14. / LN_2).abs() < 1e-5);
    assert!((found.perplexity() - (nats / 14.).exp()).abs() < 1e-3);
    Ok(())
}

#[test]
fn the_score_does_not_depend_on_what_stands_beside_a_text() -> Result<()> {
    let decoder = decoder()?;
    let texts = texts(&[20, 3, 9]);
    let alone: f64 = texts
        .iter()
        .map(|text| {
            let found = of(&decoder, &vec![text.clone()], 8, 4);
            found.nats_per_token() * found.tokens as f64
        })
        .sum();
    let together = of(&decoder, &texts, 8, 4);
    assert!((together.nats_per_token() * 32. - alone).abs() < 1e-4);
    Ok(())
}

#[test]
fn an_engine_scores_texts_as_the_decoder_does() -> Result<()> {
    let decoder = decoder()?;
    let weights = decoder.weights();
    let options = FusedOptions { context: Some(8), ..FusedOptions::detect()? };
    let engines: [Box<dyn Decode + Sync>; 2] = [
        Box::new(FusedEngine::new(&tiny(), &weights, options)?),
        Box::new(ExactEngine::new(&tiny(), &weights)?),
    ];
    let texts = texts(&[20, 3, 1, 9]);
    let windows = windows(&texts.lengths(), 8, 3);
    let wanted = decoder.nats(&texts, &windows);
    for engine in engines {
        let mut engine = Engine { engine, start: 10, threads: 1 };
        let found = engine.nats(&texts, &windows);
        for threads in [2, 5, 100] {
            engine.threads = threads;
            assert_eq!(engine.nats(&texts, &windows), found, "{threads} threads");
        }
        for ((found, wanted), window) in found.iter().zip(&wanted).zip(&windows) {
            assert!((found - wanted).abs() < 1e-4, "{window:?}: {found}, not {wanted}");
        }
    }
    Ok(())
}

#[test]
fn many_documents_are_the_examples_and_few_are_cut() -> Result<()> {
    let decoder = decoder()?;
    let many = of(&decoder, &texts(&[10; 20]), 8, 8);
    assert_eq!((many.example, many.likelihood.examples, many.tokens), ("document", 20, 200));
    let few = of(&decoder, &texts(&[10; 3]), 8, 8);
    assert_eq!((few.example, few.likelihood.examples, few.tokens), ("window", 6, 30));
    assert_eq!(of(&decoder, &texts(&[4]), 8, 8).nats_per_token_se(), None);
    Ok(())
}

#[test]
fn nothing_is_dropped_while_texts_are_scored_and_no_graph_is_kept() -> Result<()> {
    let mut config = tiny();
    config.dropout = 0.5;
    let vs = nn::VarStore::new(Device::Cpu); // not frozen
    let decoder = Decoder::new(&vs.root(), &config)?;
    let texts = texts(&[8]);
    let score = || of(&decoder, &texts, 8, 8).nats_per_token();
    assert_eq!(score(), score());
    let batch = Batch::new(&texts, &windows(&[8], 8, 8), 10, Device::Cpu);
    let dropped = || batch.sums(&decoder, true)[0].double_value(&[]);
    assert_ne!(dropped(), dropped(), "in training it is");
    Ok(())
}
