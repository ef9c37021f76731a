//! Curves of several runs in one picture, from JSON lines that have a step.
//!
//! `cargo run --release -p core-layers --example curves -- OUT.png TITLE Y_LABEL NAME=FILE:FIELD...`

use anyhow::{Context as _, Result};
use core_layers::plot::{Chart, Scale, Series};
use serde_json::Value;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [out, title, y_label, curves @ ..] = &args[..] else {
        anyhow::bail!("usage: curves OUT.png TITLE Y_LABEL NAME=FILE:FIELD...");
    };
    let mut series = Vec::new();
    for curve in curves {
        let (name, rest) = curve.split_once('=').context("a curve is NAME=FILE:FIELD")?;
        let (file, field) = rest.rsplit_once(':').context("a curve is NAME=FILE:FIELD")?;
        let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let points = lines.filter_map(|line| Some((line["step"].as_f64()?, line[field].as_f64()?)));
        series.push(Series { name: name.to_owned(), points: points.collect() });
    }
    let chart = Chart { title, x_label: "step", y_label, y_scale: Scale::Linear };
    chart.draw(out.as_ref(), &series)
}
