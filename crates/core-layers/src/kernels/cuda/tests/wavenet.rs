use ndarray::{Array2, s};
use tch::{Device, Kind, Tensor};

use super::{super::emulated::on_every_gpu, KINDS, difference, numbers};
use crate::{
    kernels::{
        cuda::wavenet::{First, Layer, Linear, Network, Voices, Weights},
        without,
    },
    random::uniform_at,
};

/// Sizes of a small network.
#[derive(Debug, Clone)]
struct Sizes {
    taps: i64,
    dilations: Vec<i64>,
    residual: i64,
    gate: i64,
    skip: i64,
    head: i64,
    outputs: i64,
    condition: i64,
    first_taps: i64,
    levels: i64,
    speakers: i64,
    is_scalar: bool,
}

fn tiny() -> Sizes {
    Sizes {
        taps: 2,
        dilations: vec![1, 2, 4, 1],
        residual: 5,
        gate: 6,
        skip: 7,
        head: 9,
        outputs: 12,
        condition: 0,
        first_taps: 1,
        levels: 12,
        speakers: 0,
        is_scalar: false,
    }
}

fn every_size() -> Vec<Sizes> {
    vec![
        tiny(),
        Sizes { taps: 3, dilations: vec![3, 1, 7], first_taps: 2, speakers: 3, ..tiny() },
        Sizes { is_scalar: true, first_taps: 3, levels: 40, outputs: 6, condition: 4, ..tiny() },
        Sizes { taps: 1, dilations: vec![1], residual: 1, gate: 1, skip: 1, head: 1, ..tiny() },
        Sizes { dilations: vec![5, 1], residual: 33, gate: 31, skip: 70, head: 3, ..tiny() },
    ]
}

/// A network's tensors and what its voices are told.
struct Case {
    sizes: Sizes,
    tensors: Vec<Tensor>,
    condition: Option<Tensor>, // [B, C, T]
}

const VOICES: usize = 3;
const SAMPLES: usize = 25; // the longest ring wraps more than once
const SPEAKERS: [u32; VOICES] = [2, 0, 1];

impl Case {
    /// Weights as `kind` holds them, in f64.
    fn new(sizes: &Sizes, kind: Kind) -> Self {
        let Sizes { taps, residual, gate, skip, head, outputs, condition, .. } = *sizes;
        let count = sizes.dilations.len() as i64;
        let mut shapes = vec![
            if sizes.is_scalar {
                vec![residual, 1, sizes.first_taps]
            } else {
                vec![sizes.levels, sizes.first_taps * residual]
            },
            vec![residual],
            vec![skip, count * gate, 1],
            vec![skip],
            vec![head, skip, 1],
            vec![head],
            vec![outputs, head, 1],
            vec![outputs],
        ];
        for _ in 0..count {
            shapes.push(vec![2 * gate, residual, taps]);
            shapes.push(vec![2 * gate]);
            shapes.push(vec![2 * gate, condition, 1]);
            shapes.push(vec![sizes.speakers, 2 * gate]);
            shapes.push(vec![residual, gate, 1]);
            shapes.push(vec![residual]);
        }
        let tensor = |(index, shape): (usize, Vec<i64>)| {
            let size = 1.5 / (shape.get(1).copied().unwrap_or(4).max(1) as f64).sqrt();
            numbers(&shape, 0.7 + 0.1 * index as f64, size, kind, Device::Cpu).to_kind(Kind::Double)
        };
        let told = [VOICES as i64, condition, SAMPLES as i64];
        let told = || numbers(&told, 1.3, 1., Kind::Double, Device::Cpu);
        Self {
            sizes: sizes.clone(),
            tensors: shapes.into_iter().enumerate().map(tensor).collect(),
            condition: (condition > 0).then(told),
        }
    }

