//! How probable clips are. Letters: B windows, T samples.

use core_layers::{Context as _, likelihood::Tally};
use ndarray::Array2;
use tch::{Device, Kind, Tensor};

use crate::{
    config::WaveNetConfig,
    data::{Clip, Dataset, Window, windows},
    model::{MARGIN, SoundContext, WaveNet},
};

/// Samples of a window that count: enough that the receptive field before them costs little.
const WINDOW: usize = 16_384;

/// Windows side by side, the shorter ones followed by level 0.
#[derive(Debug)]
pub(crate) struct Batch {
    xs: Tensor,     // [B, T]
    counts: Tensor, // [B, T], 1 where a prediction counts
    context: SoundContext,
    /// Predictions that count.
    pub(crate) samples: usize,
}

impl Batch {
    /// The `windows` of `clips` for a network of `config`.
    pub(crate) fn new(
        clips: &[Clip],
        windows: &[Window],
        config: &WaveNetConfig,
        device: Device,
    ) -> Self {
        let rows = windows.len();
        let time = windows.iter().map(|it| it.to - it.start).max().unwrap_or(0);
        let mut xs = Array2::<i64>::zeros((rows, time));
        let mut counts = Array2::<f32>::zeros((rows, time));
        for (row, it) in windows.iter().enumerate() {
            let read = &clips[it.clip].levels[it.start..it.to];
            for (to, &from) in xs.row_mut(row).iter_mut().zip(read) {
                *to = i64::from(from);
            }
            counts.slice_mut(ndarray::s![row, it.from - it.start..it.to - it.start]).fill(1.);
        }
        let sizes = [rows as i64, time as i64];
        let flat = |xs: Tensor| xs.reshape(sizes).to_device(device);
        Self {
            xs: flat(Tensor::from_slice(xs.as_slice().unwrap_or_default())),
            counts: flat(Tensor::from_slice(counts.as_slice().unwrap_or_default())),
            context: context(clips, windows, config, time),
            samples: windows.iter().map(|it| it.to - it.from).sum(),
        }
    }

    /// Nats of the predictions that count, in each window `[B]`; `train` lets dropout act.
    pub(crate) fn nats(&self, model: &WaveNet, train: bool) -> Tensor {
        let conditionals = model.forward(&model.embed(&self.xs), &self.context, train);
        let log_prob = conditionals.log_prob(&self.xs) * &self.counts;
        -log_prob.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
    }

    /// The same as if other speakers spoke.
    fn spoken_by(mut self, speaker: u32) -> Self {
        let rows = self.context.rows();
        self.context = self.context.with_speakers(vec![speaker; rows]);
        self
    }
}

/// Speakers and features of windows of `time` samples at the most.
fn context(
    clips: &[Clip],
    windows: &[Window],
    config: &WaveNetConfig,
    time: usize,
) -> SoundContext {
    let mut context = SoundContext::none(windows.len());
    if config.speakers > 0 {
        context = context.with_speakers(windows.iter().map(|it| clips[it.clip].speaker).collect());
    }
    if config.features > 0 {
        let hop = config.hop as usize;
        let nothing = Array2::zeros((0, config.features as usize));
        let of_window = |it: &Window| {
            let features = clips[it.clip].features.as_ref().unwrap_or(&nothing);
            (features.view(), MARGIN as isize - (it.start / hop) as isize)
        };
        let all: Vec<_> = windows.iter().map(of_window).collect();
        context = context.with_windows(&all, time.div_ceil(hop) + 2 * MARGIN);
    }
    context
}

/// The context of whole clips, each with its length.
pub fn whole(clips: &[Clip], config: &WaveNetConfig) -> SoundContext {
    let lengths: Vec<usize> = clips.iter().map(|clip| clip.levels.len()).collect();
    let windows: Vec<Window> = (0..clips.len())
        .map(|clip| Window { clip, start: 0, from: 0, to: lengths[clip] })
        .collect();
    let time = lengths.iter().copied().max().unwrap_or(0);
    context(clips, &windows, config, time).with_lengths(lengths)
}

/// Nats of every clip, in order. `tick` hears of the samples passed.
pub fn nats(model: &WaveNet, clips: &[Clip], device: Device, tick: &mut dyn FnMut(usize)) -> Tally {
    let mut tally = Tally::default();
    tally.add(each(model, clips, WINDOW, device, None, tick));
    tally
}

/// `-log p(clip | speaker)` for every clip, and of it for every speaker.
pub fn nats_by_speaker(
    model: &WaveNet,
    clips: &[Clip],
    device: Device,
    tick: &mut dyn FnMut(usize),
) -> Vec<Vec<f64>> {
    let speakers = 0..model.config().speakers as u32;
    let by_speaker: Vec<Vec<f64>> =
        speakers.map(|speaker| each(model, clips, WINDOW, device, Some(speaker), tick)).collect();
    (0..clips.len()).map(|clip| by_speaker.iter().map(|nats| nats[clip]).collect()).collect()
}

fn each(
    model: &WaveNet,
    clips: &[Clip],
    window: usize,
    device: Device,
    speaker: Option<u32>,
    tick: &mut dyn FnMut(usize),
) -> Vec<f64> {
    let config = model.config();
    let lengths: Vec<usize> = clips.iter().map(|clip| clip.levels.len()).collect();
    let mut nats = vec![0.; clips.len()];
    for window in windows(&lengths, window, config.receptive_field() as usize, config.hop as usize)
    {
        let mut batch = Batch::new(clips, &[window], config, device);
        if let Some(speaker) = speaker {
            batch = batch.spoken_by(speaker);
        }
        nats[window.clip] += tch::no_grad(|| batch.nats(model, false).double_value(&[0]));
        tick(batch.samples);
    }
    nats
}

