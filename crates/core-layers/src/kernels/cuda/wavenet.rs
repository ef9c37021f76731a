//! `csrc/cuda/wavenet.cu`: a WaveNet that speaks many samples in one launch. Letters: B voices, N samples of a launch, k taps,
//! d dilation, k0 taps of the first layer, R residual, G gate, S skip, A head, O output and C condition channels, L levels.
//!
//! Of each layer, `z = tanh(a) sigmoid(b)` with `(a, b) = sum_i W_i h[t - (k - 1 - i) d] + U c[t] + V y`, then
//! `h' = h + W_r z`; the outputs are `W_2 relu(W_1 relu(sum W_s z))` (van den Oord et al., "WaveNet: A Generative Model for Raw
//! Audio", 2016, equations 2 and 3, <https://arxiv.org/abs/1609.03499>).
//!
//! A block has one to eight voices and runs the loop over samples itself. Weights are of T, read through the L2 cache once
//! a sample and block; activations and sums are f32 in shared memory, past inputs of layers in rings in global memory. A
//! layer's share of the skip path is read together with its residual, so that shared memory does not grow with the depth.
//! Networks that no shared memory holds have their activations in global memory.
//!
//! A sample of a block reads `(k R + C) 2 G + G (R + S)` weights a layer (`G R` fewer in the last), `S A + A O` more, and
//! biases, 4 bytes each in f32 and 2 in bf16 and f16, and multiplies each by every voice: two operations a weight and voice.
//! A sample whose level is told reads neither the skip path nor the last layer nor the head. Other traffic is small:
//! `(k - 1) R + R` floats a layer and voice, C floats of the condition and `k0 R` numbers of the first layer a voice. What
//! should bind is the rate at which one multiprocessor reads L2, and the four barriers of a layer; with more voices a block,
//! the same bytes serve more of them. Not run on a GPU.
//!
//! A voice's bits are a function of the network and of its own levels: not of the voices beside it, nor of the samples a
//! launch makes.

mod network;

use anyhow::{Result, ensure};
use ndarray::{Array2, ArrayView2};
use tch::{Device, Kind, Tensor};

pub use network::{First, Layer, Linear, Network, Weights};

use super::{
    Arg, MOST_SHARED, Shape, WAVENET,
    line::{Launch, Line, Run},
};

/// Blocks that keep a GPU busy: beyond them, voices share a block.
const BLOCKS: i64 = 128;
/// Whether kernels run on `device`.
pub fn is_there(device: Device) -> bool {
    super::of(device).is_some()
}

/// Voices of one network in lockstep.
#[derive(Debug)]
pub struct Voices<'n> {
    line: Line,
    kept: Kept<'n>,
}

/// What voices are told once, and what is kept of their samples.
#[derive(Debug)]
struct Kept<'n> {
    network: &'n Network,
    count: i64,
    group: i64,      // voices of a block; 0 where shared memory is too small for one
    rings: Tensor,   // [B][numbers of a ring]
    history: Tensor, // [B, k0] i64
    speakers: Option<Tensor>, // [B] i64
    condition: Option<Tensor>, // [B, T, C]
    samples: i64,    // T of the condition
}

impl Network {
    /// `count` voices at their first sample: who speaks, and the local condition `[B, C, T]`, as far as the network has
    /// them; what is not given adds nothing.
    ///
    /// # Errors
    /// Where there are not as many as voices, or one is out of range.
    pub fn voices(
        &self,
        count: usize,
        speakers: Option<&[u32]>,
        condition: Option<&Tensor>,
    ) -> Result<Voices<'_>> {
        let sizes = &self.sizes;
        let rows = count as i64;
        let speakers = speakers.filter(|_| sizes.speakers > 0);
        let known = |all: &[u32]| {
            all.len() == count && all.iter().all(|&it| i64::from(it) < sizes.speakers)
        };
        ensure!(
            speakers.is_none_or(known),
            "{count} voices need a speaker each of {}",
            sizes.speakers
        );
        let condition = condition.filter(|_| sizes.condition > 0);
        let samples = condition.map_or(Ok(i64::MAX), |it| it.size3().map(|it| it.2))?;
        let fits = |it: &Tensor| it.size() == [rows, sizes.condition, samples];
        ensure!(
            condition.is_none_or(fits),
            "{count} voices need a condition of {} channels each, and have {condition:?}",
            sizes.condition
        );
        let whole = (Kind::Int64, self.device);
        let speakers = speakers.map(|all| all.iter().map(|&it| i64::from(it)).collect::<Vec<_>>());
        let kept = tch::no_grad(|| Kept {
            network: self,
            count: rows,
            group: self.group(rows),
            rings: Tensor::zeros([rows, sizes.ring], (Kind::Float, self.device)),
            history: Tensor::full([rows, sizes.first_taps], -1, whole),
            speakers: speakers.map(|it| Tensor::from_slice(&it).to_device(self.device)),
            condition: condition.map(|it| {
                let it = it.detach().to_kind(Kind::Float).to_device(self.device);
                it.transpose(1, 2).contiguous()
            }),
            samples,
        });
        let line = Line::new(count, sizes.levels, sizes.outputs, samples, self.device);
        Ok(Voices { line, kept })
    }

    /// Voices of a block: few, unless there are more than the GPU has room for side by side; 0 where none fits.
    fn group(&self, voices: i64) -> i64 {
        let fitting =
            [8, 4, 2, 1].into_iter().filter(|it| 4 * it * self.width <= MOST_SHARED as i64);
        let enough = |it: &i64| it * BLOCKS >= voices;
        fitting.clone().filter(enough).min().or_else(|| fitting.max()).unwrap_or(0)
    }
}

