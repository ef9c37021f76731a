//! What a network says while it learns: a WAV file and its spectrogram at each save.

use anyhow::{Context as _, Result};
use core_layers::{device::physical_cores, plot::spectrogram, run::RunFolder};

use crate::{
    config::Run,
    data::{Dataset, wav},
    evaluate,
    model::{SoundContext, WaveNet},
    sample::speak,
};

/// Clips of the run's `num_samples` voices, one after the other, in `samples/`; speakers in turn, conditions those of
/// validation clips.
pub(super) fn draw(
    run: &Run,
    model: &WaveNet,
    dataset: &Dataset,
    folder: &RunFolder,
    step: u64,
) -> Result<()> {
    let rows = run.train.num_samples;
    if rows == 0 {
        return Ok(());
    }
    let mut samples = dataset.sample_rate as usize;
    let mut context = SoundContext::none(rows);
    if run.model.features > 0 {
        let clips: Vec<_> =
            (0..rows).map(|row| dataset.valid[row % dataset.valid.len()].clone()).collect();
        samples = clips.iter().map(|clip| clip.levels.len()).max().unwrap_or(0).min(3 * samples);
        context = evaluate::whole(&clips, &run.model);
    } else if run.model.speakers > 0 {
        context = context
            .with_speakers((0..rows as u32).map(|row| row % run.model.speakers as u32).collect());
    }
    let threads = if run.train.threads == 0 { physical_cores() } else { run.train.threads };
    let levels = speak(model, &context, samples, run.train.seed, threads)?;
    let quantizer = run.data.quantizer();
    let sound: Vec<f32> = levels.iter().map(|&level| quantizer.decode(level as u16)).collect();
    let samples = folder.file("samples");
    std::fs::create_dir_all(&samples).with_context(|| samples.display().to_string())?;
    let name = samples.join(format!("step-{step:06}"));
    wav::write(&name.with_extension("wav"), &sound, dataset.sample_rate)?;
    spectrogram(&name.with_extension("png"), &sound, dataset.sample_rate)
}
