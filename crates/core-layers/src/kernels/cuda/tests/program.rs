//! That a program computes what its network says is shown where programs are made: by `pixelcnn`, beside the full pass.

use ndarray::{Array2, Axis, s};
use tch::{Device, Kind, Tensor};

use super::{super::emulated::on_every_gpu, difference};
use crate::{
    kernels::cuda::program::{
        Description, Function, Images, Map, Program, Start, Step, Tap, Target,
    },
    random::uniform_at,
};

const IMAGES: usize = 6;
const SIZE: [usize; 3] = [4, 3, 2];
const VALUES: usize = 24;
const LEVELS: usize = 5;

fn weights(count: usize, purpose: &str) -> Vec<f32> {
    (0..count).map(|it| uniform_at(1, purpose, 0, it as u64) as f32 - 0.5).collect()
}

/// Rows above become a row map, that and pixels to the left a gate, and a gate the outputs.
fn description() -> Description {
    let [_, columns, colours] = SIZE;
    let map = |channels, rows, padding, columns| Map { channels, rows, padding, columns };
    let convolution = |taps: &[(usize, i64, i64, usize)], outs, start, to| {
        let taps: Vec<Tap> =
            taps.iter().map(|&(map, dy, dx, channels)| Tap { map, dy, dx, channels }).collect();
        let ins = taps.iter().map(|it| it.channels).sum::<usize>();
        Step::Convolution { taps, weights: weights(ins * outs, "w"), outs, start, to }
    };
    let bias = |outs| Start::Bias(weights(outs, "b"), Some(weights(3 * outs, "c")));
    let pointwise = |of, to, first, count| Step::Pointwise { of, to, first, count };
    // of one channel a colour: the second colour also reads the first one's
    let pixel = |colour: usize| {
        let mut taps = vec![(0, 0, -1, 2)];
        taps.extend((colour == 1).then_some((0, 0, 0, 1)));
        let (start, first) = (Start::Sum(0, 6 * colour), LEVELS * colour);
        vec![
            convolution(&taps, 6, start, Target::Map(3, 6 * colour)),
            pointwise(Function::Gate(3), 4, 3 * colour, 3),
            pointwise(Function::Elu(4), 5, 3 * colour, 3),
            pointwise(Function::Add(4, 5), 5, 3 * colour, 3),
            convolution(
                &[(5, 0, 0, 3 * (colour + 1))],
                LEVELS,
                bias(LEVELS),
                Target::Map(6, first),
            ),
        ]
    };
    Description {
        size: SIZE,
        table: (0..LEVELS).map(|level| level as f32 - 2.).collect(),
        levels: LEVELS,
        output: (6, LEVELS),
        maps: vec![
            map(2, 3, 1, columns),
            map(4, 1, 0, columns),
            map(4, 1, 1, columns),
            map(12, 1, 0, 1),
            map(6, 1, 0, 1),
            map(6, 1, 0, 1),
            map(10, 1, 0, 1),
            map(1, SIZE[0], 0, columns),
        ],
        sums: vec![12],
        row: vec![
            convolution(
                &[(0, -2, 0, 2), (0, -1, 1, 2), (7, 0, 0, 1)],
                4,
                bias(4),
                Target::Map(1, 0),
            ),
            pointwise(Function::Relu(1), 2, 0, 4),
            convolution(&[(2, 0, -1, 4), (0, -1, 0, 2)], 12, bias(12), Target::Sum(0)),
        ],
        pixel: (0..colours).map(pixel).collect(),
    }
}

fn program(device: Device) -> Program {
    Program::new(&description(), Kind::Float, device).unwrap()
}

fn images(program: &Program, rows: std::ops::Range<usize>) -> Images<'_> {
    let labels: Vec<u32> = rows.clone().map(|row| row as u32 % 3).collect();
    let mut images = program.images(rows.len(), Some(&labels)).unwrap();
    let map = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([1, 4, 3, 1]) * 0.1;
    images.load(7, &map).unwrap();
    images
}

fn levels() -> Array2<u32> {
    Array2::from_shape_fn((IMAGES, VALUES), |(row, value)| {
        (uniform_at(2, "levels", row as u64, value as u64) * LEVELS as f64) as u32
    })
}

/// Outputs `[B, N, O]` of images that are told their levels.
fn told(mut images: Images<'_>, levels: &Array2<u32>) -> Tensor {
    let mut all = Vec::new();
    for column in levels.columns() {
        all.push(images.outputs().unwrap().to_device(Device::Cpu).to_kind(Kind::Double));
        images.feed(&column.to_vec()).unwrap();
    }
    Tensor::stack(&all, 1)
}

