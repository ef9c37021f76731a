//! Picture files to pixels, and pixels to fewer pixels.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageReader, Limits, Rgb, RgbImage,
};
use ndarray::Array3;

/// Name and version of the decoders, part of a set's hash.
pub(super) const DECODER: &str = "image/0.25";

/// Longest side that is decoded, pixels.
const MAX_PIXELS: u32 = 16_384;
/// Largest file and largest decoded picture, bytes.
const MAX_FILE: u64 = 1 << 28;
const MAX_DECODED: u64 = 1 << 30;

/// Reads a file whole, unless it is larger than a picture may be.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let name = || path.display().to_string();
    let file = fs::metadata(path).with_context(name)?;
    // asked first, since a pipe would block and a device never ends
    ensure!(file.is_file(), "{}: it is not a regular file", name());
    let len = file.len();
    ensure!(len <= MAX_FILE, "{}: it has {len} bytes, but must have at most {MAX_FILE}", name());
    fs::read(path).with_context(name)
}

/// Decodes a picture in any format that its first bytes announce, and turns it upright; its declared size is checked
/// before anything is allocated for it.
pub(super) fn decode(content: &[u8]) -> Result<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(content)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_PIXELS);
    limits.max_image_height = Some(MAX_PIXELS);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let broken = |error: ImageError| {
        let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        anyhow!(words).context("not a picture that can be read")
    };
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let bytes = decoder.total_bytes();
    ensure!(bytes <= MAX_DECODED, "{bytes} bytes of pixels, but must have at most {MAX_DECODED}");
    ensure!(bytes > 0, "a picture without pixels");
    // a broken note on how the camera was held is no reason to refuse the picture
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Eight bits of red, green and blue; what is transparent shows white.
pub(super) fn on_white(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let rgba = image.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, alpha] = rgba.get_pixel(x, y).0.map(u32::from);
        Rgb([r, g, b].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}

/// Whether red, green and blue are the same everywhere.
pub(super) fn is_grey(image: &RgbImage) -> bool {
    image.pixels().all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2])
}

/// The largest square in the middle.
pub(super) fn centre(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let side = width.min(height);
    image::imageops::crop_imm(image, (width - side) / 2, (height - side) / 2, side, side).to_image()
}

/// Each new pixel is the mean of the area it covers, in whole numbers: the same on every machine.
pub(super) fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    let columns = shares(image.width(), width);
    let rows = shares(image.height(), height);
    let area = u64::from(image.width()) * u64::from(image.height());
    RgbImage::from_fn(width, height, |x, y| {
        let mut sums = [area / 2; 3];
        for &(row, tall) in &rows[y as usize] {
            for &(column, wide) in &columns[x as usize] {
                let pixel = image.get_pixel(column, row).0;
                sums.iter_mut()
                    .zip(pixel)
                    .for_each(|(sum, value)| *sum += tall * wide * u64::from(value));
            }
        }
        Rgb(sums.map(|sum| (sum / area) as u8))
    })
}

/// For each of `to` new cells, the old ones it covers and how much of each, in units of which a new cell has `from`.
fn shares(from: u32, to: u32) -> Vec<Vec<(u32, u64)>> {
    let (old, new) = (u64::from(from), u64::from(to));
    let cell = |x: u64| {
        let covered = x * old / new..((x + 1) * old).div_ceil(new);
        let share =
            |i: u64| (i as u32, ((x + 1) * old).min((i + 1) * new) - (x * old).max(i * new));
        covered.map(share).collect()
    };
    (0..new).map(cell).collect()
}

/// Levels `[H, W, C]` of pixels: three channels, or one of brightness where `grey`.
pub(super) fn levels(image: &RgbImage, grey: bool) -> Array3<u16> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let values: Vec<u16> = if grey {
        let luma: GrayImage = DynamicImage::ImageRgb8(image.clone()).to_luma8();
        luma.into_raw().into_iter().map(u16::from).collect()
    } else {
        image.as_raw().iter().map(|&value| u16::from(value)).collect()
    };
    let channels = if grey { 1 } else { 3 };
    Array3::from_shape_vec((height, width, channels), values).expect("a picture has H W C values")
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resizing_keeps_the_mean_and_halves_exactly() {
        let image = RgbImage::from_fn(4, 2, |x, y| Rgb([(x * 10 + y * 100) as u8, 7, 255]));
        let half = resize(&image, 2, 1);
        assert_eq!(half.get_pixel(0, 0).0, [55, 7, 255]);
        assert_eq!(half.get_pixel(1, 0).0, [75, 7, 255]);
        let thirds = resize(&RgbImage::from_fn(3, 3, |x, _| Rgb([x as u8 * 90, 0, 9])), 2, 2);
        // columns 0, 90, 180: the first new one covers 2/3 of the first and 1/3 of the second
        assert_eq!((thirds.get_pixel(0, 0).0, thirds.get_pixel(1, 1).0), ([30, 0, 9], [150, 0, 9]));
    }

    #[test]
    fn transparent_pixels_show_white() {
        let image = RgbaImage::from_fn(3, 1, |x, _| Rgba([0, 100, 200, [0, 255, 51][x as usize]]));
        let seen: Vec<_> =
            on_white(&DynamicImage::ImageRgba8(image)).pixels().map(|pixel| pixel.0).collect();
        assert_eq!(seen, [[255, 255, 255], [0, 100, 200], [204, 224, 244]]);
    }

    #[test]
    fn a_huge_declared_size_is_refused() {
        let mut png = Vec::new();
        GrayImage::new(3, 3).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        assert!(decode(&png).is_err());
        let pnm = b"P6 999999999 999999999 255\n".to_vec();
        assert!(decode(&pnm).is_err());
    }

    #[test]
    fn a_camera_held_upright_gives_a_picture_held_upright() {
        let mut jpeg = Vec::new();
        let image = RgbImage::new(16, 8);
        image.write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg).unwrap();
        assert_eq!(decode(&jpeg).unwrap().width(), 16);
        // APP1: Exif, little endian, one entry: orientation 6, a quarter turn
        let mut exif = b"\xff\xe1\x00\x22Exif\0\0II\x2a\0\x08\0\0\0\x01\0".to_vec();
        exif.extend(b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0");
        jpeg.splice(2..2, exif);
        assert_eq!(decode(&jpeg).unwrap().width(), 8);
    }

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let refusal = format!("{:#}", read(Path::new("/dev/zero")).unwrap_err());
        assert_eq!(refusal, "/dev/zero: it is not a regular file");
    }

    fn pictures() -> Vec<Vec<u8>> {
        let formats = [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::Tiff,
        ];
        let image = RgbImage::from_fn(9, 5, |x, y| Rgb([x as u8 * 20, y as u8 * 40, 99]));
        let encode = |format| {
            let mut content = Vec::new();
            image.write_to(&mut Cursor::new(&mut content), format).unwrap();
            content
        };
        formats.into_iter().map(encode).collect()
    }

    proptest! {
        #[test]
        fn an_edited_picture_is_read_or_refused_not_panicked_at(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut: prop::sample::Index,
        ) {
            for mut content in pictures() {
                for (at, byte) in &edits {
                    let at = at.index(content.len());
                    content[at] = *byte;
                }
                let _ = decode(&content);
                content.truncate(cut.index(content.len()));
                let _ = decode(&content);
            }
        }
    }
}
