//! Curves over one axis: losses over steps, rates over distortion.

use std::path::Path;

use anyhow::Result;
use plotters::{prelude::*, style::text_anchor::HPos};

use super::{
    Scale,
    axis::{Axis, is_drawn},
    canvas::{FAINT, INK, Page, drawing, picture, px, text},
};

/// Colours that colour-blind readers tell apart (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Up to so many points are marked, since a line alone would hide where they are.
const FEW_POINTS: usize = 24;

const SIZE: (u32, u32) = (800, 480);

/// A line through points, and its name in the legend.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points (x, y), by growing x. Those that are not finite leave a gap.
    pub points: Vec<(f64, f64)>,
}

/// What is written around the curves, and how y is laid out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chart<'a> {
    /// Above the curves.
    pub title: &'a str,
    /// Below them, with the unit.
    pub x_label: &'a str,
    /// Beside them, with the unit.
    pub y_label: &'a str,
    /// The y axis.
    pub y_scale: Scale,
}

impl Chart<'_> {
    /// Draws the curves into one PNG of 800 x 480 pixels.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn draw(&self, path: &Path, series: &[Series]) -> Result<()> {
        picture(path, SIZE, |page| self.draw_on(page, series))
    }

    fn draw_on(&self, page: &Page<'_>, series: &[Series]) -> Result<()> {
        let points = || series.iter().flat_map(|line| &line.points);
        let x_axis = Axis::around(points().map(|point| point.0), Scale::Linear, 0.01);
        let y_axis = Axis::around(points().map(|point| point.1), self.y_scale, 0.06);
        page.draw(&Text::new(self.title, (px(SIZE.0 as i32 / 2), px(22)), text(17, HPos::Center)))
            .map_err(drawing)?;
        let mut chart = ChartBuilder::on(page)
            .margin_top(px(44))
            .margin_right(px(24))
            .margin_left(px(8))
            .margin_bottom(px(8))
            .x_label_area_size(px(44))
            .y_label_area_size(px(60))
            .build_cartesian_2d(x_axis, y_axis)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT.stroke_width(px(1) as u32))
            .light_line_style(TRANSPARENT)
            .axis_style(INK.stroke_width(px(1) as u32))
            .label_style(text(12, HPos::Center))
            .axis_desc_style(text(13, HPos::Center))
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .set_all_tick_mark_size(px(4))
            .draw()
            .map_err(drawing)?;
        for (line, &colour) in series.iter().zip(COLOURS.iter().cycle()) {
            let style = ShapeStyle::from(&colour).stroke_width(px(2) as u32);
            for run in self.runs(line) {
                let marks = if line.points.len() <= FEW_POINTS { run } else { &[] };
                chart.draw_series(LineSeries::new(run.iter().copied(), style)).map_err(drawing)?;
                let marks = marks.iter().map(|&point| Circle::new(point, px(3), colour.filled()));
                chart.draw_series(marks).map_err(drawing)?;
            }
        }
        legend(page, series)
    }

    /// The points that are joined: those between gaps.
    fn runs<'s>(&self, line: &'s Series) -> impl Iterator<Item = &'s [(f64, f64)]> {
        let scale = self.y_scale;
        let drawn = move |&(x, y): &(f64, f64)| x.is_finite() && is_drawn(y, scale);
        line.points.split(move |point| !drawn(point)).filter(|run| !run.is_empty())
    }
}

/// Names beside strokes of their colours, at the top right on white.
fn legend(page: &Page<'_>, series: &[Series]) -> Result<()> {
    let style = text(12, HPos::Left);
    let widths = series.iter().map(|line| page.estimate_text_size(&line.name, &style));
    let widths: Vec<u32> =
        widths.map(|size| Ok(size.map_err(drawing)?.0)).collect::<Result<_>>()?;
    let Some(&widest) = widths.iter().max() else { return Ok(()) };
    let (row, pad, stroke) = (px(20), px(10), px(22));
    let (right, top) = (px(SIZE.0 as i32 - 34), px(54));
    let left = right - widest as i32 - stroke - 3 * pad;
    let bottom = top + row * series.len() as i32 + pad;
    let frame = [(left, top), (right, bottom)];
    page.draw(&Rectangle::new(frame, WHITE.mix(0.9).filled())).map_err(drawing)?;
    page.draw(&Rectangle::new(frame, FAINT.stroke_width(px(1) as u32))).map_err(drawing)?;
    for (i, (line, &colour)) in series.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = top + pad / 2 + row / 2 + row * i as i32;
        let ends = vec![(left + pad, y), (left + pad + stroke, y)];
        page.draw(&PathElement::new(ends, colour.stroke_width(px(3) as u32))).map_err(drawing)?;
        let at = (left + 2 * pad + stroke, y);
        page.draw(&Text::new(line.name.as_str(), at, style.clone())).map_err(drawing)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn series(name: &str, f: impl Fn(f64) -> f64, count: u32) -> Series {
        let points =
            (1..=count).map(|i| (f64::from(i) * 2000.0 / f64::from(count), f(f64::from(i))));
        Series { name: name.into(), points: points.collect() }
    }

    #[test]
    fn curves_become_a_png_on_either_scale() {
        let folder = tempfile::tempdir().unwrap();
        let curves = [
            series("train", |i| 3.0 + 5.0 * (-i / 60.0).exp() + 0.15 * (i * 1.7).sin(), 400),
            series("validation (EMA)", |i| 3.2 + 5.0 * (-i / 3.0).exp(), 20),
        ];
        for y_scale in [Scale::Linear, Scale::Log] {
            let chart = Chart {
                title: "gated-mnist",
                x_label: "step",
                y_label: "bits per dimension",
                y_scale,
            };
            let path = folder.path().join("curve.png");
            chart.draw(&path, &curves).unwrap();
            let bytes = fs::read(&path).unwrap();
            assert!(bytes.starts_with(b"\x89PNG"));
            assert!(bytes.len() > 10_000, "{} bytes hold no text and no lines", bytes.len());
        }
    }

    #[test]
    fn nothing_and_numbers_that_are_none_can_be_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curve.png");
        Chart::default().draw(&path, &[]).unwrap();
        let gaps = series("gaps", |i| if i as i64 % 3 == 0 { f64::NAN } else { i }, 9);
        let chart = Chart { y_scale: Scale::Log, ..Default::default() };
        assert_eq!(chart.runs(&gaps).map(<[_]>::len).collect::<Vec<_>>(), [2, 2, 2]);
        chart.draw(&path, &[gaps]).unwrap();
        let message = chart.draw(folder.path(), &[]).unwrap_err().to_string();
        assert!(message.contains("cannot be written"), "{message}");
    }
}
