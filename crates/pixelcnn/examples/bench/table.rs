//! Measurements side by side, with the ratios that matter.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What was measured: bench, model, batch, threads, engine.
type Key = (String, String, u64, u64, String);

/// What rates count.
const UNITS: [&str; 3] = ["images", "samples", "tokens"];

/// Prints the medians over the lines of `path` that measured the same, as a Markdown table; each engine beside the best
/// of those that it is held against.
pub(crate) fn print(path: &Path) -> Result<()> {
    let mut rates: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    for (number, line) in fs::read_to_string(path)?.lines().enumerate() {
        let at = || format!("{}: line {}", path.display(), number + 1);
        let line: Value = serde_json::from_str(line).with_context(at)?;
        for (key, rate) in read(&line).with_context(at)? {
            rates.entry(key).or_default().push(rate);
        }
    }
    let rates: BTreeMap<Key, f64> = rates.into_iter().map(|(key, xs)| (key, median(xs))).collect();
    println!(
        "| bench | model | batch | threads | engine | images, samples or tokens/s | ratios |\n|---|---|--:|--:|---|--:|---|"
    );
    for (key, rate) in &rates {
        let (bench, model, batch, threads, engine) = key;
        let decimals = if *rate < 10. { 4 } else { 1 };
        let ratios: Vec<String> = yardsticks(key, &rates)
            .into_iter()
            .map(|(best, name)| {
                format!("{:.*}x {name}", if rate / best < 10. { 2 } else { 0 }, rate / best)
            })
            .collect();
        let ratios = ratios.join(", ");
        println!(
            "| {bench} | {model} | {batch} | {threads} | {engine} | {rate:.decimals$} | {ratios} |"
        );
    }
    Ok(())
}

/// What a line says: one rate of ours, or one or several of the yardstick's.
fn read(line: &Value) -> Result<Vec<(Key, f64)>> {
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let count = |name: &str| line[name].as_u64().with_context(|| format!("no {name}"));
    let (batch, threads) = (count("batch")?, count("threads")?);
    if let Some(bench) = text("bench") {
        let engine = format!(
            "{} {}",
            text("engine").context("no engine")?,
            text("precision").context("no precision")?
        );
        let rate = UNITS.iter().find_map(|it| line[format!("{it}_per_second")].as_f64());
        let rate = rate.context("no images, samples or tokens per_second")?;
        return Ok(vec![(
            (bench, text("model").context("no model")?, batch, threads, engine),
            rate,
        )]);
    }
    let bench = text("mode").context("neither bench nor mode")?;
    let model = text("model").unwrap_or_else(|| "gated-mnist".to_owned());
    let key = |variant: &str| {
        (bench.clone(), model.clone(), batch, threads, format!("pytorch {variant}"))
    };
    let rates = UNITS.iter().find_map(|it| line[format!("{it}_per_s")].as_object());
    let rates = rates.context("no images, samples or tokens per_s")?;
    let rate =
        |(variant, rate): (&String, &Value)| Ok((key(variant), rate.as_f64().context("a rate")?));
    rates.iter().map(rate).collect()
}

fn median(mut xs: Vec<f64>) -> f64 {
    xs.sort_by(f64::total_cmp);
    f64::midpoint(xs[(xs.len() - 1) / 2], xs[xs.len() / 2])
}

/// What `key` is held against, with its name: PyTorch's best, of any precision and of the same, where it was measured;
/// else our plain sampler.
fn yardsticks<'a>(key: &Key, rates: &'a BTreeMap<Key, f64>) -> Vec<(f64, &'a str)> {
    let (bench, model, batch, threads, engine) = key;
    if engine.starts_with("pytorch") || engine.starts_with("plain") {
        return Vec::new();
    }
    let is_same = |(b, m, n, t, _): &Key| (b, m, n, t) == (bench, model, batch, threads);
    let best = |name: &str| {
        let others = rates.iter().filter(|(other, _)| is_same(other) && other.4.starts_with(name));
        others.max_by(|a, b| a.1.total_cmp(b.1)).map(|((.., name), &rate)| (rate, name.as_str()))
    };
    let Some(overall) = best("pytorch").or_else(|| best("plain")) else { return Vec::new() };
    let alike = if engine.ends_with(" f32") { best("pytorch fp32") } else { None };
    let mut all = vec![overall];
    all.extend(alike.filter(|alike| *alike != overall));
    all
}
