//! Grey levels made two.

use core_layers::random;
use ndarray::Array4;

/// 1 where level v of L is at least half of the greatest: 2 v >= L - 1.
pub(super) fn threshold(levels: &Array4<u16>, num_levels: u32) -> Array4<u16> {
    levels.mapv(|level| u16::from(2 * u32::from(level) + 1 >= num_levels))
}

/// 1 with probability v / (L - 1) for level v of L.
///
/// Values are drawn in raster order, image by image, so that the first images do not depend on how many follow.
pub(super) fn dynamic(
    levels: &Array4<u16>,
    num_levels: u32,
    (seed, purpose, epoch): (u64, &str, u64),
) -> Array4<u16> {
    let mut rng = random::generator(seed, purpose, epoch);
    let max = f64::from(num_levels - 1);
    levels.mapv(|level| u16::from(random::uniform(&mut rng) * max < f64::from(level)))
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;

    #[test]
    fn the_mean_over_epochs_approaches_the_grey_level() {
        let grey = Array4::from_shape_fn((1, 1, 17, 1), |(_, _, x, _)| x as u16);
        let mut ones = [0u32; 17];
        for epoch in 0..4000 {
            let drawn = dynamic(&grey, 17, (5, "test", epoch));
            drawn.iter().zip(&mut ones).for_each(|(&bit, count)| *count += u32::from(bit));
        }
        assert_eq!((ones[0], ones[16]), (0, 4000));
        for (level, &count) in ones.iter().enumerate() {
            let prob = level as f64 / 16.0;
            let four_errors = 4.0 * (prob * (1.0 - prob) / 4000.0).sqrt();
            assert!(
                (f64::from(count) / 4000.0 - prob).abs() <= four_errors,
                "level {level}: {count} of 4000"
            );
        }
    }

    #[test]
    fn the_threshold_is_half_of_the_greatest_level() {
        let grey = Array4::from_shape_fn((1, 1, 256, 1), |(_, _, x, _)| x as u16);
        let ones = threshold(&grey, 256);
        assert_eq!((ones[[0, 0, 127, 0]], ones[[0, 0, 128, 0]]), (0, 1));
        let grey = Array4::from_shape_fn((1, 1, 17, 1), |(_, _, x, _)| x as u16);
        let ones = threshold(&grey, 17);
        assert_eq!((ones[[0, 0, 7, 0]], ones[[0, 0, 8, 0]]), (0, 1));
    }
}
