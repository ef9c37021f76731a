//! Levels as pictures and back.
//!
//! Level l of L is stored as the byte `round(255 l / (L - 1))`, so that a picture holds levels exactly for L up to 256.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use core_layers::checkpoint::write_atomic;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ndarray::{Array3, ArrayView3, ArrayView4, Axis};

use super::{Images, decode, write_npy};

/// Small images are enlarged until they are at least so high in a sheet.
const LEAST_HEIGHT: usize = 48;
const GAP: usize = 2;
const BACKGROUND: Rgb<u8> = Rgb([40, 44, 52]);

/// The byte of a level.
fn byte(level: u16, num_levels: u32) -> u8 {
    let top = num_levels - 1;
    ((510 * u32::from(level) + top) / (2 * top)).min(255) as u8
}

/// A PNG of images `[N, H, W, C]`, `columns` in a row, small ones enlarged.
///
/// # Errors
/// A picture too large to be drawn, or a file that cannot be written.
pub fn write_sheet(
    path: &Path,
    levels: ArrayView4<'_, u16>,
    num_levels: u32,
    columns: usize,
) -> Result<()> {
    let (count, height, width, _) = levels.dim();
    let columns = columns.clamp(1, count.max(1));
    let scale = LEAST_HEIGHT.div_ceil(height.max(1)).max(1);
    let (cell_height, cell_width) = (height * scale + GAP, width * scale + GAP);
    let size = [columns * cell_width + GAP, count.div_ceil(columns) * cell_height + GAP];
    ensure!(
        size.iter().all(|&side| side <= 65_535),
        "{}: a sheet of {count} images would have {} x {} pixels",
        path.display(),
        size[0],
        size[1]
    );
    let mut sheet = RgbImage::from_pixel(size[0] as u32, size[1] as u32, BACKGROUND);
    for (index, image) in levels.outer_iter().enumerate() {
        let (top, left) = (GAP + index / columns * cell_height, GAP + index % columns * cell_width);
        for y in 0..height * scale {
            for x in 0..width * scale {
                let pixel = pixel(
                    image.index_axis(Axis(0), y / scale).index_axis(Axis(0), x / scale),
                    num_levels,
                );
                sheet.put_pixel((left + x) as u32, (top + y) as u32, pixel);
            }
        }
    }
    write_png(path, &sheet.into())
}

fn pixel(values: ndarray::ArrayView1<'_, u16>, num_levels: u32) -> Rgb<u8> {
    let channel = |i: usize| byte(values[i.min(values.len() - 1)], num_levels);
    Rgb([channel(0), channel(1), channel(2)])
}

/// One image `[H, W, C]` as a PNG, a pixel a pixel.
///
/// # Errors
/// A file that cannot be written, or more levels than a byte has.
pub fn write_image(path: &Path, levels: ArrayView3<'_, u16>, num_levels: u32) -> Result<()> {
    write_png(path, &to_image(levels, num_levels)?)
}

/// Images as PNGs under their names in a folder, or as `images.npy` where they have none; returns what was written.
///
/// # Errors
/// A file that cannot be written, or more levels than a byte has.
pub fn write_images(folder: &Path, images: &Images, num_levels: u32) -> Result<Vec<PathBuf>> {
    if images.names.is_empty() {
        let path = folder.join("images.npy");
        write_npy(&path, images.levels.view())?;
        return Ok(vec![path]);
    }
    let write = |(name, levels): (&String, ArrayView3<'_, u16>)| {
        let path = folder.join(name).with_extension("png");
        write_image(&path, levels, num_levels)?;
        Ok(path)
    };
    images.names.iter().zip(images.levels.outer_iter()).map(write).collect()
}

/// One image `[H, W, C]`, grey or RGB by its channels.
///
/// # Errors
/// More levels than a byte has.
pub fn to_image(levels: ArrayView3<'_, u16>, num_levels: u32) -> Result<DynamicImage> {
    ensure!(num_levels <= 256, "{num_levels} levels do not fit the 256 of a PNG; use --npy");
    let (height, width, channels) = levels.dim();
    let bytes: Vec<u8> = levels.iter().map(|&level| byte(level, num_levels)).collect();
    let size = (width as u32, height as u32);
    let image = match channels {
        1 => image::GrayImage::from_raw(size.0, size.1, bytes).map(DynamicImage::from),
        _ => RgbImage::from_raw(size.0, size.1, bytes).map(DynamicImage::from),
    };
    image.context("as many bytes as pixels")
}

