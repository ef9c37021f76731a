//! Laws of draws and drafts: what is written follows the model's probabilities.

use std::{collections::HashMap, ops::ControlFlow};

use super::{write, writer};
use crate::sample::{table::Table, *};

#[test]
fn draws_follow_the_probabilities() {
    let table = Table::new(7, 6);
    let config = GenerationConfig { max_tokens: 1, count: 1024, ..Default::default() };
    let mut counts = HashMap::new();
    for seed in 0..10 {
        let config = GenerationConfig { seed, ..config.clone() };
        for text in write(&writer(&table, &config), &[vec![3]]) {
            *counts.entry(text.tokens).or_insert(0) += 1;
        }
    }
    chi_squared(&table, &config, &[3], 1, &counts);
}

/// Refuses counts of texts of `length` tokens that differ from their probabilities by more than chance: the statistic has
/// mean `cells - 1` and variance `2 (cells - 1)`, and lies 5 standard deviations above once in ten thousand times.
fn chi_squared(
    table: &Table,
    config: &GenerationConfig,
    prompt: &[u32],
    length: usize,
    counts: &HashMap<Vec<u32>, u32>,
) {
    let total = f64::from(counts.values().sum::<u32>());
    let mut cells = vec![(Vec::new(), 1.)];
    for _ in 0..length {
        let mut longer = Vec::new();
        for (text, probability) in cells {
            let mut logits = table.logits(&[prompt, text.as_slice()].concat());
            let mut penalties = Penalties::new(config, prompt);
            for &token in &text {
                penalties.push(token);
            }
            penalties.apply(&mut logits);
            let mut distribution = Distribution::default();
            Filters::new(config.sampling()).apply(&logits, &mut distribution).unwrap();
            let next = distribution.iter().filter(|it| it.1 > 0.);
            longer.extend(
                next.map(|(token, p)| ([text.as_slice(), &[token]].concat(), probability * p)),
            );
        }
        cells = longer;
    }
    assert!(counts.keys().all(|text| cells.iter().any(|it| it.0 == *text)), "an impossible text");
    let statistic: f64 = cells
        .iter()
        .map(|(text, probability)| {
            let expected = total * probability;
            (f64::from(counts.get(text).copied().unwrap_or(0)) - expected).powi(2) / expected
        })
        .sum();
    let freedom = cells.len() as f64 - 1.;
    assert!(statistic < freedom + 5. * (2. * freedom).sqrt(), "{statistic} of {freedom}");
}

pub(super) fn drafted<'a>(target: &Writer<'a>, engine: &'a Table, tokens: usize) -> Writer<'a> {
    Writer { draft: Some(Draft { engine, tokens }), ..*target }
}

#[test]
fn a_draft_changes_no_probability() {
    let (table, draft) = (Table::new(4, 6), Table::new(4, 7));
    let plain = GenerationConfig { max_tokens: 3, count: 1024, ..Default::default() };
    let penalised = GenerationConfig {
        temperature: 1.5,
        top_k: 3,
        repetition_penalty: 1.5,
        presence_penalty: 0.5,
        ..plain.clone()
    };
    for config in [plain, penalised] {
        let (mut counts, mut all) = (HashMap::new(), Drafted::default());
        for seed in 0..8 {
            let config = GenerationConfig { seed, ..config.clone() };
            let writer = drafted(&writer(&table, &config), &draft, 2);
            let listener = &mut |_: &Event<'_>| ControlFlow::Continue(());
            let written = writer.write(&mut writer.memory(1), &[vec![3, 0]], listener).unwrap();
            all += written.drafted;
            for text in written.texts {
                *counts.entry(text.tokens).or_insert(0) += 1;
            }
        }
        assert!(all.accepted > 1000 && all.accepted + 1000 < all.proposed, "{all:?}");
        chi_squared(&table, &config, &[3, 0], 3, &counts);
    }
}

#[test]
fn greedy_text_is_the_same_with_any_draft() {
    let table = Table::new(257, 11);
    // the narrow one runs out of context before the model does
    let narrow = Table { context: 20, ..Table::new(257, 11) };
    let other = Table::new(257, 12);
    let config = GenerationConfig {
        temperature: 0.,
        repetition_penalty: 1.3,
        frequency_penalty: 0.2,
        ..Default::default()
    };
    let writer = writer(&table, &config);
    let prompts = [vec![256, 1], vec![256, 2, 3]];
    let wanted = write(&writer, &prompts);
    assert_eq!(wanted[0].finish, Finish::Context);
    for (draft, tokens) in [(&table, 1), (&table, 5), (&narrow, 4), (&other, 3)] {
        assert_eq!(write(&drafted(&writer, draft, tokens), &prompts), wanted);
    }
}

#[test]
fn a_draft_that_is_the_model_is_always_accepted() {
    let table = Table::new(257, 11);
    let config = GenerationConfig { max_tokens: 31, ignore_eos: true, ..Default::default() };
    let writer = drafted(&writer(&table, &config), &table, 4);
    let listener = &mut |_: &Event<'_>| ControlFlow::Continue(());
    let found = writer.write(&mut writer.memory(1), &[vec![256]], listener).unwrap();
    assert_eq!(found.texts[0].tokens.len(), 31);
    assert_eq!(found.drafted, Drafted { rounds: 6, proposed: 24, accepted: 24 });
    assert_eq!(found.decode.tokens, 30);
}

#[test]
fn a_draft_of_another_vocabulary_is_refused() {
    let (table, draft) = (Table::new(257, 1), Table::new(256, 1));
    let config = GenerationConfig::default();
    let writer = drafted(&writer(&table, &config), &draft, 4);
    let listener = &mut |_: &Event<'_>| ControlFlow::Continue(());
    let line = writer.write(&mut writer.memory(1), &[vec![256]], listener).unwrap_err().to_string();
    assert!(line.starts_with("draft is a model of 256 tokens, but must be one of 257"), "{line}");
}
