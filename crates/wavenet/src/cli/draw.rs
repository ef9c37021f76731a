//! What drawing commands share: flags, engines, the files that they write.

use std::{
    io::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use core_layers::{
    ConfigError, Engine,
    autocast::Precision,
    cli::{self, ModelArgs},
    device::physical_cores,
    plain::Plain,
    plot::spectrogram,
    run::Ticker,
    sampling::{Draws, SamplingConfig, draw, draw_in_parallel, draw_while},
};
use ndarray::{Array2, ArrayView2};
use tch::{Device, Kind};

use super::{sampler::Sampler, speaker};
use crate::{
    data::{self, Condition, wav},
    model::{Clips, SoundContext},
    sample::{self, CachedEngine, CudaEngine, ExactEngine, FastEngine},
    trained::Trained,
};

/// What drawing commands share.
#[derive(Debug, Args)]
pub(super) struct DrawArgs {
    /// Clips to draw.
    #[arg(long, default_value_t = 1)]
    pub(super) count: usize,
    /// Length of a clip, seconds [default: 2, or what --mel, --features or --text is long].
    #[arg(long)]
    seconds: Option<f64>,
    /// Who speaks, by number or name; without it, all in turn.
    #[arg(long)]
    speaker: Option<String>,
    /// A WAV file; of several clips NAME-1.wav, NAME-2.wav, ...
    #[arg(long, value_name = "WAV")]
    out: Option<PathBuf>,
    /// A picture of the spectrogram of all clips, one after the other.
    #[arg(long, value_name = "PNG")]
    spectrogram: Option<PathBuf>,
    /// The levels as an array `[count, samples]`.
    #[arg(long, value_name = "NPY")]
    npy: Option<PathBuf>,
    #[command(flatten)]
    config: SamplingConfig,
    /// Seed; one gives the same sound for any batch, threads and sampler, up to rounding between samplers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How samples are drawn [default: exact on the CPU, cuda on a GPU, cached where that cannot be].
    #[arg(long, value_enum)]
    sampler: Option<Sampler>,
    /// A recording whose log-mel spectrogram is spoken again: for a vocoder.
    #[arg(long, value_name = "WAV", conflicts_with_all = ["text", "features"])]
    mel: Option<PathBuf>,
    /// What is said: for a network told the characters.
    #[arg(long, conflicts_with = "features")]
    text: Option<String>,
    /// Features `[frames, F]`: for a network told those of .npy files.
    #[arg(long, value_name = "NPY")]
    features: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// Seconds of a clip where nothing says how long it is.
const SECONDS: f64 = 2.;
/// Characters spoken in a second.
const CHARACTERS_PER_SECOND: f64 = 14.;

/// A network, and on what it draws.
pub(super) struct Drawing<'t> {
    pub(super) trained: &'t Trained,
    pub(super) device: Device,
    pub(super) args: &'t ModelArgs,
}

impl<'t> Drawing<'t> {
    fn kernels(&self, asked: Option<Sampler>, samples: usize) -> Result<Option<CudaEngine<'t>>> {
        let kind = match self.args.precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let new = || CudaEngine::new(&self.trained.model, samples, kind, self.device);
        Sampler::kernels(asked, self.device, new)
    }
}

/// Symbols `[B, T]` as samples, clip by clip.
pub(super) fn sound(trained: &Trained, symbols: ArrayView2<'_, u32>) -> Vec<Vec<f32>> {
    let quantizer = trained.about.run.data.quantizer();
    let one = |row: ndarray::ArrayView1<'_, u32>| {
        row.iter().map(|&it| quantizer.decode(it as u16)).collect()
    };
    symbols.outer_iter().map(one).collect()
}

impl DrawArgs {
    pub(super) fn validate(&self, stream: bool) -> Result<()> {
        self.config.validate()?;
        ConfigError::ensure((1..=4096).contains(&self.count), "--count", self.count, "1 to 4096")?;
        ConfigError::ensure(!stream || self.count == 1, "--count", self.count, "1 with --stream")?;
        if let Some(seconds) = self.seconds {
            let fits = seconds > 0. && seconds <= 3600.;
            ConfigError::ensure(fits, "--seconds", seconds, "above 0 and at most 3600")?;
        }
        for (flag, path) in [("--out", &self.out), ("--npy", &self.npy)] {
            path.iter().try_for_each(|path| cli::ensure_file(flag, path))?;
        }
        self.spectrogram.iter().try_for_each(|path| cli::ensure_png("--spectrogram", path))?;
        let wanted =
            stream || self.out.is_some() || self.npy.is_some() || self.spectrogram.is_some();
        let rule =
            ConfigError::new("--out", "missing", "given, or --npy, --spectrogram or --stream");
        if wanted { Ok(()) } else { Err(rule.into()) }
    }

