//! How loud a sound is, over time and frequency.

use std::{f64::consts::TAU, path::Path};

use anyhow::{Result, ensure};
use plotters::{prelude::*, style::text_anchor::HPos};
use realfft::RealFftPlanner;

use super::{
    Scale,
    axis::Axis,
    canvas::{INK, Page, drawing, picture, px, text},
    colours::{BAR_WIDTH, MAGMA, bar, colour},
};

/// The picture, and what surrounds the grid of colours; pixels.
const SIZE: (u32, u32) = (900, 340);
const TOP: i32 = 16;
const RIGHT: i32 = 84;
const BOTTOM: i32 = 40;
const LEFT: i32 = 64;
/// What of the left is for labels.
const LABELS: i32 = 56;
/// Loudness from the darkest to the lightest colour, decibels.
const RANGE_DB: f64 = 70.0;
/// A window's length: long enough for the harmonics of a deep voice, short enough for its syllables; seconds.
const WINDOW: f64 = 0.032;

/// Draws a log-magnitude spectrogram into a PNG of 900 x 340 pixels: time in seconds, frequency in Hz up to half the rate,
/// loudness in decibels of full scale, from the loudest point down to 70 below.
///
/// A column shows `20 log10(|X| / (sum w / 2))` of 32 ms of sound around its middle, under a Hann window w: a sine of
/// amplitude 1 is at 0 dB. Between the lines of the Fourier transform is interpolated.
///
/// # Errors
/// When there are no samples, the rate is 0, or the file cannot be written.
pub fn spectrogram(path: &Path, samples: &[f32], sample_rate: u32) -> Result<()> {
    ensure!(!samples.is_empty() && sample_rate > 0, "a spectrogram needs samples and their rate");
    let columns = SIZE.0 as usize - (LEFT + RIGHT) as usize;
    let rows = SIZE.1 as usize - (TOP + BOTTOM) as usize;
    let loudness = Loudness::new(samples, sample_rate, (rows, columns));
    let seconds = samples.len() as f64 / f64::from(sample_rate);
    picture(path, SIZE, |page| {
        axes(page, seconds, f64::from(sample_rate) / 2.0)?;
        loudness.draw_cells(page)?;
        loudness.draw_legend(page)
    })
}

/// A frame with time and frequency around the grid.
fn axes(page: &Page<'_>, seconds: f64, hz: f64) -> Result<()> {
    let axis = |end: f64| Axis::around([0.0, end].into_iter(), Scale::Linear, 0.0);
    let mut chart = ChartBuilder::on(page)
        .margin_top(px(TOP))
        .margin_right(px(RIGHT))
        .margin_left(px(LEFT - LABELS))
        .x_label_area_size(px(BOTTOM))
        .y_label_area_size(px(LABELS))
        .build_cartesian_2d(axis(seconds), axis(hz))
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(INK.stroke_width(px(1) as u32))
        .label_style(text(12, HPos::Center))
        .axis_desc_style(text(13, HPos::Center))
        .x_desc("time (s)")
        .y_desc("frequency (Hz)")
        .set_all_tick_mark_size(px(4))
        .draw()
        .map_err(drawing)?;
    Ok(())
}

/// Decibels by row, the highest frequency first.
struct Loudness {
    rows: usize,
    columns: usize,
    db: Vec<f64>,
    top: f64, // the loudest, decibels
}

impl Loudness {
    fn new(samples: &[f32], sample_rate: u32, (rows, columns): (usize, usize)) -> Self {
        let window = hann(((WINDOW * f64::from(sample_rate)) as usize).max(16));
        let size = window.len().next_power_of_two() * 4;
        let fourier = RealFftPlanner::<f64>::new().plan_fft_forward(size);
        let (mut input, mut lines) = (fourier.make_input_vec(), fourier.make_output_vec());
        let scale = window.iter().sum::<f64>() / 2.0;
        let mut db = vec![0.0; rows * columns];
        for column in 0..columns {
            let middle = (column as f64 + 0.5) / columns as f64 * samples.len() as f64;
            let start = middle as i64 - window.len() as i64 / 2;
            input.fill(0.0);
            for ((x, w), n) in input.iter_mut().zip(&window).zip(start..) {
                let sample = usize::try_from(n).ok().and_then(|n| samples.get(n));
                *x = w * f64::from(*sample.unwrap_or(&0.0));
            }
            fourier.process(&mut input, &mut lines).expect("the buffers are the plan's own");
            for row in 0..rows {
                let at = (rows as f64 - row as f64 - 0.5) / rows as f64 * (lines.len() - 1) as f64;
                let line = at as usize;
                let magnitude = |i: usize| lines[i.min(lines.len() - 1)].norm();
                let between = at - line as f64;
                let mixed = magnitude(line) * (1.0 - between) + magnitude(line + 1) * between;
                db[row * columns + column] = 20.0 * (mixed / scale).max(1e-9).log10();
            }
        }
        let top = db.iter().copied().filter(|x| x.is_finite()).fold(-180.0, f64::max);
        Self { rows, columns, db, top }
    }

