//! A grid of numbers as colours: receptive fields, attention, weights.

use std::path::Path;

use anyhow::{Result, ensure};
use plotters::{prelude::*, style::text_anchor::HPos};

use super::{
    axis::number,
    canvas::{INK, Page, drawing, picture, px, text},
    colours::{BAR_WIDTH, VIRIDIS, bar, colour},
};

/// The colour of what is exactly 0, or no number: seen as a hole.
const NOTHING: RGBColor = RGBColor(236, 238, 240);
/// The colour of the outline.
const MARK: RGBColor = RGBColor(226, 60, 40);

/// The longer side of the grid, in pixels, as far as whole pixels a cell allow.
const SIDE: usize = 448;

/// Draws `rows` by `columns` values, given row by row, into a PNG; `mark` outlines the cell (row, column).
///
/// Colours run from the least to the greatest value other than 0. Exact zeros stay blank, so that a blind spot shows.
///
/// # Errors
/// When the number of values is not `rows * columns`, or the file cannot be written.
pub fn heat_map(
    path: &Path,
    title: &str,
    (rows, columns): (usize, usize),
    values: &[f64],
    mark: Option<(usize, usize)>,
) -> Result<()> {
    ensure!(
        rows > 0 && columns > 0 && values.len() == rows * columns,
        "a heat map of {rows} x {columns} cells needs as many values, not {}",
        values.len()
    );
    let cell = (SIDE / rows.max(columns)).clamp(1, 48) as i32;
    let grid = Grid { rows, columns, cell, range: range(values) };
    picture(path, grid.page_size(), |page| {
        page.draw(&Text::new(title, (px(LEFT), px(24)), text(16, HPos::Left))).map_err(drawing)?;
        grid.draw_cells(page, values)?;
        if let Some((row, column)) = mark {
            grid.outline(page, row as i32, column as i32)?;
        }
        grid.draw_legend(page)
    })
}

/// Pixels left of, above and right of the grid, and below it.
const LEFT: i32 = 24;
const TOP: i32 = 48;
const RIGHT: i32 = 112;
const BOTTOM: i32 = 24;

struct Grid {
    rows: usize,
    columns: usize,
    cell: i32,         // pixels a side
    range: (f64, f64), // of the colours
}

impl Grid {
    fn width(&self) -> i32 {
        self.columns as i32 * self.cell
    }

    fn height(&self) -> i32 {
        self.rows as i32 * self.cell
    }

    fn page_size(&self) -> (u32, u32) {
        let width = (LEFT + self.width() + RIGHT).max(360);
        (width as u32, (TOP + self.height().max(160) + BOTTOM) as u32)
    }

    /// Corners of a cell, as drawn pixels.
    fn corners(&self, row: i32, column: i32) -> [(i32, i32); 2] {
        let (x, y) = (px(LEFT + column * self.cell), px(TOP + row * self.cell));
        [(x, y), (x + px(self.cell), y + px(self.cell))]
    }

    fn draw_cells(&self, page: &Page<'_>, values: &[f64]) -> Result<()> {
        let gap = if self.cell >= 8 { px(1) } else { 0 };
        for (i, &value) in values.iter().enumerate() {
            let [start, (x, y)] =
                self.corners((i / self.columns) as i32, (i % self.columns) as i32);
            let colour = if is_blank(value) { NOTHING } else { self.colour(value) };
            // the corners of a rectangle are both inside it
            let cell = Rectangle::new([start, (x - gap - 1, y - gap - 1)], colour.filled());
            page.draw(&cell).map_err(drawing)?;
        }
        Ok(())
    }

    fn outline(&self, page: &Page<'_>, row: i32, column: i32) -> Result<()> {
        let [(x0, y0), (x1, y1)] = self.corners(row, column);
        for grow in 0..px(3) {
            let frame = [(x0 - grow - 1, y0 - grow - 1), (x1 + grow, y1 + grow)];
            page.draw(&Rectangle::new(frame, MARK)).map_err(drawing)?;
        }
        Ok(())
    }

    /// A bar of the colours with its end points, and a blank cell.
    fn draw_legend(&self, page: &Page<'_>) -> Result<()> {
        let (least, greatest) = self.range;
        let x = px(LEFT + self.width() + 20);
        let (top, bottom) = (px(TOP), px(TOP + self.height().clamp(120, 240) - 36));
        let (width, style) = (px(BAR_WIDTH), text(12, HPos::Left));
        bar(page, &VIRIDIS, x, (top, bottom))?;
        let blank = bottom + px(18);
        let square = [(x, blank), (x + width - 1, blank + width - 1)];
        page.draw(&Rectangle::new(square, NOTHING.filled())).map_err(drawing)?;
        page.draw(&Rectangle::new(square, INK.mix(0.3))).map_err(drawing)?;
        for (y, label) in [
            (top + px(4), number(greatest)),
            (i32::midpoint(top, bottom), number(f64::midpoint(least, greatest))),
            (bottom - px(5), number(least)),
            (blank + width / 2, "none".to_owned()),
        ] {
            page.draw(&Text::new(label, (x + width + px(8), y), style.clone())).map_err(drawing)?;
        }
        Ok(())
    }

    fn colour(&self, value: f64) -> RGBColor {
        let (least, greatest) = self.range;
        colour(&VIRIDIS, if greatest > least { (value - least) / (greatest - least) } else { 1.0 })
    }
}

fn is_blank(value: f64) -> bool {
    value == 0.0 || !value.is_finite()
}

/// The least and greatest value that has a colour; (0, 1) when none has.
fn range(values: &[f64]) -> (f64, f64) {
    let coloured = values.iter().copied().filter(|&value| !is_blank(value));
    let (least, greatest) =
        coloured.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    if least > greatest { (0.0, 1.0) } else { (least, greatest) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_receptive_field_becomes_a_png() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("field.png");
        let side = 28i64;
        let field: Vec<f64> = (0..side * side)
            .map(|i| {
                let (dy, dx) = (i / side - 14, i % side - 14);
                let seen = (dy < 0 || dy == 0 && dx < 0) && dx <= -dy;
                if seen { (-((dx * dx + dy * dy) as f64) / 40.0).exp() } else { 0.0 }
            })
            .collect();
        heat_map(&path, "receptive field of pixel (14, 14)", (28, 28), &field, Some((14, 14)))
            .unwrap();
        assert!(fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn grids_of_any_shape_and_content_can_be_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        for (shape, value) in [((1, 1), 0.0), ((2, 600), 1.0), ((8, 8), f64::NAN)] {
            let mark = Some((0, shape.1 - 1));
            heat_map(&path, "x", shape, &vec![value; shape.0 * shape.1], mark).unwrap();
        }
        assert!(heat_map(&path, "x", (2, 2), &[1.0], None).is_err());
    }

    #[test]
    fn the_colours_span_what_is_not_blank() {
        assert_eq!(range(&[0.0, 2.0, f64::NAN, 5.0]), (2.0, 5.0));
        assert_eq!(range(&[0.0]), (0.0, 1.0));
    }
}
