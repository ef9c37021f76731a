//! What a decoder writes while it learns: a text file at each save.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use core_layers::{checkpoint::write_atomic, random, run::RunFolder};
use tch::{Kind, Tensor};

use crate::{config::Run, data::Dataset, model::Decoder, text::Tokenizer};

/// Tokens of a text.
const TOKENS: usize = 160;
/// Unlikely tokens are made less likely.
const TEMPERATURE: f64 = 0.8;

/// The run's `num_samples` texts, in `samples/`.
pub(super) fn write(
    run: &Run,
    decoder: &Decoder,
    dataset: &Dataset,
    folder: &RunFolder,
    step: u64,
) -> Result<()> {
    let rows = run.train.num_samples;
    if rows == 0 {
        return Ok(());
    }
    let mut text = String::new();
    for tokens in draw(decoder, &dataset.tokenizer, rows, run.train.seed) {
        writeln!(text, "{}\n", dataset.tokenizer.decode(&tokens).trim_end())?;
    }
    let samples = folder.file("samples");
    std::fs::create_dir_all(&samples).with_context(|| samples.display().to_string())?;
    let path = samples.join(format!("step-{step:06}.txt"));
    write_atomic(&path, text.as_bytes()).with_context(|| path.display().to_string())
}

/// Texts from their start, side by side, each until its end: the slow loop that mirrors the factorisation. Beyond the
/// context, only the last tokens are read.
fn draw(decoder: &Decoder, tokenizer: &Tokenizer, rows: usize, seed: u64) -> Vec<Vec<u32>> {
    let config = decoder.config();
    let mut texts = vec![vec![config.start]; rows];
    for position in 0..TOKENS {
        let first = texts[0].len().saturating_sub(config.context as usize);
        let read: Vec<i64> =
            texts.iter().flat_map(|text| text[first..].iter().map(|&it| i64::from(it))).collect();
        let read = Tensor::from_slice(&read).view([rows as i64, -1]);
        let logits = tch::no_grad(|| {
            let hidden = decoder.hidden(&read, false).select(1, -1); // [rows, D]
            decoder.logits(&hidden).to_kind(Kind::Double)
        });
        let probs = (logits / TEMPERATURE).softmax(-1, None); // [rows, V]
        let below = probs.narrow(-1, 0, tokenizer.vocabulary() as i64).cumsum(-1, None);
        for (row, text) in texts.iter_mut().enumerate() {
            let below: Vec<f64> = Vec::try_from(below.get(row as i64).contiguous())
                .expect("a flat tensor of f64 is a vector");
            let total = below.last().copied().unwrap_or(0.);
            let u = random::uniform_at(seed, "prose", row as u64, position as u64) * total;
            let token = below.partition_point(|&it| it <= u).min(below.len() - 1);
            text.push(token as u32);
        }
    }
    let end = tokenizer.end_of_text();
    let until_end = |text: Vec<u32>| text.into_iter().skip(1).take_while(|&it| it != end).collect();
    texts.into_iter().map(until_end).collect()
}

#[cfg(test)]
mod tests {
    use tch::{Device, nn};

    use super::*;
    use crate::train::tests::tiny;

    #[test]
    fn a_text_depends_on_seed_and_row_and_not_on_those_beside_it() -> Result<()> {
        tch::manual_seed(0);
        let config = crate::config::DecoderConfig { vocabulary: 257, start: 256, ..tiny() };
        let decoder = Decoder::new(&nn::VarStore::new(Device::Cpu).root(), &config)?;
        let texts = |rows, seed| draw(&decoder, &Tokenizer::Bytes, rows, seed);
        let two = texts(2, 5);
        assert_eq!(texts(1, 5)[..], two[..1]);
        assert_ne!(two[0], two[1]);
        assert_ne!(texts(1, 6)[0], two[0]);
        assert!(two.iter().all(|text| !text.contains(&256)), "the end is left out");
        Ok(())
    }
}
