//! `info`: what a model is and costs.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use core_layers::{ConfigError, cli::InfoArgs};
use serde_json::{Value, json};

use super::print_json;
use crate::{
    config::{self, DecoderConfig, PRESETS, RUNS, preset},
    formats::{self, Delivered},
};

/// Runs `info`.
pub(super) fn run(args: &InfoArgs) -> Result<()> {
    let json = match (&args.model, &args.preset) {
        (_, Some(name)) => of_preset(name)?,
        (Some(path), None) => {
            of_model(&formats::open(path, core_layers::checkpoint::Weights::Ema)?)?
        }
        (None, None) => bail!("give a model or --preset"),
    };
    if args.json {
        print_json(&json);
        return Ok(());
    }
    let is_long = |name: &str| ["config", "run"].contains(&name);
    for (name, value) in json.as_object().into_iter().flatten().filter(|(name, _)| !is_long(name)) {
        println!("{name:<30} {}", shown(name, value));
    }
    println!("{}", serde_json::to_string_pretty(&json["config"])?);
    if let Some(run) = json.get("run") {
        println!("run {}", serde_json::to_string_pretty(run)?);
    }
    Ok(())
}

/// A preset of a model, or the model of a preset of a run.
fn of_preset(name: &str) -> Result<Value> {
    let run = config::run(name);
    let model = run.as_ref().map(|run| run.model.clone()).or_else(|| preset(name));
    let model = model.ok_or_else(|| {
        let mut names: Vec<&str> = PRESETS.iter().chain(&RUNS).copied().collect();
        names.sort_unstable();
        names.dedup();
        ConfigError::one_of("--preset", name, &names)
    })?;
    let mut json = described(name, &model)?;
    if let Some(run) = run {
        json["run"] = json!({"data": run.data, "train": run.train});
    }
    Ok(json)
}

/// What the configuration alone says.
fn described(name: &str, config: &DecoderConfig) -> Result<Value> {
    let mut json = serde_json::to_value(config.describe())?;
    json["model"] = json!("gpt");
    json["name"] = json!(name);
    json["config"] = serde_json::to_value(config)?;
    Ok(json)
}

/// The same of a model at hand, and how it is stored.
fn of_model(delivered: &Delivered) -> Result<Value> {
    let Delivered { name, config, weights, tokenizer, stops, starts, chat_template } = delivered;
    let mut json = described(name, config)?;
    let mut encodings: BTreeMap<&str, usize> = BTreeMap::new();
    for weight in weights.0.values() {
        *encodings.entry(weight.encoding().name()).or_default() += weight.bytes().len();
    }
    for (field, value) in [
        ("stored_bytes", json!(weights.bytes())),
        ("stored_bytes_by_encoding", json!(encodings)),
        ("tokenizer_vocabulary", json!(tokenizer.vocabulary())),
        ("stop_tokens", json!(stops)),
        ("starts_with_start_token", json!(starts)),
        ("has_chat_template", json!(chat_template.is_some())),
    ] {
        json[field] = value;
    }
    Ok(json)
}

/// A value for people: counts grouped by thousands, bytes in the unit that fits.
fn shown(name: &str, value: &Value) -> String {
    if let Some(map) = value.as_object() {
        let part = |(kind, value): (&String, &Value)| format!("{kind} {}", shown(name, value));
        return map.iter().map(part).collect::<Vec<_>>().join(", ");
    }
    match (value, value.as_f64()) {
        (Value::String(text), _) => text.clone(),
        (_, Some(count)) if name.contains("bytes") => {
            let unit = ["B", "kB", "MB", "GB", "TB"];
            let power = ((count.max(1.).log10() / 3.) as usize).min(unit.len() - 1);
            format!(
                "{:.*} {}",
                usize::from(power > 0) * 2,
                count / 1000f64.powi(power as i32),
                unit[power]
            )
        }
        (_, Some(count)) if name.contains("flops") => format!("{count:.4e}"),
        (_, Some(count)) if count.abs() < 1e15 => grouped(count as i64),
        _ => value.to_string(),
    }
}

fn grouped(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if count < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_too_large_to_build_is_described() -> Result<()> {
        let json = of_preset("llama-65b")?;
        assert_eq!(json["parameters"], 65_285_660_672i64);
        assert_eq!(json["model"], "gpt");
        assert_eq!(json["config"]["layers"], 80);
        Ok(())
    }

    #[test]
    fn every_preset_is_described_and_another_name_refused() -> Result<()> {
        for name in PRESETS.iter().chain(&RUNS) {
            let json = of_preset(name)?;
            assert_eq!(json.get("run").is_some(), RUNS.contains(name), "{name}");
        }
        let refusal = of_preset("gpt5").unwrap_err().to_string();
        assert!(refusal.starts_with("--preset is gpt5, but must be one of"), "{refusal}");
        Ok(())
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(shown("parameters", &json!(124_439_808)), "124,439,808");
        assert_eq!(shown("parameters", &json!(12)), "12");
        assert_eq!(shown("weight_bytes", &json!({"f32": 497_759_232})), "f32 497.76 MB");
        assert_eq!(shown("weight_bytes", &json!(12)), "12 B");
        assert_eq!(shown("forward_flops_per_token", &json!(2.5e8)), "2.5000e8");
        assert_eq!(shown("name", &json!("x")), "x");
        assert_eq!(shown("has_chat_template", &json!(true)), "true");
    }
}