    fn draw_cells(&self, page: &Page<'_>) -> Result<()> {
        let scale = px(1) as usize;
        let (width, height) = (self.columns * scale, self.rows * scale);
        let pixels = (0..width * height).flat_map(|i| {
            let db = self.db[i / width / scale * self.columns + i % width / scale];
            let RGBColor(r, g, b) = colour(&MAGMA, 1.0 + (db - self.top) / RANGE_DB);
            [r, g, b]
        });
        let image = BitMapElement::with_owned_buffer(
            (px(LEFT), px(TOP)),
            (width as u32, height as u32),
            pixels.collect(),
        );
        if let Some(image) = image {
            page.draw(&image).map_err(drawing)?;
        }
        Ok(())
    }

    fn draw_legend(&self, page: &Page<'_>) -> Result<()> {
        let x = px(SIZE.0 as i32 - RIGHT + 16);
        let (top, bottom) = (px(TOP), px(SIZE.1 as i32 - BOTTOM));
        bar(page, &MAGMA, x, (top, bottom))?;
        let style = text(12, HPos::Left);
        for (y, db) in [
            (top + px(5), self.top),
            (i32::midpoint(top, bottom), self.top - RANGE_DB / 2.0),
            (bottom - px(6), self.top - RANGE_DB),
        ] {
            let label = format!("{db:.0} dB");
            let at = (x + px(BAR_WIDTH + 6), y);
            page.draw(&Text::new(label, at, style.clone())).map_err(drawing)?;
        }
        Ok(())
    }
}

fn hann(len: usize) -> Vec<f64> {
    (0..len).map(|n| 0.5 - 0.5 * (TAU * (n as f64 + 0.5) / len as f64).cos()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_sine_of_full_scale_is_at_zero_decibels_in_its_row() {
        let samples: Vec<f32> =
            (0..8000).map(|t| (TAU * 1000.0 * f64::from(t) / 8000.0).sin() as f32).collect();
        let loudness = Loudness::new(&samples, 8000, (400, 10));
        assert!(loudness.top.abs() < 0.1, "{}", loudness.top);
        let column: Vec<f64> = (0..400).map(|row| loudness.db[row * 10 + 5]).collect();
        let loudest = (0..400).max_by(|&a, &b| column[a].total_cmp(&column[b])).unwrap();
        assert!(loudest.abs_diff(300) <= 1, "1000 of 4000 Hz, from above: {loudest}");
        assert!(column[100] < -70.0);
    }

    #[test]
    fn time_runs_from_left_to_right() {
        let mut samples = vec![0.0; 8000];
        samples[6000..6400].fill(0.5);
        let loudness = Loudness::new(&samples, 8000, (20, 100));
        let energy =
            |column: usize| (0..20).map(|row| loudness.db[row * 100 + column]).sum::<f64>();
        let loudest = (0..100).max_by(|&a, &b| energy(a).total_cmp(&energy(b))).unwrap();
        assert!((75..80).contains(&loudest), "{loudest}");
    }

    #[test]
    fn any_sound_can_be_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        for samples in [vec![0.0; 3], vec![f32::NAN; 500], vec![1.0; 100_000]] {
            spectrogram(&path, &samples, 8000).unwrap();
            assert!(fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        }
        spectrogram(&path, &[0.5], 1).unwrap();
        assert!(spectrogram(&path, &[], 8000).is_err());
    }
}
