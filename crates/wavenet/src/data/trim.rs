//! Where a clip's sound begins and ends.

use std::ops::Range;

/// Below this root mean square a frame is silence, whatever the rest of the clip: -60 dB of full scale.
const SILENT: f64 = 1e-3;
/// What stays of the silence at either end, seconds.
const MARGIN: f64 = 0.05;

/// The rule of [`trim`] in words.
pub(super) fn words(db: f64) -> String {
    format!(
        "frames of 10 ms at either end are cut where their RMS is more than {db} dB below that of the clip's loudest \
         frame, all but 50 ms"
    )
}

/// The samples to keep: none of a clip without a frame of 10 ms above -60 dB of full scale; all of it where `db` is 0;
/// otherwise those from the first to the last frame whose RMS is at most `db` below the loudest frame's, and 50 ms more
/// at either end.
pub(super) fn trim(samples: &[f32], sample_rate: u32, db: f64) -> Range<usize> {
    let frame = (sample_rate / 100).max(1) as usize;
    let rms = |frame: &[f32]| {
        let squares: f64 = frame.iter().map(|&x| f64::from(x).powi(2)).sum();
        (squares / frame.len() as f64).sqrt()
    };
    let loudness: Vec<f64> = samples.chunks(frame).map(rms).collect();
    let loudest = loudness.iter().copied().fold(0.0, f64::max);
    if loudest < SILENT {
        return 0..0;
    }
    if db == 0.0 {
        return 0..samples.len();
    }
    let threshold = loudest * 10f64.powf(-db / 20.0);
    let heard = |&loudness: &f64| loudness >= threshold;
    let first = loudness.iter().position(heard).unwrap_or(0);
    let last = loudness.iter().rposition(heard).unwrap_or(0);
    let margin = (MARGIN * f64::from(sample_rate)) as usize;
    (first * frame).saturating_sub(margin)..((last + 1) * frame + margin).min(samples.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(parts: &[(f32, usize)]) -> Vec<f32> {
        let alternating = |&(size, count): &(f32, usize)| {
            (0..count).map(move |n| if n % 2 == 0 { size } else { -size })
        };
        parts.iter().flat_map(alternating).collect()
    }

    #[test]
    fn silence_goes_but_a_margin_stays() {
        let samples = clip(&[(0.001, 4000), (0.5, 2000), (0.001, 4000)]);
        assert_eq!(trim(&samples, 8000, 40.0), 3600..6400);
        assert_eq!(trim(&samples, 8000, 0.0), 0..10_000);
        assert_eq!(trim(&samples, 8000, 60.0), 0..10_000, "54 dB below is not silence");
    }

    #[test]
    fn quiet_parts_inside_stay() {
        let samples = clip(&[(0.5, 80), (0.0, 8000), (0.5, 80)]);
        assert_eq!(trim(&samples, 8000, 40.0), 0..8160);
    }

    #[test]
    fn a_silent_clip_is_nothing() {
        assert_eq!(trim(&clip(&[(0.0009, 8000)]), 8000, 0.0), 0..0);
        assert_eq!(trim(&[], 8000, 40.0), 0..0);
        assert_eq!(trim(&[0.5], 8000, 40.0), 0..1);
    }
}
