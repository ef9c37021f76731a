//! What a model draws while it learns.

use anyhow::Result;
use core_layers::{
    Engine as _,
    run::RunFolder,
    sampling::{Draws, SamplingConfig, draw_in_parallel},
};
use ndarray::{Array2, Array4};

use crate::{
    config::Input,
    data,
    model::{ImageContext, Model},
    sample::ExactEngine,
};

/// Draws `count` images by the weights in use, always from the same uniform numbers, and writes them as
/// `samples/step-STEP.png`. Classes are drawn in turn. A model of codes, or of a context map, draws none: what they mean is known
/// elsewhere.
pub(super) fn draw(model: &Model, folder: &RunFolder, step: u64, count: usize) -> Result<()> {
    let image = model.config().image();
    let of_codes = image.input != Input::Ordinal || model.config().context_channels() > 0;
    if count == 0 || of_codes {
        return Ok(());
    }
    let context = match model.config().classes() {
        0 => ImageContext::none(count),
        classes => ImageContext::labels((0..count as u32).map(|i| i % classes as u32).collect()),
    };
    let engine = ExactEngine::new(model)?;
    let mut symbols = Array2::zeros((count, engine.layout().len()));
    let draws = Draws { config: SamplingConfig::default(), seed: 0, known: 0 };
    let threads = tch::get_num_threads().max(1) as usize;
    draw_in_parallel(&engine, &context, symbols.view_mut(), draws, threads, &|_| {});
    let shape = (count, image.height as usize, image.width as usize, image.colours as usize);
    let levels = symbols.iter().map(|&symbol| symbol as u16).collect();
    let levels = Array4::from_shape_vec(shape, levels).expect("as many symbols as levels");
    let columns = match model.config().classes() as usize {
        0 => (count as f64).sqrt().ceil() as usize,
        classes => classes.min(count),
    };
    std::fs::create_dir_all(folder.file("samples"))?;
    let path = folder.file(&format!("samples/step-{step:06}.png"));
    data::write_sheet(&path, levels.view(), image.levels as u32, columns)
}
