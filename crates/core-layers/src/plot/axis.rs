//! An axis with round numbers on it, linear or logarithmic.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// How values become lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal differences are equal lengths.
    #[default]
    Linear,
    /// Equal ratios are equal lengths; values that are not above 0 are left out.
    Log,
}

/// A range of values that map to pixels.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    scale: Scale,
    start: f64,
    end: f64,
}

impl Axis {
    /// The axis that holds all values, with some room at either end.
    pub(super) fn around(values: impl Iterator<Item = f64>, scale: Scale, room: f64) -> Self {
        let drawn = values.filter(|&x| is_drawn(x, scale)).map(|x| forward(x, scale));
        let (mut start, mut end) =
            drawn.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        if start > end {
            (start, end) = (0.0, 1.0); // nothing to draw
        }
        if end - start < 1e-9 * start.abs().max(1e-9) {
            let half = if scale == Scale::Log { 0.1 } else { (0.1 * start.abs()).max(0.5) };
            (start, end) = (start - half, end + half);
        }
        let room = (end - start) * room;
        Self { scale, start: backward(start - room, scale), end: backward(end + room, scale) }
    }

    /// About `count` round numbers within the range.
    fn ticks(&self, count: usize) -> Vec<f64> {
        let (decade, last) = (self.start.log10().floor(), self.end.log10().ceil());
        if self.scale == Scale::Log && last - decade > 1.0 {
            let within = |x: &f64| (self.start..=self.end).contains(x);
            let decades = (decade as i32..=last as i32).map(|k| 10f64.powi(k));
            let fine: Vec<f64> =
                decades.clone().flat_map(|x| [x, 2.0 * x, 5.0 * x]).filter(within).collect();
            if fine.len() <= count + 2 {
                if fine.len() >= 3 {
                    return fine;
                }
            } else {
                let stride = (last - decade) as usize / count.max(1) + 1;
                return decades.filter(within).step_by(stride).collect();
            }
        }
        let step = round_up((self.end - self.start) / count.max(1) as f64);
        let (first, last) = ((self.start / step).ceil() as i64, (self.end / step).floor() as i64);
        (first..=last).map(|k| k as f64 * step).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let [start, end, x] = [self.start, self.end, *value].map(|x| forward(x, self.scale));
        from + ((x - start) / (end - start) * f64::from(to - from)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        self.ticks(hint.max_num_points().min(8))
    }

    fn range(&self) -> Range<f64> {
        self.start..self.end
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        number(*value)
    }
}

/// Whether a value has a place on an axis.
pub(super) fn is_drawn(x: f64, scale: Scale) -> bool {
    x.is_finite() && (scale == Scale::Linear || x > 0.0)
}

fn forward(x: f64, scale: Scale) -> f64 {
    if scale == Scale::Log { x.ln() } else { x }
}

fn backward(x: f64, scale: Scale) -> f64 {
    if scale == Scale::Log { x.exp() } else { x }
}

/// The least of 1, 2, 5 times a power of ten that is not below `x`.
fn round_up(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= x * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// At most four digits: `0.25`, `1500`, `20k`, `1.5M`, `2e-5`.
pub(super) fn number(x: f64) -> String {
    let size = x.abs();
    let (x, unit) = match size {
        1e6.. => (x / 1e6, "M"),
        1e4.. => (x / 1e3, "k"),
        _ => (x, ""),
    };
    if size > 0.0 && !(1e-3..1e12).contains(&size) {
        return trimmed(&format!("{:.2e}", if unit.is_empty() { x } else { x * 1e6 }));
    }
    let digits = 3 - (x.abs().max(1e-3).log10().floor() as i32).clamp(-3, 3);
    let text = format!("{x:.*}", digits as usize);
    format!("{}{unit}", trimmed(&text))
}

/// Without zeros at the end of a fraction.
fn trimmed(text: &str) -> String {
    let (mantissa, exponent) = text.find('e').map_or((text, ""), |at| text.split_at(at));
    let short = if mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    let short = if short == "-0" { "0" } else { short };
    format!("{short}{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(values: [f64; 2], scale: Scale) -> Vec<String> {
        Axis::around(values.into_iter(), scale, 0.0).ticks(6).into_iter().map(number).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks([0.0, 1.0], Scale::Linear), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(
            ticks([0.0, 30_000.0], Scale::Linear),
            ["0", "5000", "10k", "15k", "20k", "25k", "30k"]
        );
        assert_eq!(ticks([0.9, 12.0], Scale::Log), ["1", "2", "5", "10"]);
        assert_eq!(ticks([1.1, 1.5], Scale::Log), ["1.1", "1.2", "1.3", "1.4", "1.5"]);
        assert_eq!(ticks([1e-9, 1e9], Scale::Log).len(), 5);
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.25, 1.0 / 3.0, 1500.0, 20_000.0, 1_500_000.0, 2e-5, -0.5];
        let texts = numbers.map(number);
        assert_eq!(texts, ["0", "0.25", "0.3333", "1500", "20k", "1.5M", "2e-5", "-0.5"]);
    }

    #[test]
    fn a_log_axis_maps_ratios_to_lengths() {
        let axis = Axis::around([1.0, 100.0].into_iter(), Scale::Log, 0.0);
        assert_eq!([1.0, 10.0, 100.0].map(|x| axis.map(&x, (0, 200))), [0, 100, 200]);
    }

    #[test]
    fn an_axis_exists_for_no_values_one_value_and_values_that_are_none() {
        for values in [vec![], vec![3.0], vec![f64::NAN, f64::INFINITY], vec![0.0, 0.0]] {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = Axis::around(values.iter().copied(), scale, 0.05);
                assert!(axis.start < axis.end && axis.ticks(6).len() < 20, "{values:?} {scale:?}");
            }
        }
    }
}
