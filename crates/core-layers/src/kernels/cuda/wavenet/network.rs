//! A network as `csrc/cuda/wavenet.cu` reads it: a description in whole numbers, and all weights in one tensor.

use anyhow::{Result, anyhow, ensure};
use tch::{Device, Kind, Tensor};

use super::super::{Element, Gpu, of, stepper};

/// Numbers of T that are read at once: outputs are padded to as many, and every part starts at a multiple.
const QUAD: i64 = stepper::QUAD as i64;
/// What fits the kernel's whole numbers of 32 bits with room for products: channels that a layer reads or gives, and
/// slots of a ring.
const MOST_CHANNELS: i64 = 1 << 24;
const MOST_SLOTS: i64 = 1 << 30;

/// How levels enter.
#[derive(Debug)]
pub enum First<'m> {
    /// A vector for each level and tap, the oldest sample's first: `[L, k0 R]`.
    Table(&'m Tensor),
    /// A convolution of the level as a number, `2 v / (L - 1) - 1`.
    Scalar {
        /// `[R, 1, k0]`.
        weight: &'m Tensor,
        /// `[R]`.
        bias: Option<&'m Tensor>,
        /// Levels L.
        levels: i64,
    },
}

/// A convolution: weights `[O, I, taps]`, and a bias `[O]`.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'m> {
    /// The weights.
    pub weight: &'m Tensor,
    /// The bias; without one, zeros.
    pub bias: Option<&'m Tensor>,
}

/// The weights of one dilated layer.
#[derive(Debug)]
pub struct Layer<'m> {
    /// Samples between taps.
    pub dilation: i64,
    /// R to 2 G, k taps.
    pub dilated: Linear<'m>,
    /// What the local condition adds, C to 2 G, one tap: `[2 G, C, 1]`.
    pub condition: Option<&'m Tensor>,
    /// What each speaker adds `[speakers, 2 G]`.
    pub speaker: Option<&'m Tensor>,
    /// G to R, one tap; none in the last layer, and in no other.
    pub residual: Option<Linear<'m>>,
}

/// The weights of a network, as its layers hold them, of any kind on any device.
#[derive(Debug)]
pub struct Weights<'m> {
    /// How levels enter.
    pub first: First<'m>,
    /// The dilated layers.
    pub layers: Vec<Layer<'m>>,
    /// The gates of all layers, one layer behind the other, to S.
    pub skip: Linear<'m>,
    /// S to A.
    pub head: Linear<'m>,
    /// A to the outputs O.
    pub output: Linear<'m>,
}

/// The numbers that describe a network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) taps: i64,
    pub(super) residual: i64,
    pub(super) gate: i64,
    pub(super) skip: i64,
    pub(super) head: i64,
    pub(super) outputs: i64,
    pub(super) condition: i64,
    pub(super) first_taps: i64,
    pub(super) levels: i64,
    pub(super) speakers: i64,
    /// Numbers of a voice's rings.
    pub(super) ring: i64,
}

/// A network on a GPU, in the order in which its kernel reads it.
#[derive(Debug)]
pub struct Network {
    pub(super) gpu: &'static dyn Gpu,
    pub(super) device: Device,
    pub(super) element: Element,
    pub(super) sizes: Sizes,
    pub(super) description: Tensor, // i64
    pub(super) weights: Tensor,     // T
    /// Threads of a block.
    pub(super) threads: i64,
    /// Activations and partial sums of a voice.
    pub(super) width: i64,
}

/// All weights, one part behind the other.
#[derive(Debug, Default)]
struct Parts {
    parts: Vec<Tensor>,
    len: i64,
}

impl Parts {
    /// Appends numbers, in order, and returns where they start.
    fn put(&mut self, numbers: &Tensor) -> i64 {
        let (at, count) = (self.len, numbers.numel() as i64);
        let padding = -count & (QUAD - 1);
        self.parts.push(numbers.reshape([-1]).constant_pad_nd([0, padding]));
        self.len += count + padding;
        at
    }