    /// The features of the local condition that the network needs.
    pub(super) fn read_features(&self, trained: &Trained) -> Result<Option<Array2<f32>>> {
        let (data, config) = (&trained.about.run.data, trained.model.config());
        let hop = config.hop as usize;
        let needs = |flag: &str, what: &str| {
            ConfigError::new(flag, "missing", format!("given: the model is told {what}"))
        };
        Ok(match (data.condition, &self.mel, &self.text, &self.features) {
            (Condition::None, None, None, None) => None,
            (Condition::Mel, Some(path), ..) => {
                let sound = wav::read(path)?.resampled(trained.model.sample_rate())?;
                Some(data::mel(
                    &sound.samples,
                    trained.model.sample_rate(),
                    hop,
                    config.features as usize,
                ))
            }
            (Condition::Characters, _, Some(text), _) => {
                let seconds = self
                    .seconds
                    .unwrap_or((text.chars().count() as f64 / CHARACTERS_PER_SECOND).max(0.5));
                let samples = of_seconds(seconds, trained);
                Some(data::characters(text, data::num_frames(samples, hop)))
            }
            (Condition::Npy, .., Some(path)) => {
                let features = data::read_frames(path)?;
                ensure!(
                    features.ncols() as i64 == config.features,
                    "{}: has {} features a frame, the model needs {}",
                    path.display(),
                    features.ncols(),
                    config.features
                );
                Some(features)
            }
            (Condition::None, mel, text, _) => {
                let flag = if mel.is_some() { "--mel" } else { "--features" };
                let flag = if text.is_some() { "--text" } else { flag };
                let rule = "left out: the model is told nothing but the past";
                bail!(ConfigError::new(flag, "given", rule))
            }
            (Condition::Mel, ..) => bail!(needs("--mel", "a log-mel spectrogram")),
            (Condition::Characters, ..) => bail!(needs("--text", "the characters")),
            (Condition::Npy, ..) => bail!(needs("--features", "features of .npy files")),
        })
    }

    /// Samples of a clip: as many seconds as were asked for, or as there are features.
    pub(super) fn samples(
        &self,
        trained: &Trained,
        features: Option<&Array2<f32>>,
    ) -> Result<usize> {
        let Some(features) = features else {
            return Ok(of_seconds(self.seconds.unwrap_or(SECONDS), trained).max(1));
        };
        let hop = trained.model.config().hop as usize;
        let all = features.nrows() * hop;
        let samples = self.seconds.map_or(all, |seconds| of_seconds(seconds, trained));
        ensure!(
            (1..=all).contains(&samples),
            "--seconds asks for {samples} samples, but {} frames of {hop} samples are {all}",
            features.nrows()
        );
        Ok(samples)
    }

    /// Who speaks in each clip, and its features.
    pub(super) fn context(
        &self,
        trained: &Trained,
        features: Option<&Array2<f32>>,
    ) -> Result<SoundContext> {
        let speakers = trained.model.config().speakers as u32;
        let mut context = SoundContext::none(self.count);
        let chosen = self.speaker.as_deref().map(|text| speaker(text, trained)).transpose()?;
        if speakers > 0 {
            let of_row = |row: usize| chosen.unwrap_or(row as u32 % speakers);
            context = context.with_speakers((0..self.count).map(of_row).collect());
        }
        if let Some(features) = features {
            context = context.with_features(&vec![features.view(); self.count]);
        }
        Ok(context)
    }

    /// Draws what is not known of `symbols` `[B, T]`.
    pub(super) fn run(
        &self,
        on: &Drawing<'_>,
        context: &SoundContext,
        symbols: &mut Array2<u32>,
        known: usize,
    ) -> Result<()> {
        let draws = Draws { config: self.config, seed: self.seed, known };
        let ticker = Ticker::new("speak", symbols.len(), self.quiet);
        let tick = |count: usize| ticker.tick(count);
        let (model, samples, threads) = (&on.trained.model, symbols.ncols(), on.args.threads());
        let xs = symbols.view_mut();
        if let Some(engine) = on.kernels(self.sampler, samples)? {
            let mut tick = |column: &[u32]| {
                tick(column.len());
                ControlFlow::Continue(())
            };
            return engine.draw(context, xs, draws, &mut tick);
        }
        match self.sampler.unwrap_or_else(|| Sampler::usual(on.device)) {
            Sampler::Exact => {
                draw_in_parallel(
                    &ExactEngine::new(model, samples)?,
                    context,
                    xs,
                    draws,
                    threads,
                    &tick,
                );
            }
            Sampler::Fast => {
                draw_in_parallel(
                    &FastEngine::new(model, samples)?,
                    context,
                    xs,
                    draws,
                    threads,
                    &tick,
                );
            }
            Sampler::Cuda => unreachable!("it has drawn, or was refused"),
            Sampler::Cached => {
                let engine = CachedEngine::new(model, samples, on.device);
                let _autocast = on.args.precision.autocast(on.device);
                draw(engine.stepper(context).as_mut(), engine.layout(), xs, 0, draws, &tick);
            }
            Sampler::Plain => {
                let clips = Clips { model, samples };
                let engine = Plain::new(&clips, on.device);
                let _autocast = on.args.precision.autocast(on.device);
                draw(engine.stepper(context).as_mut(), engine.layout(), xs, 0, draws, &tick);
            }
        }
        Ok(())
    }

