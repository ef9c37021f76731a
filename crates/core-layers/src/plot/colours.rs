//! Scales of colours for grids of numbers.

use anyhow::Result;
use plotters::prelude::*;

use super::canvas::{Page, drawing, px};

/// Colours at equal distances from the least value to the greatest.
pub(super) type Stops = [[u8; 3]; 10];

/// Colours of equal steps to the eye, dark to light, and readable when colour-blind: viridis (Smith and van der Walt, 2015).
pub(super) const VIRIDIS: Stops = [
    [0x44, 0x01, 0x54],
    [0x48, 0x28, 0x78],
    [0x3e, 0x4a, 0x89],
    [0x31, 0x68, 0x8e],
    [0x26, 0x82, 0x8e],
    [0x1f, 0x9e, 0x89],
    [0x35, 0xb7, 0x79],
    [0x6d, 0xcd, 0x59],
    [0xb4, 0xde, 0x2c],
    [0xfd, 0xe7, 0x25],
];

/// The same from black, so that silence is dark: magma, by the same authors.
pub(super) const MAGMA: Stops = [
    [0x00, 0x00, 0x04],
    [0x18, 0x0f, 0x3d],
    [0x44, 0x0f, 0x76],
    [0x72, 0x1f, 0x81],
    [0x9e, 0x2f, 0x7f],
    [0xcd, 0x40, 0x71],
    [0xf1, 0x60, 0x5d],
    [0xfd, 0x96, 0x68],
    [0xfe, 0xca, 0x8d],
    [0xfc, 0xfd, 0xbf],
];

/// Width of a bar of the colours, pixels.
pub(super) const BAR_WIDTH: i32 = 14;

/// The colour at `part` of the way, 0 to 1.
pub(super) fn colour(stops: &Stops, part: f64) -> RGBColor {
    let at = part.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let i = (at as usize).min(stops.len() - 2);
    let mix = |c: usize| {
        let (from, to) = (f64::from(stops[i][c]), f64::from(stops[i + 1][c]));
        (from + (to - from) * (at - i as f64)).round() as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

/// A bar of all colours, the greatest value's on top; drawn pixels.
pub(super) fn bar(page: &Page<'_>, stops: &Stops, x: i32, (top, bottom): (i32, i32)) -> Result<()> {
    for y in top..bottom {
        let part = f64::from(bottom - 1 - y) / f64::from(bottom - 1 - top);
        // a rectangle without height is not drawn
        let line = [(x, y), (x + px(BAR_WIDTH) - 1, y + 1)];
        page.draw(&Rectangle::new(line, colour(stops, part).filled())).map_err(drawing)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_starts_and_ends_with_its_stops() {
        assert_eq!(colour(&VIRIDIS, 0.0), RGBColor(0x44, 0x01, 0x54));
        assert_eq!(colour(&VIRIDIS, 1.0), RGBColor(0xfd, 0xe7, 0x25));
        assert_eq!(colour(&MAGMA, 7.0), RGBColor(0xfc, 0xfd, 0xbf));
        assert_eq!(colour(&VIRIDIS, -3.0), colour(&VIRIDIS, 0.0));
    }

    #[test]
    fn lighter_is_more() {
        for stops in [VIRIDIS, MAGMA] {
            let light = |[r, g, b]: [u8; 3]| 3 * u32::from(r) + 6 * u32::from(g) + u32::from(b);
            assert!(stops.map(light).is_sorted());
        }
    }
}
