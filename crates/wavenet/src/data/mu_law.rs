//! Mu-law: levels whose steps grow with the sample, as the ear's do (ITU-T G.711; van den Oord et al., "WaveNet", 2016,
//! section 2.2).
//!
//! With L levels and `mu = L - 1`, `f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu)` maps -1..=1 onto itself, and level `q`
//! stands for `f(x) = 2 q / mu - 1`. For 256 levels silence is 128, which decodes to 0.000086 and not to 0: no level does,
//! since 127 is its mirror image.

/// The level of a sample: the nearest one on the scale of `f`, halves going up; beyond -1..=1 the last one.
///
/// `num_levels` is 2..=65536.
pub fn encode(x: f32, num_levels: u32) -> u16 {
    let mu = f64::from(num_levels - 1);
    let x = f64::from(x).clamp(-1.0, 1.0);
    let y = (mu * x.abs()).ln_1p() / mu.ln_1p();
    let y = if x < 0.0 { -y } else { y };
    (f64::midpoint(y, 1.0) * mu + 0.5).floor() as u16
}

/// The sample that a level stands for, in -1..=1.
///
/// `num_levels` is 2..=65536, and greater than `level`.
pub fn decode(level: u16, num_levels: u32) -> f32 {
    let mu = f64::from(num_levels - 1);
    let steps = 2 * i32::from(level) - (num_levels - 1) as i32; // from the middle, in halves
    let size = (f64::from(steps.abs()) / mu * mu.ln_1p()).exp_m1() / mu;
    (f64::from(steps.signum()) * size.min(1.0)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_survives_decoding_and_encoding() {
        for num_levels in [2, 3, 16, 255, 256, 1024, 65_536] {
            for level in 0..num_levels {
                let level = level as u16;
                assert_eq!(encode(decode(level, num_levels), num_levels), level, "of {num_levels}");
            }
        }
    }

    #[test]
    fn the_scale_is_odd_and_its_ends_are_one() {
        for num_levels in [2u32, 255, 256, 65_536] {
            let last = (num_levels - 1) as u16;
            assert_eq!((decode(0, num_levels), decode(last, num_levels)), (-1.0, 1.0));
            let mirrored = |level| decode(last - level, num_levels) == -decode(level, num_levels);
            assert!((0..=last).all(mirrored), "of {num_levels}");
        }
    }

    #[test]
    fn silence_is_128_and_no_level_decodes_to_zero() {
        assert_eq!((encode(0.0, 256), encode(-0.0, 256)), (128, 128));
        assert_eq!(decode(127, 256), -decode(128, 256));
        assert!(decode(128, 256) > 0.0);
    }

    #[test]
    fn what_is_too_loud_is_clipped() {
        assert_eq!(encode(1.5, 256), 255);
        assert_eq!(encode(-40.0, 256), 0);
        assert_eq!((encode(f32::INFINITY, 256), encode(f32::MIN, 256)), (255, 0));
    }

    #[test]
    fn a_round_trip_keeps_slope_and_zero_within_half_the_last_step() {
        let samples = (-10_000..=10_000).map(|i| i as f32 / 10_000.0);
        let (mut worst, mut xy, mut xx) = (0f32, 0.0, 0.0);
        for x in samples {
            let y = decode(encode(x, 256), 256);
            worst = worst.max((y - x).abs());
            xy += f64::from(x * y);
            xx += f64::from(x * x);
        }
        assert!(worst <= 0.0216, "{worst}");
        assert!((xy / xx - 1.0).abs() < 1e-3, "slope {}", xy / xx);
    }

    #[test]
    fn more_of_a_sample_is_never_a_lower_level() {
        let levels: Vec<u16> = (-3000..3000).map(|i| encode(i as f32 / 2900.0, 256)).collect();
        assert!(levels.is_sorted());
    }
}