    /// Appends a matrix `[I, O]`, its outputs padded to whole quads.
    fn put_matrix(&mut self, ws: &Tensor) -> i64 {
        self.put(&ws.constant_pad_nd([0, -ws.size()[1] & (QUAD - 1)]))
    }
}

/// Checks a tensor's shape and brings it to where weights are packed.
fn take(what: &str, xs: &Tensor, size: &[i64]) -> Result<Tensor> {
    ensure!(xs.size() == size, "{what} of a WaveNet is {:?}, but must be {size:?}", xs.size());
    Ok(xs.detach().to_device(Device::Cpu).to_kind(Kind::Float))
}

impl Linear<'_> {
    /// Weights `[taps I, O]` and bias `[O]`.
    fn take(&self, what: &str, [outs, ins, taps]: [i64; 3]) -> Result<[Tensor; 2]> {
        let ws = take(what, self.weight, &[outs, ins, taps])?.permute([2, 1, 0]);
        Ok([ws.reshape([taps * ins, outs]), bias(what, self.bias, outs)?])
    }
}

fn bias(what: &str, bias: Option<&Tensor>, outs: i64) -> Result<Tensor> {
    let zeros = || Ok(Tensor::zeros([outs], (Kind::Float, Device::Cpu)));
    bias.map_or_else(zeros, |it| take(what, it, &[outs]))
}

impl Sizes {
    /// Those of a network whose weights have the shapes that these few tell; the others are checked against them.
    fn of(weights: &Weights<'_>) -> Result<Self> {
        let [layer, ..] = &weights.layers[..] else {
            return Err(anyhow!("a WaveNet without layers"));
        };
        let (wide, residual, taps) = layer.dilated.weight.size3()?;
        let (skip, _, _) = weights.skip.weight.size3()?;
        let (head, _, _) = weights.head.weight.size3()?;
        let (outputs, _, _) = weights.output.weight.size3()?;
        let (first_taps, levels) = match weights.first {
            First::Table(table) => (table.size2()?.1 / residual.max(1), table.size2()?.0),
            First::Scalar { weight, levels, .. } => (weight.size3()?.2, levels),
        };
        let condition = layer.condition.map_or(Ok(0), |it| it.size3().map(|it| it.1))?;
        let speakers = layer.speaker.map_or(Ok(0), |it| it.size2().map(|it| it.0))?;
        let slots = |layer: &Layer<'_>| (taps - 1).saturating_mul(layer.dilation);
        let ring = weights.layers.iter().map(slots).sum::<i64>() * residual;
        let gate = wide / 2;
        let all = [taps * residual + condition, 2 * gate, residual + skip, head, outputs];
        ensure!(
            [taps, residual, gate, skip, head, outputs, first_taps].iter().all(|&it| it > 0)
                && levels > 1
                && all.iter().all(|&it| it <= MOST_CHANNELS)
                && weights.layers.iter().all(|it| it.dilation > 0 && slots(it) <= MOST_SLOTS),
            "no kernel steps a WaveNet of {taps} taps and {all:?} channels"
        );
        Ok(Self {
            taps,
            residual,
            gate,
            skip,
            head,
            outputs,
            condition,
            first_taps,
            levels,
            speakers,
            ring,
        })
    }

    /// Outputs of every matrix.
    fn outs(&self) -> [i64; 5] {
        [2 * self.gate, self.residual + self.skip, self.skip, self.head, self.outputs]
    }

    /// Threads of a block.
    fn threads(&self) -> i64 {
        stepper::threads(self.outs().into_iter().max().unwrap_or(1) as usize) as i64
    }

    /// Numbers that a voice needs while it speaks, as `speak` of the kernel lays them out.
    fn width(&self) -> i64 {
        let read = (self.taps * self.residual + self.condition).max(self.head);
        let parts = self.outs().map(|outs| stepper::parts(outs as usize, self.threads() as usize));
        let parts = parts.into_iter().max().unwrap_or(0) as i64;
        read + self.residual + self.gate + self.skip.max(self.outputs) + parts
    }
}

