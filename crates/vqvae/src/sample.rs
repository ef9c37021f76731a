//! Drawing codes from the top down, each level told the one above, and pictures of them.
//! Letters: B images, G codebooks, h rows and w columns of codes.

use anyhow::{Result, ensure};
use core_layers::sampling::Draws;
use ndarray::{Array2, Array4};
use pixelcnn::{
    data::{CodeMaps, Images},
    evaluate::context,
    model::{ImageContext, Model},
    sample::Drawing,
};
use tch::Tensor;

use crate::{
    data::{code_tensor, codes_of},
    trained::TrainedPipeline,
};

/// Codes to be drawn: how many, of which classes, and what is given of them.
#[derive(Debug)]
pub struct Request<'a> {
    /// Images B.
    pub count: usize,
    /// Their classes; none for priors that are told none.
    pub labels: Option<Vec<u32>>,
    /// Codes of one image, each level from the bottom up `[1, h, w, G]`, of which the rows above `rows` are given.
    pub given: Option<Given<'a>>,
}

/// What is given of a picture that is to be completed.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Codes of each level, from the bottom up.
    pub codes: &'a [Array4<u16>],
    /// Rows of pixels that are given.
    pub rows: usize,
}

/// Draws the codes of every level, the top one first: `[B, h, w, G]` each, from the bottom up. `tick` hears of every code.
///
/// # Errors
/// Priors that are missing, and a sampler that does not serve them.
pub fn draw_codes(
    trained: &TrainedPipeline,
    request: &Request<'_>,
    drawing: &Drawing,
    draws: Draws,
    tick: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Array4<u16>>> {
    ensure!(!trained.priors.is_empty(), "the priors are not trained yet");
    let mut above: Option<Array4<u16>> = None;
    let mut levels = Vec::new();
    for (level, prior) in trained.priors.iter().enumerate().rev() {
        let image = prior.model.config().image();
        let context =
            level_context(trained, level, request.labels.as_deref(), above.as_ref(), request.count);
        let mut symbols = Array2::zeros((request.count, image.dims() as usize));
        let mut known = 0;
        if let Some(Given { codes, rows }) = request.given {
            known = known_codes(trained, level, rows);
            for mut row in symbols.outer_iter_mut() {
                for (to, &code) in row.iter_mut().zip(&codes[level]).take(known) {
                    *to = u32::from(code);
                }
            }
        }
        drawing.draw(&prior.model, &context, &mut symbols, Draws { known, ..draws }, tick)?;
        let codes = to_codes(&prior.model, &symbols);
        above = Some(codes.clone());
        levels.push(codes);
    }
    levels.reverse();
    Ok(levels)
}

/// Codes of a level that lie wholly in the first `rows` rows of pixels, in the order in which they are drawn.
pub fn known_codes(trained: &TrainedPipeline, level: usize, rows: usize) -> usize {
    let config = trained.autoencoder.model.config();
    let (height, width) = config.sizes()[level];
    let pixels = (config.height / height) as usize;
    rows / pixels * (width * config.quantiser.codebooks) as usize
}

/// What the prior of a level is told: the classes it wants, and the codes above it `[B, h, w, G]`.
pub fn level_context(
    trained: &TrainedPipeline,
    level: usize,
    labels: Option<&[u32]>,
    above: Option<&Array4<u16>>,
    count: usize,
) -> ImageContext {
    let mut images = Images::new(Array4::zeros((count, 0, 0, 0)), labels.map(<[u32]>::to_vec));
    images.maps =
        above.map(|codes| CodeMaps { codes: codes.clone(), vectors: trained.vectors(level + 1) });
    context(&trained.priors[level].model, &images, &(0..count).collect::<Vec<_>>())
}

/// Symbols `[B, h w G]` of a prior as codes `[B, h, w, G]`.
pub fn to_codes(prior: &Model, symbols: &Array2<u32>) -> Array4<u16> {
    let image = prior.config().image();
    let [h, w, g] = [image.height, image.width, image.colours].map(|size| size as usize);
    let codes = symbols.iter().map(|&symbol| symbol as u16).collect();
    Array4::from_shape_vec((symbols.nrows(), h, w, g), codes).expect("as many codes as symbols")
}

/// The pictures of codes, each level from the bottom up `[B, h, w, G]`: levels `[B, H, W, C]`.
pub fn decode(trained: &TrainedPipeline, codes: &[Array4<u16>]) -> Array4<u16> {
    const BATCH: usize = 32;
    let model = &trained.autoencoder.model;
    let device = trained.autoencoder.vs.device();
    let config = model.config();
    let count = codes[0].dim().0;
    let shape = [config.height, config.width, config.colours].map(|size| size as usize);
    let mut all = Vec::with_capacity(count * shape.iter().product::<usize>());
    for start in (0..count).step_by(BATCH) {
        let rows: Vec<usize> = (start..(start + BATCH).min(count)).collect();
        let part: Vec<Tensor> = codes
            .iter()
            .map(|it| code_tensor(&it.select(ndarray::Axis(0), &rows)).to_device(device))
            .collect();
        let levels = tch::no_grad(|| model.levels(&model.decode(&part)));
        all.extend(codes_of(&levels));
    }
    Array4::from_shape_vec((count, shape[0], shape[1], shape[2]), all)
        .expect("as many values as images have")
}

#[cfg(test)]
mod tests;
