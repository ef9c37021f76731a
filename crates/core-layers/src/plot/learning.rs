//! The curve of a run, from what it logged.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Chart, Scale, Series};

/// Draws fields of a run's `metrics.jsonl` over its steps; `series` holds a legend's word and a field for each curve.
///
/// # Errors
/// When the metrics cannot be read or the picture cannot be written. Lines without a field are passed over.
pub fn learning_curve(
    path: &Path,
    metrics: &Path,
    title: &str,
    y_label: &str,
    series: &[(&str, &str)],
) -> Result<()> {
    let text = fs::read_to_string(metrics).with_context(|| metrics.display().to_string())?;
    let lines: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let points = |field: &str| {
        lines
            .iter()
            .filter_map(|line| Some((line["step"].as_f64()?, line[field].as_f64()?)))
            .collect()
    };
    let series: Vec<Series> = series
        .iter()
        .map(|&(name, field)| Series { name: name.into(), points: points(field) })
        .collect();
    Chart { title, x_label: "step", y_label, y_scale: Scale::Linear }.draw(path, &series)
}