/// Refuses clips of other levels, speakers or features than a network's.
///
/// # Errors
/// One line that names both.
pub fn ensure_fits(config: &WaveNetConfig, dataset: &Dataset) -> anyhow::Result<()> {
    let Dataset { name, num_levels, sample_rate, speakers, hop, num_features, .. } = dataset;
    anyhow::ensure!(
        i64::from(*num_levels) == config.levels && *sample_rate == config.sample_rate,
        "{name}: has {num_levels} levels at {sample_rate} Hz, the model {} at {} Hz",
        config.levels,
        config.sample_rate
    );
    anyhow::ensure!(
        config.speakers == 0 || speakers.len() as i64 == config.speakers,
        "{name}: has {} speakers, the model {}",
        speakers.len(),
        config.speakers
    );
    anyhow::ensure!(
        config.features == 0
            || (*num_features as i64, *hop as i64) == (config.features, config.hop),
        "{name}: has {num_features} features each {hop} samples, the model {} each {}",
        config.features,
        config.hop
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::nn;

    use super::*;
    use crate::config::{Head, Input, preset};

    /// A small network that is told speakers and features, and clips of several lengths; features end before the clips.
    fn subjects(hop: i64) -> (nn::VarStore, WaveNet, Vec<Clip>) {
        let mut config = preset("demo").expect("listed").model;
        config.dilations = vec![1, 2, 4];
        (config.levels, config.features, config.hop, config.condition_channels) = (9, 2, hop, 3);
        (config.residual_channels, config.gate_channels, config.speakers) = (4, 5, 2);
        tch::manual_seed(1);
        let vs = nn::VarStore::new(Device::Cpu);
        let model = WaveNet::new(&vs.root(), &config).expect("a sound configuration");
        for mut tensor in core_layers::optim::parameters(&vs).into_values() {
            let noise = tensor.randn_like() * 0.3;
            let _ = tch::no_grad(|| tensor.g_add_(&noise));
        }
        let clip = |(row, samples): (usize, usize)| {
            let u =
                |t: usize, of: &str| core_layers::random::uniform_at(1, of, row as u64, t as u64);
            let frames = samples.div_ceil(hop as usize).saturating_sub(row);
            Clip {
                name: row.to_string(),
                speaker: row as u32 % 2,
                levels: (0..samples).map(|t| (u(t, "levels") * 9.) as u16).collect(),
                features: Some(Array2::from_shape_fn((frames, 2), |(f, i)| {
                    u(2 * f + i, "features") as f32
                })),
                text: None,
            }
        };
        let clips = [57, 1, 30, 100].into_iter().enumerate().map(clip).collect();
        (vs, model, clips)
    }

    #[test]
    fn windows_cost_what_the_whole_clip_costs() {
        for hop in [4, 5] {
            let (_vs, model, clips) = subjects(hop);
            let nats = |window| each(&model, &clips, window, Device::Cpu, None, &mut |_| {});
            let whole = nats(1000);
            for window in [7, 20, 64] {
                for (found, wanted) in nats(window).iter().zip(&whole) {
                    assert!(
                        (found - wanted).abs() < 1e-3,
                        "hop {hop}, window {window}: {found} {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn windows_side_by_side_cost_what_they_cost_alone() {
        let (_vs, model, clips) = subjects(4);
        let config = model.config();
        let all = windows(&[57, 1, 30, 100], 20, config.receptive_field() as usize, 4);
        let nats = |windows: &[Window]| -> Vec<f64> {
            let batch = Batch::new(&clips, windows, config, Device::Cpu);
            let nats = tch::no_grad(|| batch.nats(&model, false)).to_kind(Kind::Double);
            Vec::try_from(nats).expect("a flat tensor")
        };
        for (together, window) in nats(&all).iter().zip(&all) {
            assert!((together - nats(&[*window])[0]).abs() < 1e-3, "{window:?}");
        }
    }

    #[test]
    fn kernels_change_no_loss_and_no_gradient_but_by_rounding() {
        let (_vs, model, clips) = subjects(4);
        let mut config = model.config().clone();
        (config.head, config.input) = (Head::Logistics { mixtures: 3 }, Input::Scalar);
        let vs = nn::VarStore::new(Device::Cpu);
        let mixture = WaveNet::new(&vs.root(), &config).expect("a sound configuration");
        for model in [&model, &mixture] {
            let windows = windows(&[57, 1, 30, 100], 20, config.receptive_field() as usize, 4);
            let loss = || {
                let batch = Batch::new(&clips, &windows, model.config(), Device::Cpu);
                batch.nats(model, true).sum(Kind::Float).double_value(&[])
            };
            let (found, wanted) = (loss(), core_layers::kernels::without(loss));
            assert!((found / wanted - 1.).abs() < 1e-5, "{found} {wanted}");
        }
        let gradients = || {
            let batch =
                Batch::new(&clips, &windows(&[57, 1, 30, 100], 20, 30, 4), &config, Device::Cpu);
            let loss = batch.nats(&mixture, true).sum(Kind::Float);
            let weights: Vec<Tensor> = core_layers::optim::parameters(&vs).into_values().collect();
            Tensor::run_backward(&[loss], &weights, false, false)
        };
        for (found, wanted) in gradients().iter().zip(&core_layers::kernels::without(gradients)) {
            let size = wanted.abs().max().double_value(&[]).max(1.);
            let worst = (found - wanted).abs().max().double_value(&[]);
            assert!(worst < 1e-5 * size, "{worst} of {size}");
        }
    }
}
