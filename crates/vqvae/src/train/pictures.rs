//! What an autoencoder makes of images while it learns.

use anyhow::Result;
use core_layers::run::RunFolder;
use ndarray::{Array4, Axis, concatenate};
use pixelcnn::data::{Images, write_sheet};

use crate::evaluate::Reconstructed;

/// Writes the first `count` images above what came back of them as `samples/step-STEP.png`.
pub(super) fn reconstructions(
    folder: &RunFolder,
    step: u64,
    images: &Images,
    done: &Reconstructed,
    num_levels: u32,
    count: usize,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    std::fs::create_dir_all(folder.file("samples"))?;
    let sheet = pairs(&images.levels, &done.levels, count);
    write_sheet(
        &folder.file(&format!("samples/step-{step:06}.png")),
        sheet.view(),
        num_levels,
        count,
    )
}

/// A row of the first `count` images, and under it what came back of them.
pub(crate) fn pairs(images: &Array4<u16>, back: &Array4<u16>, count: usize) -> Array4<u16> {
    let rows: Vec<usize> = (0..count).collect();
    let [above, below] = [images, back].map(|it| it.select(Axis(0), &rows));
    concatenate(Axis(0), &[above.view(), below.view()]).expect("images of one shape")
}
