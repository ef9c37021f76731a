//! Sound at another rate.

use anyhow::{Result, anyhow, ensure};
use rubato::{FftFixedInOut, Resampler};

/// Most samples of a result.
const MAX_SAMPLES: u64 = 1 << 30;
/// Shortest filter, in samples of the lower rate: wide enough for a transition band of a few per cent.
const MIN_FILTER: usize = 512;

/// Samples at `from` Hz as samples at `to` Hz: `ceil(n to / from)` of them, sample n standing at `n / to` seconds.
///
/// The spectrum is cut off a little below half the lower rate (a sinc under a squared Blackman-Harris window, by Fourier
/// transforms); before and after the sound is silence.
pub(super) fn resample(samples: Vec<f32>, from: u32, to: u32) -> Result<Vec<f32>> {
    if from == to {
        return Ok(samples);
    }
    let wanted = (samples.len() as u64 * u64::from(to)).div_ceil(u64::from(from));
    ensure!(wanted <= MAX_SAMPLES, "it would have {wanted} samples at {to} Hz, too many");
    let wanted = wanted as usize;
    // even numbers of blocks on both sides: the filter's delay, half a chunk, is a whole number of samples
    let block = from / gcd(from, to);
    let lower = from.min(to) / gcd(from, to);
    let blocks = 2 * MIN_FILTER.div_ceil(2 * lower as usize);
    let mut resampler =
        FftFixedInOut::<f32>::new(from as usize, to as usize, blocks * block as usize, 1)
            .map_err(|error| anyhow!("resampling: {error}"))?;
    let chunk = resampler.input_frames_next();
    let delay = resampler.output_delay();
    let mut input = resampler.input_buffer_allocate(true);
    let mut output = resampler.output_buffer_allocate(true);
    let mut result = Vec::with_capacity(delay + wanted + output[0].len());
    for start in (0..).step_by(chunk) {
        if result.len() >= delay + wanted {
            break;
        }
        let part = samples.get(start..).unwrap_or_default();
        let part = &part[..part.len().min(chunk)];
        input[0].fill(0.0);
        input[0][..part.len()].copy_from_slice(part);
        resampler
            .process_into_buffer(&input, &mut output, None)
            .map_err(|error| anyhow!("resampling: {error}"))?;
        result.extend_from_slice(&output[0]);
    }
    result.drain(..delay);
    result.truncate(wanted);
    Ok(result)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn sine(hz: f64, rate: u32, seconds: f64) -> Vec<f32> {
        let count = (seconds * f64::from(rate)) as usize;
        (0..count).map(|n| (0.5 * (TAU * hz * n as f64 / f64::from(rate)).sin()) as f32).collect()
    }

    #[test]
    fn a_tone_keeps_its_height_phase_and_loudness() -> Result<()> {
        for (from, to) in
            [(44_100, 8000), (8000, 16_000), (96_000, 8000), (11_025, 8000), (48_000, 44_100)]
        {
            let (long, wanted) = (sine(440.0, from, 0.7), sine(440.0, to, 0.7));
            let got = resample(long, from, to)?;
            assert!(got.len().abs_diff(wanted.len()) <= 1, "{from} to {to}: {}", got.len());
            let edge = to as usize / 10; // the tone begins and ends with a step
            let inner = edge..wanted.len() - edge;
            let worst = inner.map(|n| (got[n] - wanted[n]).abs()).fold(0f32, f32::max);
            assert!(worst < 1e-4, "{from} to {to}: {worst}");
        }
        Ok(())
    }

    #[test]
    fn an_impulse_stays_where_it_was() -> Result<()> {
        for (from, to) in [(16_000, 8000), (48_000, 8000), (8000, 24_000), (22_050, 16_000)] {
            let mut clip = vec![0f32; from as usize];
            let at = from as usize / 2;
            clip[at] = 1.0;
            let got = resample(clip, from, to)?;
            let loudest = (0..got.len()).max_by(|&a, &b| got[a].total_cmp(&got[b]));
            assert_eq!(loudest, Some(to as usize / 2), "{from} to {to}");
        }
        Ok(())
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() -> Result<()> {
        let got = resample(sine(5000.0, 48_000, 0.5), 48_000, 8000)?;
        let loudest = got[800..got.len() - 800].iter().fold(0f32, |a, x| a.max(x.abs()));
        assert!(loudest < 1e-4, "{loudest}");
        Ok(())
    }

    #[test]
    fn short_odd_and_huge_ones_are_no_trouble() -> Result<()> {
        assert_eq!(resample(vec![0.5], 44_100, 8000)?.len(), 1);
        assert_eq!(resample(vec![0.5; 7], 44_101, 8000)?.len(), 2);
        assert_eq!(resample(vec![], 16_000, 8000)?.len(), 0);
        assert_eq!(resample(vec![0.25; 3], 8000, 8000)?, [0.25; 3]);
        let message = resample(vec![0.0; 10_000_000], 1000, 192_000).unwrap_err().to_string();
        assert_eq!(message, "it would have 1920000000 samples at 192000 Hz, too many");
        Ok(())
    }
}
