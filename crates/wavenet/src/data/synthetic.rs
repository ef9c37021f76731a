//! Sound made on the fly whose entropy is known: what a model must approach on fresh clips and must not fall below.
//! Letters: T samples of a clip, L levels, p a period, n noise on a level.

use core_layers::dataset::{FileDigest, Split, data_hash};
use core_layers::{ConfigError, random};

use super::{Clip, Condition, DataConfig, Dataset, Quantizer};

/// Clips of the three splits, and samples of each.
const COUNTS: [usize; 3] = [400, 40, 40];
const NUM_SAMPLES: usize = 8000;
/// The seed of all clips: no run's seed reaches it.
const FIXED_SEED: u64 = 0x0da7_a5e7;
/// Each split has a stream of its own.
const PURPOSES: [&str; 3] = ["data.sound.train", "data.sound.valid", "data.sound.test"];

/// Periods of a harmonic sound, samples: 100 to 200 Hz at 8 kHz.
const PERIODS: std::ops::Range<usize> = 40..80;
/// Loudness of the harmonics 1, 2, 3 of the fundamental.
const HARMONICS: [f64; 3] = [0.4, 0.2, 0.1];
/// p(n) * 16 for n = -2..=2: how many of four coins show heads, less two.
const NOISE: [u32; 5] = [1, 4, 6, 4, 1];
/// Fewest levels of a harmonic sound: with these the noise stays within the alphabet.
const MIN_LEVELS: u32 = 64;

/// The clips that a configuration names.
///
/// `noise`: every level uniform and on its own; its entropy is `ln L` a sample.
///
/// `harmonic`: `level(t) = quantised(s(t)) + n(t)`, `s(t) = sum_h a_h sin(2 pi h (t + shift) / p)` with a period p of 40..80
/// samples and a shift of 0..p, both uniform and drawn once a clip, and n of -2..=2 with probabilities 1, 4, 6, 4, 1 of 16,
/// drawn for each sample. Given p and the shift, a clip has the entropy of its noise, 1.4076 nats a sample; to find them out
/// costs `ln 40 + mean ln p`, 7.8 nats a clip or 0.0010 a sample, which is counted in. What is neglected is how much a whole
/// clip leaves open of them, less than `1e-9` nats.
pub(super) fn read(config: &DataConfig) -> Result<Dataset, ConfigError> {
    let name = config.data.as_str();
    let given = format!("{:?}", config.condition).to_lowercase();
    let rule = format!("none for {name}");
    ConfigError::ensure(config.condition == Condition::None, "data.condition", given, &rule)?;
    let speakers = config.speakers.as_str();
    ConfigError::ensure(
        speakers.is_empty(),
        "data.speakers",
        speakers,
        &format!("empty for {name}"),
    )?;
    let quantizer = config.quantizer();
    let num_levels = quantizer.num_levels();
    let harmonic = name == "harmonic";
    if harmonic {
        let rule = format!("0 or at least {MIN_LEVELS} for harmonic");
        ConfigError::ensure(num_levels >= MIN_LEVELS, "data.levels", num_levels, &rule)?;
    }
    let draw = |purpose: &str, index: usize| {
        if harmonic {
            harmonic_clip(quantizer, purpose, index)
        } else {
            noise_clip(num_levels, purpose, index)
        }
    };
    let mut bytes = Vec::new();
    let mut splits =
        COUNTS.iter().zip(PURPOSES).zip(Split::ALL).map(|((&count, purpose), split)| {
            let count = if config.limit > 0 { count.min(config.limit) } else { count };
            let clip = |index| Clip {
                name: format!("{name}-{}-{index}", split.name()),
                speaker: 0,
                levels: draw(purpose, index),
                features: None,
                text: None,
            };
            let clips: Vec<Clip> = (0..count).map(clip).collect();
            bytes.extend(clips.iter().flat_map(|clip| &clip.levels).flat_map(|x| x.to_le_bytes()));
            clips
        });
    let mut next = || splits.next().unwrap_or_default();
    let (train, valid, test) = (next(), next(), next());
    drop(splits);
    let what = if harmonic {
        "harmonics of a random period and shift, noise on the levels"
    } else {
        "uniform levels"
    };
    let protocol = format!("{name}: {what}; clips of {NUM_SAMPLES} samples; {}", quantizer.words());
    let files = vec![FileDigest::new("drawn", &bytes)];
    Ok(Dataset {
        name: name.to_owned(),
        hash: data_hash(files, "synthetic/1", &protocol),
        protocol,
        encoding: quantizer.encoding(),
        num_levels,
        sample_rate: if config.sample_rate == 0 { 8000 } else { config.sample_rate },
        speakers: vec![name.to_owned()],
        hop: 0,
        num_features: 0,
        report: vec![format!("{} clips drawn", train.len() + valid.len() + test.len())],
        train,
        valid,
        test,
        entropy_nats: Some(if harmonic { harmonic_entropy() } else { f64::from(num_levels).ln() }),
    })
}

