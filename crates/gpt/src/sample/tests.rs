//! Laws of writing, over tables.

mod drafts;

use std::{ops::ControlFlow, sync::atomic::Ordering};

use drafts::drafted;

use super::{table::Table, *};
use crate::text::Tokenizer;

const ENDS: [u32; 1] = [256];

fn writer<'a>(engine: &'a Table, config: &'a GenerationConfig) -> Writer<'a> {
    let tokenizer = &Tokenizer::Bytes;
    Writer { engine, draft: None, tokenizer, ends: &ENDS, config, explain: false }
}

fn write(writer: &Writer<'_>, prompts: &[Vec<u32>]) -> Vec<Text> {
    let mut memory = writer.memory(prompts.len());
    let listener = &mut |_: &Event<'_>| ControlFlow::Continue(());
    writer.write(&mut memory, prompts, listener).unwrap().texts
}

fn tokens(texts: Vec<Text>) -> Vec<Vec<u32>> {
    texts.into_iter().map(|it| it.tokens).collect()
}

/// What the definition writes: one text, from the logits of the whole row each time.
fn written_plainly(
    table: &Table,
    config: &GenerationConfig,
    prompt: &[u32],
    sample: u64,
) -> Vec<u32> {
    let mut row = prompt.to_vec();
    let mut penalties = Penalties::new(config, prompt);
    let mut distribution = Distribution::default();
    while row.len() < prompt.len() + config.max_tokens && row.len() < table.context {
        let mut logits = table.logits(&row);
        logits.truncate(257);
        penalties.apply(&mut logits);
        Filters::new(config.sampling()).apply(&logits, &mut distribution).unwrap();
        let u = core_layers::random::uniform_at(config.seed, "token", sample, row.len() as u64);
        row.push(distribution.quantile(u));
        penalties.push(row[row.len() - 1]);
        if row.ends_with(&ENDS) {
            break;
        }
    }
    row.split_off(prompt.len())
}

#[test]
fn batches_samples_and_single_runs_write_the_same() {
    let mut table = Table::new(257, 3);
    table.range = 4.;
    let config = GenerationConfig {
        max_tokens: 40,
        temperature: 0.9,
        top_k: 200,
        repetition_penalty: 1.2,
        frequency_penalty: 0.1,
        seed: 5,
        count: 3,
        ..Default::default()
    };
    let prompts = [vec![256], vec![256, 7, 8, 9], (0..50).collect()];
    let together = tokens(write(&writer(&table, &config), &prompts));
    assert_eq!(together.len(), 9);
    for (index, prompt) in prompts.iter().enumerate() {
        let alone = tokens(write(&writer(&table, &config), std::slice::from_ref(prompt)));
        assert_eq!(alone, together[3 * index..3 * index + 3]);
        for (sample, text) in alone.iter().enumerate() {
            assert_eq!(*text, written_plainly(&table, &config, prompt, sample as u64));
        }
        assert_ne!(alone[0], alone[1], "samples differ");
    }
}

#[test]
fn samples_share_the_reading_of_their_prompt() {
    let table = Table::new(257, 3);
    let config =
        GenerationConfig { max_tokens: 3, count: 5, ignore_eos: true, ..Default::default() };
    write(&writer(&table, &config), &[(0..40).collect()]);
    // of each text the last token is not read
    assert_eq!(table.read.load(Ordering::Relaxed), 40 + 5 * 2);
}

#[test]
fn a_text_goes_on_from_its_own_beginning_as_if_it_had_not_been_cut() {
    let table = Table::new(257, 4);
    let config = |max_tokens| GenerationConfig { max_tokens, seed: 1, ..Default::default() };
    let whole = tokens(write(&writer(&table, &config(20)), &[vec![256, 1]])).remove(0);
    let prompt = [&[256, 1], &whole[..8]].concat();
    assert_eq!(tokens(write(&writer(&table, &config(12)), &[prompt])).remove(0), whole[8..]);
}