impl Voices<'_> {
    /// Tells the level of each voice at the next sample.
    ///
    /// # Errors
    /// Where there are not as many as voices, one is no level, the condition is over, or a launch fails.
    pub fn feed(&mut self, levels: &[u32]) -> Result<()> {
        self.line.feed(levels, &self.kept)
    }

    /// The head's outputs for the next sample, `[B, O]`.
    ///
    /// # Errors
    /// Where the condition is over, or a launch fails.
    pub fn outputs(&mut self) -> Result<Tensor> {
        self.line.outputs(&self.kept)
    }

    /// Draws as many samples as there are uniform numbers in `[0, 1)` `[B, N]`, each the first level whose cumulated
    /// probability exceeds its number; the outputs are the logits of a softmax.
    ///
    /// # Errors
    /// Where outputs are no logits of levels, or were asked for without feeding their level; else as [`Self::outputs`].
    pub fn draw(&mut self, uniforms: ArrayView2<'_, f32>) -> Result<Array2<u32>> {
        self.line.draw(uniforms, &self.kept)
    }
}

impl Run for Kept<'_> {
    fn run(&self, launch: &Launch) -> Result<()> {
        let (network, voices) = (self.network, self.count);
        let group = self.group.max(1);
        let room = (self.group == 0)
            .then(|| Tensor::empty([voices, network.width], (Kind::Float, network.device)));
        let mut arguments = vec![
            Arg::Tensor(&network.description),
            Arg::Tensor(&network.weights),
            Arg::Tensor(&self.rings),
            Arg::Tensor(&self.history),
            Arg::maybe(self.speakers.as_ref()),
            Arg::maybe(self.condition.as_ref()),
            Arg::Tensor(&launch.symbols),
            Arg::maybe(launch.uniforms.as_ref()),
            Arg::maybe(launch.outputs.as_ref()),
            Arg::Int(voices),
            Arg::Int(self.samples),
            Arg::Int(launch.start),
            Arg::Int(launch.count),
            Arg::Int(launch.known),
        ];
        if let Some(room) = &room {
            arguments.extend([Arg::Tensor(room), Arg::Int(network.width)]);
        }
        let name = match self.group {
            0 => "wavenet_wide",
            1 => "wavenet_1",
            2 => "wavenet_2",
            4 => "wavenet_4",
            _ => "wavenet_8",
        };
        let shape = Shape {
            grid: [((voices + group - 1) / group) as u32, 1, 1],
            block: [network.threads as u32, 1, 1],
            shared: if room.is_some() { 0 } else { (4 * group * network.width) as u32 },
        };
        // SAFETY: the arguments of the kernel of that name. The description was made with the weights that it points into;
        // rings, history, speakers and outputs have a row a voice; levels are below L and speakers among the network's, as
        // was checked when they came; columns of levels are one more than samples, uniform numbers as many; the condition
        // reaches the last sample, which is the line's length; and the room of a voice is as wide as the kernel lays it out.
        unsafe {
            network.gpu.launch(&WAVENET, network.element, name, shape, &arguments)?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Voices<'_> {
    /// As many voices of a block as a test wants; 0 for activations in global memory.
    pub(super) fn in_groups_of(mut self, group: i64) -> Self {
        self.kept.group = group;
        self
    }
}
