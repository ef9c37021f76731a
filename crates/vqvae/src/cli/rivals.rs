//! What JPEG and WebP make of the same images in as many bytes.

use std::fmt;

use anyhow::{Context as _, Result};
use image::{RgbImage, codecs::jpeg::JpegEncoder};
use ndarray::{Array3, Array4, s};
use pixelcnn::data::to_image;
use serde_json::{Value, json};

/// One way to keep images: bytes, and what was lost.
#[derive(Debug)]
struct Kept {
    name: String,
    bytes: usize,
    psnr: f64,
}

/// A comparison at the size of our file.
#[derive(Debug)]
pub(super) struct Rivals {
    pixels: usize,
    kept: Vec<Kept>,
}

impl Rivals {
    /// What our file of `bytes` bytes lost (`back` for `levels`, both `[N, H, W, C]`), and where `others`, what JPEG and WebP
    /// lose at the quality whose file is the largest that is not larger than ours, or their smallest.
    pub(super) fn measure(
        levels: &Array4<u16>,
        back: &Array4<u16>,
        num_levels: u32,
        bytes: usize,
        others: bool,
    ) -> Result<Self> {
        let (count, h, w, _) = levels.dim();
        let [given, ours] = [sheet(levels, num_levels)?, sheet(back, num_levels)?];
        let mut kept = vec![Kept { name: "VQ-VAE".into(), bytes, psnr: psnr(&given, &ours) }];
        if others {
            kept.push(closest("JPEG", bytes, &given, jpeg)?);
            kept.push(closest("WebP", bytes, &given, webp)?);
        }
        Ok(Self { pixels: count * h * w, kept })
    }

    pub(super) fn to_json(&self) -> Value {
        let one = |it: &Kept| {
            let bits = 8. * it.bytes as f64 / self.pixels as f64;
            json!({"name": it.name, "bytes": it.bytes, "bits_per_pixel": bits, "psnr_db": it.psnr})
        };
        let ours = one(&self.kept[0]);
        let others: Vec<Value> = self.kept[1..].iter().map(one).collect();
        let mut value = ours;
        value["rivals"] = json!(others);
        value
    }
}

impl fmt::Display for Rivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Kept { name, bytes, psnr }) in self.kept.iter().enumerate() {
            let bits = 8. * *bytes as f64 / self.pixels as f64;
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}  {name:<30} {bytes:>9} bytes  {bits:.4} bits/pixel  {psnr:.2} dB")?;
        }
        Ok(())
    }
}

/// All images side by side without gaps.
fn sheet(levels: &Array4<u16>, num_levels: u32) -> Result<RgbImage> {
    let (count, h, w, c) = levels.dim();
    let columns = (count as f64).sqrt().ceil() as usize;
    let mut sheet = Array3::zeros((count.div_ceil(columns) * h, columns * w, c));
    for (index, image) in levels.outer_iter().enumerate() {
        let (top, left) = (index / columns * h, index % columns * w);
        sheet.slice_mut(s![top..top + h, left..left + w, ..]).assign(&image);
    }
    Ok(to_image(sheet.view(), num_levels)?.to_rgb8())
}

/// `-10 log10` of the mean squared error, values in `[0, 1]`.
fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let square = |(&a, &b): (&u8, &u8)| ((f64::from(a) - f64::from(b)) / 255.).powi(2);
    let sum: f64 = a.as_raw().iter().zip(b.as_raw()).map(square).sum();
    -10. * (sum / a.as_raw().len() as f64).log10()
}

type Codec = fn(&RgbImage, u8) -> Result<(usize, RgbImage)>;

/// The quality whose file is the largest that is not larger than `bytes`, or the smallest there is.
fn closest(name: &str, bytes: usize, sheet: &RgbImage, codec: Codec) -> Result<Kept> {
    let (mut low, mut high) = (1_u8, 100);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if codec(sheet, middle)?.0 <= bytes {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let (found, back) = codec(sheet, low)?;
    let smallest = if found > bytes { ", its smallest" } else { "" };
    Ok(Kept {
        name: format!("{name}, quality {low}{smallest}"),
        bytes: found,
        psnr: psnr(sheet, &back),
    })
}

fn jpeg(sheet: &RgbImage, quality: u8) -> Result<(usize, RgbImage)> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(sheet)?;
    let back = image::load_from_memory_with_format(&bytes, image::ImageFormat::Jpeg)?;
    Ok((bytes.len(), back.to_rgb8()))
}

fn webp(sheet: &RgbImage, quality: u8) -> Result<(usize, RgbImage)> {
    let encoder = webp::Encoder::from_rgb(sheet.as_raw(), sheet.width(), sheet.height());
    let bytes = encoder.encode(f32::from(quality) - 1.);
    let back = webp::Decoder::new(&bytes).decode().context("WebP cannot read what it wrote")?;
    let back =
        RgbImage::from_raw(back.width(), back.height(), rgb(&back)).context("as many pixels")?;
    Ok((bytes.len(), back))
}

/// Red, green and blue of an image that may have a fourth channel.
fn rgb(image: &webp::WebPImage) -> Vec<u8> {
    let channels = if image.is_alpha() { 4 } else { 3 };
    image.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rivals_keep_a_smooth_picture_well_and_no_larger_than_they_may() -> Result<()> {
        let smooth = Array4::from_shape_fn((4, 32, 32, 3), |(n, y, x, c)| {
            (40 * n + 3 * y + 2 * x * (c + 1) / 2) as u16
        });
        let sheet = sheet(&smooth, 256)?;
        for (name, codec) in [("JPEG", jpeg as Codec), ("WebP", webp)] {
            let best = closest(name, usize::MAX, &sheet, codec)?;
            assert!(best.psnr > 38., "{best:?}");
            let small = closest(name, best.bytes / 2, &sheet, codec)?;
            assert!(small.bytes <= best.bytes / 2 && small.psnr > 25., "{small:?}");
            println!("{best:?} {small:?}");
        }
        Ok(())
    }
}