#[test]
fn texts_end_for_the_reason_they_give() {
    let config = GenerationConfig { max_tokens: 20, temperature: 0., ..Default::default() };
    let one = |table: &Table, config: &GenerationConfig| {
        let text = write(&writer(table, config), &[vec![256]]).remove(0);
        (text.text, text.tokens.len(), text.finish)
    };
    let table = Table::script(1, "Hello. Bye.".as_bytes());
    assert_eq!(one(&table, &config), ("Hello. Bye.".into(), 12, Finish::Stop));
    let stop = vec![". B".to_owned()];
    let stopped = GenerationConfig { stop, ..config.clone() };
    assert_eq!(one(&table, &stopped), ("Hello".into(), 8, Finish::Stop));
    let short = GenerationConfig { max_tokens: 4, ..config.clone() };
    assert_eq!(one(&table, &short), ("Hell".into(), 4, Finish::Length));
    let on = GenerationConfig { ignore_eos: true, ..config.clone() };
    assert_eq!(one(&table, &on), ("Hello. Bye.".into(), 20, Finish::Length));
    let mut narrow = Table::script(1, "Hello. Bye.".as_bytes());
    narrow.context = 6;
    assert_eq!(one(&narrow, &config), ("Hello".into(), 5, Finish::Context));
    // both at once: it has what was asked for
    narrow.context = 5;
    assert_eq!(one(&narrow, &short), ("Hell".into(), 4, Finish::Length));
    // a stop string that began and did not come, and half a character, are shown at the end
    let half = Table::script(1, b"ab\xe2\x82");
    let stop = vec!["bc".to_owned()];
    let begun = GenerationConfig { stop, ..config };
    assert_eq!(one(&half, &begun), ("ab\u{fffd}".into(), 5, Finish::Stop));
}

#[test]
fn pieces_are_whole_characters_and_make_up_the_text() {
    let table = Table::script(1, "a\u{20ac}b stop".as_bytes());
    let stop = vec!["stop".to_owned()];
    let config = GenerationConfig { temperature: 0., stop, ..Default::default() };
    let mut pieces = Vec::new();
    let writer = writer(&table, &config);
    let listener = &mut |event: &Event<'_>| {
        pieces.push(event.text.to_owned());
        ControlFlow::Continue(())
    };
    let written = writer.write(&mut writer.memory(1), &[vec![256]], listener).unwrap();
    assert_eq!(pieces, ["a", "", "", "\u{20ac}", "b", " ", "", "", "", ""]);
    assert_eq!(written.texts[0].text, pieces.concat());
}

#[test]
fn a_listener_ends_all_texts_where_they_are() {
    let table = Table::new(257, 1);
    let config = GenerationConfig { count: 2, ..Default::default() };
    let writer = writer(&table, &config);
    let mut heard = 0;
    let listener = &mut |_: &Event<'_>| {
        heard += 1;
        if heard == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let texts = writer.write(&mut writer.memory(1), &[vec![256]], listener).unwrap().texts;
    assert_eq!(texts.iter().map(|it| it.tokens.len()).collect::<Vec<_>>(), [3, 2]);
    assert!(texts.iter().all(|it| it.finish == Finish::Interrupted));
}

#[test]
fn what_does_not_fit_or_is_no_number_is_refused_in_one_line() {
    let refusal = |table: &Table, prompts: &[Vec<u32>]| {
        let config = GenerationConfig::default();
        let writer = writer(table, &config);
        let listener = &mut |_: &Event<'_>| ControlFlow::Continue(());
        let written = writer.write(&mut writer.memory(prompts.len()), prompts, listener);
        format!("{:#}", written.unwrap_err())
    };
    let table = Table::new(257, 1);
    assert_eq!(
        refusal(&table, &[vec![0; 64]]),
        "prompt is 64 tokens, but must be at most 63, one less than the model's context"
    );
    assert_eq!(refusal(&table, &[vec![]]), "prompt is 0 tokens, but must be at least one token");
    assert_eq!(refusal(&table, &[vec![300]]), "prompt is 300, but must be of tokens below 257");
    let broken = Table { broken_at: Some(5), ..Table::new(257, 1) };
    assert_eq!(refusal(&broken, &[vec![256]]), "position 5: the model gave NaN as a logit");
}

#[test]
fn tokens_that_the_tokenizer_lacks_are_never_written() {
    let table = Table { context: 600, ..Table::new(300, 9) };
    let config = GenerationConfig { max_tokens: 500, ignore_eos: true, ..Default::default() };
    let text = write(&writer(&table, &config), &[vec![256]]).remove(0);
    assert_eq!(text.tokens.len(), 500);
    assert!(text.tokens.iter().all(|&it| it < 257));
}