    fn linear(&self, at: usize) -> Linear<'_> {
        Linear { weight: &self.tensors[at], bias: Some(&self.tensors[at + 1]) }
    }

    fn weights(&self) -> Weights<'_> {
        let last = self.sizes.dilations.len() - 1;
        let layer = |(index, &dilation): (usize, &i64)| {
            let at = 8 + 6 * index;
            Layer {
                dilation,
                dilated: self.linear(at),
                condition: (self.sizes.condition > 0).then_some(&self.tensors[at + 2]),
                speaker: (self.sizes.speakers > 0).then_some(&self.tensors[at + 3]),
                residual: (index < last).then(|| self.linear(at + 4)),
            }
        };
        let (weight, bias) = (&self.tensors[0], Some(&self.tensors[1]));
        Weights {
            first: if self.sizes.is_scalar {
                First::Scalar { weight, bias, levels: self.sizes.levels }
            } else {
                First::Table(weight)
            },
            layers: self.sizes.dilations.iter().enumerate().map(layer).collect(),
            skip: self.linear(2),
            head: self.linear(4),
            output: self.linear(6),
        }
    }

    fn network(&self, kind: Kind, device: Device) -> Network {
        Network::new(&self.weights(), kind, device).unwrap()
    }

    fn voices<'n>(&self, network: &'n Network, rows: std::ops::Range<usize>) -> Voices<'n> {
        let some = |it: &Tensor| it.narrow(0, rows.start as i64, rows.len() as i64);
        let condition = self.condition.as_ref().map(some);
        network.voices(rows.len(), Some(&SPEAKERS[rows.clone()]), condition.as_ref()).unwrap()
    }

    fn levels(&self) -> Array2<u32> {
        Array2::from_shape_fn((VOICES, SAMPLES), |(row, t)| {
            (uniform_at(3, "levels", row as u64, t as u64) * self.sizes.levels as f64) as u32
        })
    }

    /// All outputs `[B, T, O]`, in libtorch's convolutions of f64 numbers: the definition.
    fn outputs(&self, levels: &Array2<u32>) -> Tensor {
        let Sizes { taps, residual, gate, first_taps, .. } = self.sizes;
        let flat: Vec<i64> = levels.iter().map(|&it| i64::from(it)).collect();
        let levels = Tensor::from_slice(&flat).view([VOICES as i64, SAMPLES as i64]);
        let causal = |xs: &Tensor, at: usize, back: i64, dilation: i64| {
            let [ws, bs] = [&self.tensors[at], &self.tensors[at + 1]];
            xs.constant_pad_nd([back, 0]).conv1d(ws, Some(bs), 1, 0, dilation, 1)
        };
        let mut hs = if self.sizes.is_scalar {
            let xs = levels.to_kind(Kind::Double) * 2. / (self.sizes.levels - 1) as f64 - 1.;
            causal(&xs.unsqueeze(1), 0, first_taps, 1).narrow(2, 0, SAMPLES as i64)
        } else {
            let all = self.tensors[0].index_select(0, &levels.view(-1));
            let all = all.view([VOICES as i64, SAMPLES as i64, first_taps, residual]);
            let tap = |tap: i64| {
                let read = all.select(2, tap).transpose(1, 2);
                read.constant_pad_nd([first_taps - tap, 0]).narrow(2, 0, SAMPLES as i64)
            };
            (0..first_taps).map(tap).sum::<Tensor>()
        }; // [B, R, T]
        let mut gates = Vec::new();
        for (index, &dilation) in self.sizes.dilations.iter().enumerate() {
            let at = 8 + 6 * index;
            let mut pre = causal(&hs, at, (taps - 1) * dilation, dilation);
            if let Some(condition) = &self.condition {
                let none = None::<Tensor>;
                pre += condition.conv1d(&self.tensors[at + 2], none, 1, 0, 1, 1);
            }
            if self.sizes.speakers > 0 {
                let speakers = Tensor::from_slice(&SPEAKERS.map(i64::from));
                pre += self.tensors[at + 3].index_select(0, &speakers).unsqueeze(2);
            }
            let zs = pre.narrow(1, 0, gate).tanh() * pre.narrow(1, gate, gate).sigmoid();
            hs += causal(&zs, at + 4, 0, 1);
            gates.push(zs);
        }
        let skips = causal(&Tensor::cat(&gates, 1), 2, 0, 1).relu();
        causal(&causal(&skips, 4, 0, 1).relu(), 6, 0, 1).transpose(1, 2)
    }
}

