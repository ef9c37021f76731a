//! How much of the processor's peak the exact engine reaches: GFLOP/s of its linear map on one core, beside a loop of
//! fused multiply-adds that never leaves the registers.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::hint::black_box;
use std::time::Instant;

use core_layers::kernels::exact::{Kernel, Packed, Tap, Variant};

/// (what, inputs of each tap, outputs, columns)
const SHAPES: [(&str, &[usize], usize, usize); 5] = [
    ("6 taps of 64 -> 128, 28 columns", &[64; 6], 128, 28),
    ("128 -> 128, 28 columns", &[128], 128, 28),
    ("2 taps of 64 -> 128, 1 column", &[64; 2], 128, 1),
    ("128 -> 128, 1 column", &[128], 128, 1),
    ("64 -> 64, 1 column", &[64], 64, 1),
];

fn main() {
    for variant in Variant::available().into_iter().filter(|&variant| variant != Variant::Portable)
    {
        for rows in [16, 8, 4, 1] {
            let kernel = Kernel::new(variant, rows);
            let steps = 10_000;
            let flop = kernel.run_at_peak(steps);
            let peak = speed(flop, || _ = black_box(kernel.run_at_peak(steps)));
            println!("{variant}, {} lanes: registers only {peak:.1} GFLOP/s", kernel.lanes());
            for (name, inputs, outs, columns) in SHAPES {
                let speed = linear(kernel, inputs, outs, columns);
                println!("  {name:34} {speed:6.1} GFLOP/s {:4.0} %", 100.0 * speed / peak);
            }
            println!("  gate of 64 channels, 28 columns    {:6.2} G values/s", gate(kernel));
            println!("  split of 256 channels              {:6.2} G values/s", split(kernel));
            println!("  softmax of 256 levels              {:6.2} G values/s", softmax(kernel));
            println!("  10 logistics over 256 levels       {:6.2} G values/s", logistics(kernel));
        }
    }
}

/// Greatest of 15 measurements of `work`, which does `count` things, in 1e9 things a second.
fn speed(count: f64, mut work: impl FnMut()) -> f64 {
    let mut run = |repeats: usize| {
        let start = Instant::now();
        (0..repeats).for_each(|_| work());
        start.elapsed().as_secs_f64()
    };
    let repeats = (5e-3 / run(1).max(1e-7)).ceil() as usize;
    (0..15).map(|_| count * repeats as f64 / run(repeats) / 1e9).fold(0.0, f64::max)
}

fn linear(kernel: Kernel, inputs: &[usize], outs: usize, columns: usize) -> f64 {
    let lanes = kernel.lanes();
    let packed =
        Packed::new(outs, inputs, |tap, k, out| ((tap * 31 + k * 7 + out * 3) % 17) as f32 * 1e-3);
    let stride = inputs[0] * lanes;
    // as in a 3 x 3 convolution: three taps in a row, one column apart, then the next row
    let xs = vec![1e-3; 2 * (columns + 2) * stride];
    let taps: Vec<Tap<'_>> = (0..inputs.len())
        .map(|index| Tap {
            index,
            xs: &xs[(index / 3 * (columns + 2) + index % 3) * stride..],
            stride,
        })
        .collect();
    let mut ys = vec![0.0; columns * outs * lanes];
    let flop = 2 * inputs.iter().sum::<usize>() * outs * columns * lanes;
    speed(flop as f64, || {
        kernel.accumulate(&packed, &taps, columns, black_box(&mut ys), outs * lanes);
    })
}

fn gate(kernel: Kernel) -> f64 {
    let width = 64 * kernel.lanes();
    let pre = vec![0.3; 28 * 2 * width];
    let mut ys = vec![0.0; 28 * width];
    speed((28 * width) as f64, || kernel.gate(black_box(&pre), 64, 28, black_box(&mut ys), width))
}

fn split(kernel: Kernel) -> f64 {
    let xs = vec![0.3; 256 * kernel.lanes()];
    let mut out = xs.clone();
    speed(xs.len() as f64, || kernel.split(black_box(&xs), black_box(&mut out)))
}

fn softmax(kernel: Kernel) -> f64 {
    let mut probs = [0.0; 256];
    speed(256.0, || _ = black_box(kernel.softmax(black_box(&[0.3; 256]), &mut probs)))
}

fn logistics(kernel: Kernel) -> f64 {
    let (ws, means, log_scales) = ([0.1; 10], [0.2; 10], [-2.0; 10]);
    let mut out = [0.0; 256];
    speed(256.0, || kernel.discretised_logistics(&ws, &means, black_box(&log_scales), &mut out))
}