#[test]
fn log_probabilities_are_the_models_own() {
    let table = Table::new(257, 2);
    let config = GenerationConfig {
        max_tokens: 3,
        temperature: 0.5,
        repetition_penalty: 2.,
        logprobs: Some(4),
        ..Default::default()
    };
    let text = write(&writer(&table, &config), &[vec![256]]).remove(0);
    let mut row = vec![256];
    for found in &text.logprobs {
        let logits = table.logits(&row);
        let total = logits.iter().map(|&it| f64::from(it).exp()).sum::<f64>().ln();
        let wanted = f64::from(logits[found.token as usize]) - total;
        assert!((found.logprob - wanted).abs() < 1e-5, "{found:?} {wanted}");
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for (&(token, logprob), &logit) in found.likeliest.iter().zip(&sorted) {
            assert_eq!(logits[token as usize], logit);
            assert!((logprob - (f64::from(logit) - total)).abs() < 1e-5);
        }
        assert_eq!(found.likeliest.len(), 4);
        row.push(found.token);
    }
    assert_eq!(row[1..], text.tokens);
}

#[test]
fn an_explanation_says_what_the_token_was_drawn_from() {
    let table = Table::new(257, 2);
    let config = GenerationConfig { max_tokens: 3, top_k: 5, ..Default::default() };
    let writer = Writer { explain: true, ..writer(&table, &config) };
    let text = write(&writer, &[vec![256]]).remove(0);
    assert_eq!(text.explanations.len(), 3);
    for found in &text.explanations {
        assert_eq!((found.stages[0].name, found.stages[0].kept), ("top-k", 5));
        assert!(found.rank <= 5 && found.drawn_rank == Some(found.rank), "{found:?}");
        assert!(found.drawn_probability > found.probability);
        assert!(found.drawn_entropy < found.entropy);
    }
}

#[test]
fn every_setting_changes_what_is_written() {
    let table = Table { range: 4., ..Table::new(257, 8) };
    let plain = GenerationConfig { max_tokens: 60, ..Default::default() };
    let text = |config: &GenerationConfig| tokens(write(&writer(&table, config), &[vec![256, 1]]));
    let usual = text(&plain);
    let bias = |token| LogitBias { token, bias: 20. };
    let changed = [
        GenerationConfig { max_tokens: 10, ..plain.clone() },
        GenerationConfig { temperature: 0.5, ..plain.clone() },
        GenerationConfig { top_k: 20, ..plain.clone() },
        GenerationConfig { top_p: 0.5, ..plain.clone() },
        GenerationConfig { min_p: 0.2, ..plain.clone() },
        GenerationConfig { repetition_penalty: 3., ..plain.clone() },
        GenerationConfig { presence_penalty: 5., ..plain.clone() },
        GenerationConfig { frequency_penalty: 5., ..plain.clone() },
        GenerationConfig { logit_bias: vec![bias(65)], ..plain.clone() },
        GenerationConfig {
            stop: vec![char::from(usual[0][3] as u8 & 127).into()],
            ..plain.clone()
        },
        GenerationConfig { seed: 1, ..plain.clone() },
        GenerationConfig { count: 2, ..plain.clone() },
    ];
    for config in changed {
        assert_ne!(text(&config), usual, "{config:?}");
    }
}

#[test]
fn a_memory_saves_reading_and_changes_nothing() {
    let (table, draft) = (Table::new(257, 5), Table::new(257, 6));
    let config = GenerationConfig { max_tokens: 8, seed: 3, ..Default::default() };
    for with_draft in [false, true] {
        let plain = writer(&table, &config);
        let writer = if with_draft { drafted(&plain, &draft, 3) } else { plain };
        let mut memory = writer.memory(1);
        let listener = &mut |_: &Event<'_>| ControlFlow::Continue(());
        let mut prompt = vec![256, 1, 2, 3];
        for _ in 0..4 {
            let read = table.read.load(Ordering::Relaxed);
            let found = writer.write(&mut memory, &[prompt.clone()], listener).unwrap();
            assert_eq!(found.texts, write(&writer, &[prompt.clone()]));
            if prompt.len() > 4 {
                assert!(found.prefill.tokens <= 3, "the last token, and two new ones");
            }
            assert!(table.read.load(Ordering::Relaxed) > read);
            prompt.extend(&found.texts[0].tokens);
            prompt.extend([9, 10]);
        }
    }
}