impl Network {
    /// Packs a network for `device`, its weights rounded to `kind`.
    ///
    /// # Errors
    /// Where no kernels run on the device, or weights do not fit together.
    pub fn new(weights: &Weights<'_>, kind: Kind, device: Device) -> Result<Self> {
        let gpu = of(device).ok_or_else(|| anyhow!("no kernels run on {device:?}"))?;
        let element = Element::of(kind).ok_or_else(|| anyhow!("no kernel takes {kind:?}"))?;
        tch::no_grad(|| {
            let sizes = Sizes::of(weights)?;
            let (description, packed) = pack(weights, &sizes)?;
            Ok(Self {
                gpu,
                device,
                element,
                sizes,
                description: Tensor::from_slice(&description).to_device(device),
                weights: packed.to_kind(kind).to_device(device),
                threads: sizes.threads(),
                width: sizes.width(),
            })
        })
    }

    /// Levels L.
    pub fn levels(&self) -> i64 {
        self.sizes.levels
    }

    /// Outputs O of the head.
    pub fn outputs(&self) -> i64 {
        self.sizes.outputs
    }
}

/// The description, `Network` and `Layer` of the kernel one behind the other, and the weights that it points into.
fn pack(weights: &Weights<'_>, sizes: &Sizes) -> Result<(Vec<i64>, Tensor)> {
    let &Sizes { taps, residual, gate, skip, head, outputs, condition, first_taps, levels, .. } =
        sizes;
    let count = weights.layers.len() as i64;
    let mut all = Parts::default();
    let (first, first_bias) = match &weights.first {
        First::Table(table) => {
            let table = take("the table of levels", table, &[levels, first_taps * residual])?;
            (all.put(&table), -1)
        }
        First::Scalar { weight, bias: added, .. } => {
            let ws = take("the first layer", weight, &[residual, 1, first_taps])?;
            let ws = ws.reshape([residual, first_taps]).tr();
            (all.put(&ws), all.put(&bias("the first layer's bias", *added, residual)?))
        }
    };
    let [skips, skip_bias] = weights.skip.take("the skip path", [skip, count * gate, 1])?;
    let skips = skips.reshape([count, gate, skip]);
    let [heads, head_bias] = weights.head.take("the head", [head, skip, 1])?;
    let [ends, output_bias] = weights.output.take("the last layer", [outputs, head, 1])?;
    let mut description = vec![
        taps, residual, gate, skip, head, outputs, condition, count, first_taps, levels, sizes.ring,
    ];
    description.extend([
        first,
        first_bias,
        all.put(&skip_bias),
        all.put_matrix(&heads),
        all.put(&head_bias),
        all.put_matrix(&ends),
        all.put(&output_bias),
    ]);
    let mut ring = 0;
    for (index, layer) in weights.layers.iter().enumerate() {
        let [mut ws, bias] = layer.dilated.take("a dilated layer", [2 * gate, residual, taps])?;
        if let Some(more) = layer.condition {
            let more = take("a condition", more, &[2 * gate, condition, 1])?.squeeze_dim(2).tr();
            ws = Tensor::cat(&[ws, more], 0);
        }
        let is_last = index + 1 == weights.layers.len();
        ensure!(
            layer.condition.is_some() == (condition > 0)
                && layer.speaker.is_some() == (sizes.speakers > 0)
                && layer.residual.is_none() == is_last,
            "layer {index} of a WaveNet lacks a part that others have, or has one that they lack"
        );
        let mut mix = skips.get(index as i64); // [G, S]
        let mut residual_bias = -1;
        if let Some(linear) = layer.residual {
            let [ws, bias] = linear.take("a residual layer", [residual, gate, 1])?;
            mix = Tensor::cat(&[ws, mix], 1);
            residual_bias = all.put(&bias);
        }
        let speaker = layer.speaker.map(|it| take("speakers", it, &[sizes.speakers, 2 * gate]));
        description.extend([
            layer.dilation,
            ring,
            all.put_matrix(&ws),
            all.put(&bias),
            speaker.transpose()?.map_or(-1, |it| all.put(&it)),
            all.put_matrix(&mix),
            residual_bias,
        ]);
        ring += (taps - 1) * layer.dilation * residual;
    }
    Ok((description, Tensor::cat(&all.parts, 0)))
}