/// Outputs `[B, T, O]` of voices that are told their levels.
fn told(mut voices: Voices<'_>, levels: &Array2<u32>) -> Tensor {
    let mut all = Vec::new();
    for column in levels.columns() {
        all.push(voices.outputs().unwrap().to_device(Device::Cpu).to_kind(Kind::Double));
        voices.feed(&column.to_vec()).unwrap();
    }
    Tensor::stack(&all, 1)
}

#[test]
fn voices_say_what_the_plain_network_says_at_every_sample() {
    on_every_gpu(|device, gpu| {
        for sizes in every_size() {
            for (kind, _) in KINDS {
                let case = Case::new(&sizes, kind);
                let levels = case.levels();
                let wanted = without(|| case.outputs(&levels));
                let network = case.network(kind, device);
                let found = told(case.voices(&network, 0..VOICES), &levels);
                let worst = difference(&found, &wanted);
                // only weights are of the kind, and they are the same: the rest is f32
                assert!(worst <= 1e-5, "{sizes:?}, {kind:?}, {gpu}: {worst}");
                let again = told(case.voices(&network, 0..VOICES), &levels);
                assert_eq!(difference(&again, &found), 0., "{sizes:?}, {kind:?}, {gpu}");
            }
        }
    });
}

#[test]
fn a_voice_has_the_same_bits_in_any_company_and_launch() {
    on_every_gpu(|device, gpu| {
        for sizes in every_size() {
            let case = Case::new(&sizes, Kind::Float);
            let levels = case.levels();
            let network = case.network(Kind::Float, device);
            let wanted = told(case.voices(&network, 0..VOICES), &levels);
            for group in [0, 1, 2, 4, 8] {
                let rows = 1..VOICES;
                let voices = case.voices(&network, rows.clone()).in_groups_of(group);
                let found = told(voices, &levels.slice(s![rows, ..]).to_owned());
                let company = wanted.narrow(0, 1, VOICES as i64 - 1);
                assert_eq!(difference(&found, &company), 0., "{sizes:?}, {group} a block, {gpu}");
            }
            // many samples a launch, of which only the last is asked for
            let mut voices = case.voices(&network, 0..VOICES);
            for (t, column) in levels.columns().into_iter().enumerate() {
                if t % 7 == 6 {
                    let found = voices.outputs().unwrap().to_device(Device::Cpu);
                    let wanted = wanted.select(1, t as i64);
                    assert_eq!(difference(&found.to_kind(Kind::Double), &wanted), 0., "{t}, {gpu}");
                }
                voices.feed(&column.to_vec()).unwrap();
            }
        }
    });
}

#[test]
fn levels_are_drawn_where_the_cumulated_probability_passes_the_number() {
    let wide = Sizes { levels: 77, outputs: 77, first_taps: 3, ..tiny() };
    on_every_gpu(|device, gpu| {
        for sizes in [tiny(), wide.clone()] {
            let case = Case::new(&sizes, Kind::Float);
            let network = case.network(Kind::Float, device);
            let uniforms = Array2::from_shape_fn((VOICES, SAMPLES), |(row, t)| {
                // the ends of the distribution function among them
                [0., 1.].get(t).map_or(uniform_at(5, "draw", row as u64, t as u64) as f32, |&it| it)
            });
            let mut voices = case.voices(&network, 0..VOICES);
            let given = case.levels();
            for column in given.columns().into_iter().take(4) {
                voices.feed(&column.to_vec()).unwrap();
            }
            let mut drawn = given.slice(s![.., ..4]).to_owned();
            for part in [4..9, 9..10, 10..SAMPLES] {
                let levels = voices.draw(uniforms.slice(s![.., part])).unwrap();
                drawn.append(ndarray::Axis(1), levels.view()).unwrap();
            }
            let found = told(case.voices(&network, 0..VOICES), &drawn);
            let through = found.softmax(-1, Kind::Double).cumsum(-1, Kind::Double);
            for ((row, t), &level) in drawn.indexed_iter().filter(|((_, t), _)| *t >= 4) {
                let through = through.get(row as i64).get(t as i64);
                let at = |level: i64| if level < 0 { 0. } else { through.double_value(&[level]) };
                let (below, above) = (at(i64::from(level) - 1), at(i64::from(level)));
                let u = f64::from(uniforms[[row, t]]);
                assert!(below <= u + 1e-5 && u <= above + 1e-5, "{below} {u} {above}, {t}, {gpu}");
            }
        }
    });
}