fn noise_clip(num_levels: u32, purpose: &str, index: usize) -> Vec<u16> {
    let mut rng = random::generator(FIXED_SEED, purpose, index as u64);
    let mut level = || (random::uniform(&mut rng) * f64::from(num_levels)) as u16;
    (0..NUM_SAMPLES).map(|_| level()).collect()
}

fn harmonic_clip(quantizer: Quantizer, purpose: &str, index: usize) -> Vec<u16> {
    let mut rng = random::generator(FIXED_SEED, purpose, index as u64);
    let mut below = |bound: usize| (random::uniform(&mut rng) * bound as f64) as usize;
    let period = PERIODS.start + below(PERIODS.len());
    let shift = below(period);
    (0..NUM_SAMPLES)
        .map(|t| {
            let level = i32::from(quantizer.encode(harmonic_sample(t + shift, period)));
            (level + noise(below(16) as u32)) as u16
        })
        .collect()
}

fn harmonic_sample(t: usize, period: usize) -> f32 {
    let turn = std::f64::consts::TAU * (t % period) as f64 / period as f64;
    let parts = HARMONICS.iter().zip(1..).map(|(a, h)| a * (f64::from(h) * turn).sin());
    parts.sum::<f64>() as f32
}

/// The n whose share of 0..16 holds `u`.
fn noise(mut u: u32) -> i32 {
    for (n, share) in (-2..).zip(NOISE) {
        if u < share {
            return n;
        }
        u -= share;
    }
    2
}