/// The PNG of an image in memory.
///
/// # Errors
/// None for an image that fits into memory twice.
pub fn png_bytes(image: &DynamicImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

fn write_png(path: &Path, image: &DynamicImage) -> Result<()> {
    Ok(write_atomic(path, &png_bytes(image)?)?)
}

/// Opens a picture of any format, within bounds of size and memory.
///
/// # Errors
/// One line with the file's name.
pub fn open_image(path: &Path) -> Result<DynamicImage> {
    decode::decode(&decode::read(path)?).with_context(|| path.display().to_string())
}

/// A picture of a shape `[H, W, C]` as levels, exactly; `hint` follows what is said of another size.
///
/// # Errors
/// As [`read_image`], and a picture of another size.
pub fn read_image_of(
    path: &Path,
    num_levels: u32,
    [height, width, channels]: [usize; 3],
    hint: &str,
) -> Result<Array3<u16>> {
    let image = open_image(path)?;
    ensure!(
        (image.width() as usize, image.height() as usize) == (width, height),
        "{}: has {} x {} pixels, the model's images {width} x {height}{hint}",
        path.display(),
        image.width(),
        image.height()
    );
    to_levels(path, &image, num_levels, channels)
}

/// A picture as levels `[H, W, C]`, exactly.
///
/// # Errors
/// A picture that cannot be read, or that these levels and channels cannot hold: it is refused, not rounded.
pub fn read_image(path: &Path, num_levels: u32, channels: usize) -> Result<Array3<u16>> {
    to_levels(path, &open_image(path)?, num_levels, channels)
}

fn to_levels(
    path: &Path,
    image: &DynamicImage,
    num_levels: u32,
    channels: usize,
) -> Result<Array3<u16>> {
    let name = path.display();
    ensure!(
        num_levels <= 256,
        "{name}: a picture of 8 bits cannot hold {num_levels} levels; use an .npy file"
    );
    if matches!(
        image.color(),
        image::ColorType::L16 | image::ColorType::Rgb16 | image::ColorType::Rgba16
    ) {
        bail!("{name}: has 16 bits a channel, but must have 8");
    }
    ensure!(
        !image.color().has_alpha() || image.to_rgba8().pixels().all(|pixel| pixel[3] == 255),
        "{name}: is transparent in places, which the model does not know"
    );
    let rgb = image.to_rgb8();
    let mut levels = Array3::zeros((rgb.height() as usize, rgb.width() as usize, channels));
    for (x, y, pixel) in rgb.enumerate_pixels() {
        if channels == 1 {
            ensure!(
                pixel[0] == pixel[1] && pixel[1] == pixel[2],
                "{name}: has colours, the model is grey"
            );
        }
        for channel in 0..channels {
            let value = pixel[channel];
            let level = (u32::from(value) * (num_levels - 1) + 127) / 255;
            ensure!(
                byte(level as u16, num_levels) == value,
                "{name}: the value {value} at row {y}, column {x} is none of the {num_levels} levels 0..=255 in equal steps"
            );
            levels[[y as usize, x as usize, channel]] = level as u16;
        }
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_survive_a_picture() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.png");
        for num_levels in [2, 3, 16, 17, 200, 256] {
            for channels in [1, 3] {
                let levels = Array3::from_shape_fn((20, 13, channels), |(y, x, c)| {
                    ((y * 39 + x * 3 + c) as u32 % num_levels) as u16
                });
                write_image(&path, levels.view(), num_levels)?;
                assert_eq!(read_image(&path, num_levels, channels)?, levels, "{num_levels} levels");
            }
        }
        Ok(())
    }

    #[test]
    fn what_the_levels_cannot_hold_is_refused() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.png");
        write_image(&path, Array3::from_elem((2, 2, 1), 7).view(), 256)?;
        let error = read_image(&path, 17, 1).unwrap_err().to_string();
        assert!(
            error.contains("the value 7 at row 0, column 0 is none of the 17 levels"),
            "{error}"
        );
        let mut colour = Array3::from_elem((2, 2, 3), 0);
        colour[[1, 1, 2]] = 1;
        write_image(&path, colour.view(), 2)?;
        assert!(read_image(&path, 2, 1).unwrap_err().to_string().contains("has colours"));
        Ok(())
    }

    #[test]
    fn a_sheet_holds_every_image_in_its_place() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.png");
        let levels = ndarray::Array4::from_shape_fn((5, 4, 6, 1), |(n, ..)| n as u16);
        write_sheet(&path, levels.view(), 5, 3)?;
        let sheet = open_image(&path)?.to_rgb8();
        assert_eq!(sheet.dimensions(), (3 * 74 + 2, 2 * 50 + 2));
        assert_eq!(sheet.get_pixel(2 + 74 + 5, 2 + 50 + 5)[0], 255, "the fifth image");
        assert_eq!(*sheet.get_pixel(2 + 2 * 74 + 5, 2 + 50 + 5), BACKGROUND, "no sixth");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_edit_of_a_picture_makes_the_reader_panic(at in 0usize..120, byte in any::<u8>(), cut in 0usize..60) {
            let image = to_image(Array3::from_elem((4, 4, 1), 1).view(), 2).unwrap();
            let mut bytes = png_bytes(&image).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.png");
            std::fs::write(&path, &bytes).unwrap();
            let _ = read_image(&path, 2, 1);
        }
    }
}
