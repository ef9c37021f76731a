//! Log-mel spectrograms: how loud a sound is, by pitch as the ear orders it, frame by frame.

use std::f64::consts::TAU;

use ndarray::Array2;
use realfft::RealFftPlanner;

use super::condition::num_frames;

/// Decades between what counts as nothing and a sine of full scale.
const DECADES: f64 = 8.0;

/// The log-mel spectrogram `[F, bands]` of samples, about 0 (silence) to 1 (a sine of full scale).
///
/// Frame f describes samples `f * hop .. (f + 1) * hop`: the middle of its window, `4 * hop` samples under
/// `w(n) = 1/2 - 1/2 cos(2 pi (n + 1/2) / (4 hop))` (Hann), is the middle of the frame; beyond the clip is silence. So a
/// frame knows `1.5 hop` samples past its end: a vocoder is given a whole recording, not its past.
///
/// With `P(k) = |X(k)|^2 / (sum w / 2)^2`, X zero-padded until bins are at most 8 Hz apart, a sine of amplitude 1 has a peak
/// of 1. Band b is the mean of P under a triangle from edge b to edge b + 2, its top at edge b + 1, the `bands + 2` edges
/// being equally far apart from 0 to `rate / 2` in `mel(Hz) = 2595 log10(1 + Hz / 700)` (O'Shaughnessy, 1987). A feature is
/// `1 + log10(max(band, 1e-8)) / 8`.
///
/// # Panics
/// When `sample_rate`, `hop` or `bands` is 0.
pub fn mel(samples: &[f32], sample_rate: u32, hop: usize, bands: usize) -> Array2<f32> {
    let window = hann(4 * hop);
    let size = (4 * hop).max(sample_rate as usize / 8).next_power_of_two();
    let filters = triangles(bands, sample_rate, size);
    let scale = (window.iter().sum::<f64>() / 2.0).powi(-2);
    let fourier = RealFftPlanner::<f64>::new().plan_fft_forward(size);
    let (mut input, mut spectrum) = (fourier.make_input_vec(), fourier.make_output_vec());
    let mut scratch = fourier.make_scratch_vec();

    let mut features = Array2::zeros((num_frames(samples.len(), hop), bands));
    for (f, mut frame) in features.outer_iter_mut().enumerate() {
        input.fill(0.0);
        let start = (f * hop + hop / 2) as i64 - 2 * hop as i64; // of the window
        for ((x, w), n) in input.iter_mut().zip(&window).zip(start..) {
            let sample = usize::try_from(n).ok().and_then(|n| samples.get(n));
            *x = w * f64::from(*sample.unwrap_or(&0.0));
        }
        fourier
            .process_with_scratch(&mut input, &mut spectrum, &mut scratch)
            .expect("the buffers are the plan's own");
        for (feature, filter) in frame.iter_mut().zip(&filters) {
            let bins = spectrum[filter.first..].iter().zip(&filter.weights);
            let power: f64 = bins.map(|(x, weight)| weight * x.norm_sqr()).sum();
            *feature = (1.0 + (power * scale).max(10f64.powf(-DECADES)).log10() / DECADES) as f32;
        }
    }
    features
}

fn hann(len: usize) -> Vec<f64> {
    (0..len).map(|n| 0.5 - 0.5 * (TAU * (n as f64 + 0.5) / len as f64).cos()).collect()
}

/// Weights of neighbouring bins that sum to 1.
struct Triangle {
    first: usize,
    weights: Vec<f64>,
}

fn triangles(bands: usize, sample_rate: u32, size: usize) -> Vec<Triangle> {
    let half = f64::from(sample_rate) / 2.0;
    let top = 2595.0 * (1.0 + half / 700.0).log10();
    let edge = |i: usize| {
        let mel = top * i as f64 / (bands + 1) as f64;
        let hz = 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
        hz / f64::from(sample_rate) * size as f64 // in bins
    };
    (0..bands)
        .map(|band| {
            let [low, middle, high] = [band, band + 1, band + 2].map(edge);
            let first = low.ceil() as usize;
            let last = (high.floor() as usize).min(size / 2);
            let weight = |bin: usize| {
                let at = bin as f64;
                let side = if at < middle {
                    (at - low) / (middle - low)
                } else {
                    (high - at) / (high - middle)
                };
                side.max(0.0)
            };
            let weights: Vec<f64> = (first..=last).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            if sum <= 0.0 {
                // narrower than the bins are apart: the nearest one
                let nearest = (middle.round() as usize).min(size / 2);
                return Triangle { first: nearest, weights: vec![1.0] };
            }
            Triangle { first, weights: weights.into_iter().map(|weight| weight / sum).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, size: f64, count: usize) -> Vec<f32> {
        (0..count).map(|n| (size * (TAU * hz * n as f64 / 8000.0).sin()) as f32).collect()
    }

    fn loudest(features: &Array2<f32>, frame: usize) -> usize {
        let row = features.row(frame);
        (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
    }

    #[test]
    fn a_higher_tone_lies_in_a_higher_band() {
        let bands = [150.0, 400.0, 1000.0, 2500.0, 3800.0]
            .map(|hz| loudest(&mel(&sine(hz, 0.5, 8000), 8000, 80, 40), 50));
        assert!(bands.is_sorted_by(|a, b| a < b), "{bands:?}");
        let mel_of = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
        let wanted = (mel_of(1000.0) / mel_of(4000.0) * 41.0).round() as usize - 1;
        assert!(bands[2].abs_diff(wanted) <= 1, "{} and not {wanted}", bands[2]);
    }

    #[test]
    fn silence_is_zero_and_ten_decibels_are_an_eighth() {
        assert!(mel(&[0.0; 1000], 8000, 64, 20).iter().all(|&x| x == 0.0));
        let [loud, quiet] = [1.0, 0.1f64.sqrt()].map(|size| {
            let features = mel(&sine(1000.0, size, 8000), 8000, 80, 40);
            features.row(50).iter().copied().fold(0f32, f32::max)
        });
        assert!((0.8..=1.0).contains(&loud), "{loud}");
        assert!((loud - quiet - 0.125).abs() < 1e-3, "{loud} {quiet}");
    }

    #[test]
    fn a_click_is_loudest_in_its_own_frame() {
        for at in [0, 79, 80, 200, 399, 400] {
            let mut samples = vec![0.0; 401];
            samples[at] = 1.0;
            let features = mel(&samples, 8000, 80, 10);
            assert_eq!(features.nrows(), 6);
            let sums = features.sum_axis(ndarray::Axis(1));
            let loudest = (0..6).max_by(|&a, &b| sums[a].total_cmp(&sums[b])).unwrap();
            assert!(sums[at / 80] >= sums[loudest] - 1e-3, "{at}: frame {loudest}");
        }
    }

    #[test]
    fn any_rate_hop_and_number_of_bands_will_do() {
        for (rate, hop, bands) in [(1000, 1, 256), (192_000, 7, 80), (8000, 4000, 1)] {
            let features = mel(&sine(100.0, 1.0, 500), rate, hop, bands);
            assert_eq!(features.dim(), (500usize.div_ceil(hop), bands));
            assert!(features.iter().all(|x| x.is_finite()));
        }
        assert_eq!(mel(&[], 8000, 80, 40).dim(), (0, 40));
    }
}