/// Entropy of the noise, and of period and shift spread over a clip; nats per sample.
fn harmonic_entropy() -> f64 {
    let nats = |share: u32| {
        let p = f64::from(share) / 16.0;
        -p * p.ln()
    };
    let noise: f64 = NOISE.iter().map(|&share| nats(share)).sum();
    let shifts: f64 =
        PERIODS.map(|period| (period as f64).ln()).sum::<f64>() / PERIODS.len() as f64;
    noise + ((PERIODS.len() as f64).ln() + shifts) / NUM_SAMPLES as f64
}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, load};
    use super::*;

    fn config(data: &str) -> DataConfig {
        DataConfig { data: data.into(), limit: 40, ..DataConfig::default() }
    }

    #[test]
    fn noise_is_uniform() -> anyhow::Result<()> {
        let data = load(&config("noise"))?;
        assert_eq!(data.entropy_nats, Some(256f64.ln()));
        let mut counts = [0f64; 256];
        for &level in data.train.iter().flat_map(|clip| &clip.levels) {
            counts[usize::from(level)] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / 256.0;
        let chi = counts.iter().map(|count| (count - mean).powi(2) / mean).sum::<f64>();
        assert!((chi - 255.0).abs() < 5.0 * 510f64.sqrt(), "{chi}");
        Ok(())
    }

    /// What is left of a clip when the right period and shift are known must be the noise, and for no other pair.
    #[test]
    fn a_harmonic_clip_is_its_tone_and_noise_of_the_stated_entropy() -> anyhow::Result<()> {
        for encoding in [Encoding::MuLaw, Encoding::Linear] {
            let data = load(&DataConfig { encoding, limit: 3, ..config("harmonic") })?;
            let quantizer = DataConfig { encoding, ..config("harmonic") }.quantizer();
            let residuals = |clip: &Clip, period: usize, shift: usize| {
                let tone = move |t| i32::from(quantizer.encode(harmonic_sample(t + shift, period)));
                let levels = clip.levels.iter().take(400).enumerate();
                levels.map(|(t, &level)| i32::from(level) - tone(t)).collect::<Vec<_>>()
            };
            for clip in &data.test {
                let pairs =
                    PERIODS.flat_map(|period| (0..period).map(move |shift| (period, shift)));
                let fits = pairs.filter(|&(period, shift)| {
                    residuals(clip, period, shift).iter().all(|n| n.abs() <= 2)
                });
                let fits: Vec<_> = fits.collect();
                assert_eq!(fits.len(), 1, "{fits:?}");
            }
        }
        let nats = load(&config("harmonic"))?.entropy_nats.unwrap();
        assert!((nats - (1.4076 + 7.76 / 8000.0)).abs() < 1e-4, "{nats}");
        Ok(())
    }

    /// `-ln p(clip)` of the source itself, over all periods and shifts.
    fn nats(quantizer: Quantizer, clip: &[u16]) -> f64 {
        let mut p = 0.0;
        let mut least = f64::INFINITY; // of the noise: every pair that fits has the same scale
        for period in PERIODS {
            let tone = |t: usize| i32::from(quantizer.encode(harmonic_sample(t, period)));
            let tone: Vec<i32> = (0..period).map(tone).collect();
            for shift in 0..period {
                let noise = clip.iter().enumerate().map(|(t, &level)| {
                    let share = i32::from(level) - tone[(t + shift) % period] + 2;
                    let share = usize::try_from(share).ok().and_then(|n| NOISE.get(n))?;
                    Some(-(f64::from(*share) / 16.0).ln())
                });
                let Some(nats) = noise.sum::<Option<f64>>() else { continue };
                if least.is_infinite() {
                    least = nats;
                }
                p += (least - nats).exp() / (PERIODS.len() * period) as f64;
            }
        }
        least - p.ln()
    }

    #[test]
    fn fresh_clips_cost_the_source_its_entropy() -> anyhow::Result<()> {
        let data = load(&config("harmonic"))?;
        let mut tally = core_layers::likelihood::Tally::default();
        tally.add(data.test.iter().map(|clip| nats(config("harmonic").quantizer(), &clip.levels)));
        let found = tally.likelihood(NUM_SAMPLES);
        let (per_clip, se) = (harmonic_entropy() * NUM_SAMPLES as f64, found.nats_se.unwrap());
        assert!((found.nats - per_clip).abs() < 4.0 * se, "{found:?}, not {per_clip}");
        assert!(se < 20.0, "{se}");
        Ok(())
    }

    #[test]
    fn noise_has_its_probabilities() {
        let counts = (-2..=2).map(|n| (0..16).filter(|&u| noise(u) == n).count() as u32);
        assert!(counts.eq(NOISE));
    }

    #[test]
    fn clips_are_the_same_in_every_run_and_differ_from_each_other() -> anyhow::Result<()> {
        let (once, again) = (load(&config("harmonic"))?, load(&config("harmonic"))?);
        assert_eq!(once.train, again.train);
        assert_eq!(once.hash, again.hash);
        assert_ne!(once.train[0].levels, once.test[0].levels);
        let refusal = load(&DataConfig { condition: Condition::Mel, ..config("noise") });
        assert_eq!(
            refusal.unwrap_err().to_string(),
            "data.condition is mel, but must be none for noise"
        );
        let few = load(&DataConfig { levels: 16, ..config("harmonic") }).unwrap_err().to_string();
        assert_eq!(few, "data.levels is 16, but must be 0 or at least 64 for harmonic");
        Ok(())
    }
}