#[test]
fn the_ends_of_the_distribution_and_numbers_that_are_none_give_levels() {
    on_every_gpu(|device, gpu| {
        let mut case = Case::new(&tiny(), Kind::Float);
        let uniforms = Array2::from_shape_vec((VOICES, 2), vec![0., 0.999_999_94, 1., 0.5, 0., 1.]);
        let uniforms = uniforms.unwrap();
        // levels 0 and 11 never occur
        let far = Tensor::from_slice(&[-1e4, 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., -1e4]);
        case.tensors[7] = far;
        let network = case.network(Kind::Float, device);
        let levels = case.voices(&network, 0..VOICES).draw(uniforms.view()).unwrap();
        assert!(levels.iter().all(|it| (1..11).contains(it)), "{levels}, {gpu}");
        assert_eq!((levels[[0, 0]], levels[[1, 0]]), (1, 10), "{gpu}");
        case.tensors[7] = Tensor::full([12], f64::NAN, (Kind::Double, Device::Cpu));
        let network = case.network(Kind::Float, device);
        let mut voices = case.voices(&network, 0..VOICES);
        assert!(voices.draw(uniforms.view()).unwrap().iter().all(|&it| it == 0), "{gpu}");
        let outputs = voices.outputs().unwrap();
        assert_eq!(i64::try_from(outputs.isnan().all()).unwrap(), 1, "{gpu}");
    });
}

#[test]
fn levels_may_be_told_long_before_anything_is_asked() {
    on_every_gpu(|device, gpu| {
        let sizes = Sizes { dilations: vec![2, 1], ..tiny() };
        let case = Case::new(&sizes, Kind::Float);
        let network = case.network(Kind::Float, device);
        let column = |t: u32| [t % 12, t * 5 % 12, t * t % 12];
        let [mut all, mut few] = [0..600, 590..600].map(|times| {
            let mut voices = case.voices(&network, 0..VOICES);
            for t in times {
                voices.feed(&column(t)).unwrap();
            }
            voices
        });
        // further back than ten samples nothing is read
        let [all, few] = [all.outputs().unwrap(), few.outputs().unwrap()];
        assert_eq!(difference(&all, &few), 0., "{gpu}");
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_every_gpu(|device, _| {
        let case = Case::new(&Sizes { speakers: 3, condition: 4, ..tiny() }, Kind::Float);
        let network = case.network(Kind::Float, device);
        let condition = case.condition.as_ref();
        for (speakers, condition) in [(&[0, 1][..], condition), (&[0, 1, 3], condition)] {
            assert!(network.voices(VOICES, Some(speakers), condition).is_err());
        }
        let other = Tensor::zeros([3, 5, 9], (Kind::Float, device));
        assert!(network.voices(VOICES, None, Some(&other)).is_err());
        let mut voices = case.voices(&network, 0..VOICES);
        assert!(voices.feed(&[0, 12, 0]).is_err() && voices.feed(&[0, 1]).is_err());
        assert!(voices.draw(Array2::zeros((VOICES, SAMPLES + 1)).view()).is_err());
        let _ = voices.outputs().unwrap();
        assert!(
            voices.draw(Array2::zeros((VOICES, 1)).view()).is_err(),
            "its outputs were asked for"
        );
        let mut nobody = network.voices(0, None, None).unwrap();
        assert_eq!(nobody.outputs().unwrap().size(), [0, 12]);
        let mut weights = case.weights();
        weights.layers[1].speaker = None;
        assert!(Network::new(&weights, Kind::Float, device).is_err());
        assert!(Network::new(&case.weights(), Kind::Double, device).is_err());
    });
}