    /// Writes one clip to stdout, 20 ms at a time.
    pub(super) fn stream(
        &self,
        on: &Drawing<'_>,
        context: &SoundContext,
        samples: usize,
    ) -> Result<()> {
        let draws = Draws { config: self.config, seed: self.seed, known: 0 };
        let rate = on.trained.model.sample_rate();
        let quantizer = on.trained.about.run.data.quantizer();
        let mut out = std::io::stdout().lock();
        wav::write_stream_header(&mut out, rate).context("stdout")?;
        let (model, mut block, mut written) = (&on.trained.model, Vec::new(), 0);
        let mut failure = None;
        let mut each = |column: &[u32]| {
            block.extend(column.iter().map(|&it| quantizer.decode(it as u16)));
            if block.len() < (rate / 50) as usize && written + block.len() < samples {
                return ControlFlow::Continue(());
            }
            let result = wav::write_stream(&mut out, &block).and_then(|()| out.flush());
            written += block.len();
            block.clear();
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let mut xs = Array2::zeros((1, samples));
        let mut go = |engine: &dyn Engine<Context = SoundContext>| {
            draw_while(
                engine.stepper(context).as_mut(),
                engine.layout(),
                xs.view_mut(),
                0,
                draws,
                &mut each,
            );
        };
        let kernels = on.kernels(self.sampler, samples)?;
        let sampler = self.sampler.unwrap_or_else(|| Sampler::usual(on.device));
        let full = kernels.is_none() && matches!(sampler, Sampler::Cached | Sampler::Plain);
        let _autocast = full.then(|| on.args.precision.autocast(on.device));
        match (kernels, sampler) {
            (Some(engine), _) => engine.draw(context, xs.view_mut(), draws, &mut each)?,
            (None, Sampler::Exact) => go(&ExactEngine::new(model, samples)?),
            (None, Sampler::Fast) => go(&FastEngine::new(model, samples)?),
            (None, Sampler::Cached) => go(&CachedEngine::new(model, samples, on.device)),
            (None, Sampler::Plain) => go(&Plain::new(&Clips { model, samples }, on.device)),
            (None, Sampler::Cuda) => unreachable!("it is there, or was refused"),
        }
        match failure {
            Some(error) => Err(anyhow!(
                "stdout: {error}, after {:.1} of {:.1} seconds",
                written as f64 / f64::from(rate),
                samples as f64 / f64::from(rate)
            )),
            None => Ok(()),
        }
    }

    /// Writes what was asked for.
    pub(super) fn write(
        &self,
        symbols: &Array2<u32>,
        sounds: &[Vec<f32>],
        rate: u32,
    ) -> Result<()> {
        if let Some(path) = &self.out {
            for (index, sound) in sounds.iter().enumerate() {
                let path = if sounds.len() == 1 { path.clone() } else { numbered(path, index + 1) };
                wav::write(&path, sound, rate)?;
                println!("{}", path.display());
            }
        }
        if let Some(path) = &self.spectrogram {
            spectrogram(path, &sounds.concat(), rate)?;
            println!("{}", path.display());
        }
        if let Some(path) = &self.npy {
            data::write_npy(path, symbols.view())?;
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// Samples of so many seconds.
fn of_seconds(seconds: f64, trained: &Trained) -> usize {
    (seconds * f64::from(trained.model.sample_rate())).round() as usize
}

/// `x.wav` as `x-3.wav`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().map(|it| format!(".{}", it.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{number}{end}"))
}

/// Clips of the model's own distribution by the exact engine: what the demo plays.
pub(super) fn speak(
    trained: &Trained,
    context: &SoundContext,
    seconds: f64,
    seed: u64,
) -> Result<Vec<Vec<f32>>> {
    let samples = (seconds * f64::from(trained.model.sample_rate())) as usize;
    let symbols = sample::speak(&trained.model, context, samples, seed, physical_cores())?;
    Ok(sound(trained, symbols.view()))
}
