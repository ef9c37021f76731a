//! A white page that is drawn at twice its size and shrunk, which smooths every edge, and then written as PNG.

use std::{fs, path::Path, sync::OnceLock};

use anyhow::{Context, Result, anyhow, ensure};
use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        FontStyle, register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::checkpoint::write_atomic;

/// Drawn pixels per pixel of the picture, each way.
pub(super) const SCALE: u32 = 2;

/// The colour of text and frames.
pub(super) const INK: RGBColor = RGBColor(45, 52, 60);
/// The colour of what stands behind.
pub(super) const FAINT: RGBColor = RGBColor(226, 230, 234);

/// The font `DejaVu Sans`, cut down to ASCII; its licence lies beside it.
const FONT: &[u8] = include_bytes!("../../assets/DejaVuSans-ascii.ttf");
const FAMILY: &str = "sans-serif";

/// The page while it is drawn on; coordinates are drawn pixels.
pub(super) type Page<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Draws a picture of the given size in pixels and writes it.
///
/// # Errors
/// When drawing fails or the file cannot be written.
pub(super) fn picture(
    path: &Path,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Page<'_>) -> Result<()>,
) -> Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered =
        *REGISTERED.get_or_init(|| register_font(FAMILY, FontStyle::Normal, FONT).is_ok());
    ensure!(registered, "the embedded font is damaged");

    let mut large = vec![0; (width * height * SCALE * SCALE * 3) as usize];
    {
        let backend = BitMapBackend::with_buffer(&mut large, (width * SCALE, height * SCALE));
        let page = backend.into_drawing_area();
        page.fill(&WHITE).map_err(drawing)?;
        draw(&page)?;
        page.present().map_err(drawing)?;
    }
    let png = png(&shrink(&large, width as usize, height as usize), (width, height))?;
    write_atomic(path, &png)?;
    Ok(())
}

/// Means of `SCALE` by `SCALE` pixels, RGB.
fn shrink(large: &[u8], width: usize, height: usize) -> Vec<u8> {
    let scale = SCALE as usize;
    let row = width * scale * 3;
    let mut small = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let pixels = (0..scale * scale).map(|i| {
                    let (dy, dx) = (i / scale, i % scale);
                    u32::from(large[(y * scale + dy) * row + (x * scale + dx) * 3 + c])
                });
                let count = SCALE * SCALE;
                small.push(((pixels.sum::<u32>() + count / 2) / count) as u8);
            }
        }
    }
    small
}

/// The plotting library writes PNG to a path only.
fn png(rgb: &[u8], size: (u32, u32)) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("making a temporary folder for a picture")?;
    let path = folder.path().join("picture.png");
    {
        let mut backend = BitMapBackend::new(&path, size);
        backend.blit_bitmap((0, 0), size, rgb).map_err(|error| anyhow!("drawing: {error}"))?;
        backend.present().map_err(|error| anyhow!("drawing: {error}"))?;
    }
    fs::read(&path).context("reading a picture back")
}

/// Text of `size` pixels, centred or aligned at the point it is drawn at.
pub(super) fn text(size: u32, horizontal: HPos) -> TextStyle<'static> {
    (FAMILY, size * SCALE).into_font().color(&INK).pos(Pos::new(horizontal, VPos::Center))
}

/// What the plotting library says, as an error of ours (its own is tied to the backend's buffer).
#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
pub(super) fn drawing<E: std::error::Error + Send + Sync>(
    error: DrawingAreaErrorKind<E>,
) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

/// A length in pixels of the picture as drawn pixels.
pub(super) fn px(length: i32) -> i32 {
    length * SCALE as i32
}