#[test]
fn an_image_has_the_same_bits_in_any_company_and_launch() {
    on_every_gpu(|device, gpu| {
        let (program, levels) = (program(device), levels());
        let wanted = told(images(&program, 0..IMAGES), &levels);
        assert!(wanted.std(false).double_value(&[]) > 0.05, "outputs differ");
        for group in [0, 1, 4] {
            let rows = 1..IMAGES;
            let found = told(
                images(&program, rows.clone()).in_groups_of(group),
                &levels.slice(s![rows, ..]).to_owned(),
            );
            // their classes are those of other rows
            let found = found.narrow(0, 2, 3);
            let others = images(&program, 0..IMAGES).in_groups_of(group);
            let again = told(others, &levels);
            assert_eq!(difference(&again, &wanted), 0., "{group} a block, {gpu}");
            assert_eq!(difference(&found, &wanted.narrow(0, 3, 3)), 0., "{group} a block, {gpu}");
        }
        // many values a launch, of which only the last is asked for
        let mut some = images(&program, 0..IMAGES);
        for (value, column) in levels.columns().into_iter().enumerate() {
            if value % 5 == 4 {
                let found = some.outputs().unwrap().to_device(Device::Cpu).to_kind(Kind::Double);
                assert_eq!(difference(&found, &wanted.select(1, value as i64)), 0., "{gpu}");
            }
            some.feed(&column.to_vec()).unwrap();
        }
    });
}

#[test]
fn levels_are_drawn_where_the_cumulated_probability_passes_the_number() {
    on_every_gpu(|device, gpu| {
        let program = program(device);
        let uniforms = Array2::from_shape_fn((IMAGES, VALUES), |(row, value)| {
            uniform_at(5, "draw", row as u64, value as u64) as f32
        });
        let mut some = images(&program, 0..IMAGES);
        let mut drawn = Array2::zeros((IMAGES, 0));
        for part in [0..1, 1..9, 9..VALUES] {
            let levels = some.draw(uniforms.slice(s![.., part])).unwrap();
            drawn.append(Axis(1), levels.view()).unwrap();
        }
        let outputs = told(images(&program, 0..IMAGES), &drawn);
        let through = outputs.softmax(-1, Kind::Double).cumsum(-1, Kind::Double);
        for ((row, value), &level) in drawn.indexed_iter() {
            let through = through.get(row as i64).get(value as i64);
            let at = |level: i64| if level < 0 { 0. } else { through.double_value(&[level]) };
            let (below, above) = (at(i64::from(level) - 1), at(i64::from(level)));
            let u = f64::from(uniforms[[row, value]]);
            assert!(below <= u + 1e-5 && u <= above + 1e-5, "{below} {u} {above}, {gpu}");
        }
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_every_gpu(|device, _| {
        let refused = |change: &dyn Fn(&mut Description)| {
            let mut bad = description();
            change(&mut bad);
            assert!(Program::new(&bad, Kind::Float, device).is_err(), "{bad:?}");
        };
        let first_tap = |it: &mut Description, bad: Tap| {
            if let Step::Convolution { taps, .. } = &mut it.row[0] {
                taps[0] = bad;
            }
        };
        let tap = Tap { map: 0, dy: -2, dx: 0, channels: 2 };
        refused(&|it| first_tap(it, Tap { dy: -3, ..tap }));
        refused(&|it| first_tap(it, Tap { dy: 1, ..tap }));
        refused(&|it| first_tap(it, Tap { dx: 2, ..tap }));
        refused(&|it| first_tap(it, Tap { map: 8, ..tap }));
        refused(&|it| first_tap(it, Tap { channels: 3, ..tap }));
        refused(&|it| it.maps[1].channels = 3);
        refused(&|it| it.maps[1].columns = 2);
        refused(&|it| it.sums[0] = 11);
        refused(&|it| it.output.1 = 6);
        refused(&|it| it.table.truncate(4));
        refused(&|it| it.pixel.truncate(1));
        refused(&|it| {
            let wide = Step::Pointwise { of: Function::Gate(3), to: 4, first: 4, count: 3 };
            it.pixel[0][1] = wide;
        });
        // what would race
        let over_itself = Step::Pointwise { of: Function::Gate(3), to: 3, first: 0, count: 3 };
        refused(&|it| it.pixel[0][1] = over_itself.clone());
        let to_one_column = Step::Pointwise { of: Function::Relu(1), to: 4, first: 0, count: 4 };
        refused(&|it| it.row[1] = to_one_column.clone());
        let (start, to) = (Start::Bias(vec![0.; 4], None), Target::Map(2, 0));
        let taps = vec![Tap { map: 2, dy: 0, dx: -1, channels: 4 }];
        let of_neighbours = Step::Convolution { taps, weights: vec![1.; 16], outs: 4, start, to };
        refused(&|it| it.row[2] = of_neighbours.clone());
        let program = program(device);
        assert!(program.images(2, Some(&[0, 3])).is_err());
        let mut some = images(&program, 0..2);
        assert!(some.load(0, &Tensor::zeros([1, 4, 3, 2], (Kind::Float, device))).is_err());
        assert!(some.load(7, &Tensor::zeros([1, 4, 4, 1], (Kind::Float, device))).is_err());
        assert!(some.feed(&[0, 5]).is_err());
        assert!(some.draw(Array2::zeros((2, VALUES + 1)).view()).is_err());
    });
}
