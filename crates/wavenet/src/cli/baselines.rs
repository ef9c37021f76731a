//! What a network is held against: simple models, and FLAC, on the same clips at the same resolution.

use std::f64::consts::LN_2;

use anyhow::{Result, anyhow};
use flacenc::{bitsink::ByteSink, component::BitRepr as _, error::Verify as _, source::MemSource};
use tch::Tensor;

use crate::data::{Clip, Dataset};

/// Samples that a linear prediction weighs.
const ORDER: usize = 16;

/// Name and bits per sample of each, on `clips`; fitted to the training clips of `dataset`.
pub(super) fn all(dataset: &Dataset, clips: &[Clip]) -> Result<Vec<(String, f64)>> {
    let (flac, bytes) = flac(dataset, clips)?;
    Ok(vec![
        ("uniform".into(), f64::from(dataset.num_levels).log2()),
        ("order 0, counted on the training clips".into(), order_0(dataset, clips)),
        (
            format!("linear prediction of order {ORDER}, logistic residual"),
            linear_prediction(dataset, clips),
        ),
        (format!("FLAC, all clips in one stream ({bytes} bytes)"), flac),
    ])
}

/// Levels counted on the training clips, one added to each.
fn order_0(dataset: &Dataset, clips: &[Clip]) -> f64 {
    let mut counts = vec![1f64; dataset.num_levels as usize];
    for &level in dataset.train.iter().flat_map(|clip| &clip.levels) {
        counts[usize::from(level)] += 1.;
    }
    let total: f64 = counts.iter().sum();
    let levels = || clips.iter().flat_map(|clip| &clip.levels);
    let bits: f64 = levels().map(|&level| (total / counts[usize::from(level)]).log2()).sum();
    bits / levels().count() as f64
}

/// A sample as a weighted sum of the 16 before it, the weights those of least squares on the training clips; the residual
/// a discretised logistic whose scale follows the last residuals: `s_t = c (a + m_t)`, m a mean of |residual| that decays
/// by 0.95 a sample.
fn linear_prediction(dataset: &Dataset, clips: &[Clip]) -> f64 {
    let ws = weights(dataset);
    let cost = |clips: &[Clip], scale: f64| {
        let (mut bits, mut count) = (0., 0);
        for clip in clips {
            bits += clip_bits(&numbers(dataset, clip), &ws, scale, dataset.num_levels);
            count += clip.levels.len();
        }
        bits / count as f64
    };
    let scales = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.];
    let best = scales
        .into_iter()
        .min_by(|&a, &b| cost(&dataset.valid, a).total_cmp(&cost(&dataset.valid, b)));
    cost(clips, best.unwrap_or(0.5))
}

/// Levels around 0.
fn numbers(dataset: &Dataset, clip: &Clip) -> Vec<f64> {
    clip.levels.iter().map(|&level| f64::from(level) - f64::from(dataset.num_levels / 2)).collect()
}

fn weights(dataset: &Dataset) -> Vec<f64> {
    let mut products = vec![0.; ORDER * ORDER];
    let mut targets = vec![0.; ORDER];
    for clip in &dataset.train {
        for window in numbers(dataset, clip).windows(ORDER + 1) {
            for i in 0..ORDER {
                targets[i] += window[i] * window[ORDER];
                for j in 0..ORDER {
                    products[i * ORDER + j] += window[i] * window[j];
                }
            }
        }
    }
    for i in 0..ORDER {
        products[i * ORDER + i] += 1.; // solvable for silence too
    }
    let size = ORDER as i64;
    let products = Tensor::from_slice(&products).reshape([size, size]);
    let solved = Tensor::linalg_solve(&products, &Tensor::from_slice(&targets).unsqueeze(1), true);
    Vec::try_from(solved.view(-1)).unwrap_or_default()
}

fn log_sigmoid(x: f64) -> f64 {
    x.min(0.) - (-x.abs()).exp().ln_1p()
}

fn clip_bits(xs: &[f64], ws: &[f64], c: f64, levels: u32) -> f64 {
    let half = f64::from(levels / 2);
    let (mut mean, mut bits) = (2., 0.);
    for t in 0..xs.len() {
        let past = &xs[t.saturating_sub(ORDER)..t];
        let prediction: f64 = past.iter().rev().zip(ws.iter().rev()).map(|(x, w)| x * w).sum();
        let scale = c * (0.3 + mean);
        let (above, below) =
            ((xs[t] + 0.5 - prediction) / scale, (xs[t] - 0.5 - prediction) / scale);
        let log_prob = if xs[t] >= half - 1. {
            log_sigmoid(-below)
        } else if xs[t] <= -half {
            log_sigmoid(above)
        } else {
            log_sigmoid(above) + log_sigmoid(-below) + (-(below - above).exp_m1()).ln()
        };
        bits -= log_prob / LN_2;
        mean = 0.95 * mean + 0.05 * (xs[t] - prediction).abs();
    }
    bits
}

/// Bits per sample and bytes of a FLAC stream of the levels.
fn flac(dataset: &Dataset, clips: &[Clip]) -> Result<(f64, usize)> {
    let levels = clips.iter().flat_map(|clip| &clip.levels);
    let bits = (dataset.num_levels - 1).ilog2() as usize + 1;
    let samples: Vec<i32> = levels.map(|&level| i32::from(level) - (1 << (bits - 1))).collect();
    let config = flacenc::config::Encoder::default()
        .into_verified()
        .map_err(|error| anyhow!("FLAC: {error:?}"))?;
    let source = MemSource::from_samples(&samples, 1, bits.max(8), dataset.sample_rate as usize);
    let stream = flacenc::encode_with_fixed_block_size(&config, source, config.block_size)
        .map_err(|error| anyhow!("FLAC: {error:?}"))?;
    let mut sink = ByteSink::new();
    stream.write(&mut sink).map_err(|error| anyhow!("FLAC: {error:?}"))?;
    let bytes = sink.as_slice().len();
    Ok((8. * bytes as f64 / samples.len() as f64, bytes))
}
