//! What the machine could do at best: the yardstick of a training step.

use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::autocast::Precision;

/// Rows and columns of the matrices that are multiplied.
const SIDE: i64 = 1024;
/// How long they are.
const TIME: Duration = Duration::from_millis(300);

/// Floating point operations a second of a product of square matrices, the best of some: with the threads that libtorch
/// has, in the arithmetic of a training step. Takes a third of a second.
pub fn matmul_peak(device: Device, precision: Precision) -> f64 {
    let kind = match precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    };
    tch::no_grad(|| {
        let xs = Tensor::ones([SIDE, SIDE], (kind, device));
        let product = || {
            let start = Instant::now();
            let _ = xs.matmul(&xs).double_value(&[0, 0]); // waits for the device
            start.elapsed().as_secs_f64()
        };
        let start = Instant::now();
        product(); // warms up
        let mut seconds = f64::INFINITY;
        while start.elapsed() < TIME {
            seconds = seconds.min(product());
        }
        let seconds = seconds.min(product());
        2. * (SIDE as f64).powi(3) / seconds
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_multiplies_more_than_a_hundred_million_numbers_a_second() {
        let peak = matmul_peak(Device::Cpu, Precision::F32);
        assert!(peak.is_finite() && peak > 1e8, "{peak}");
    }
}
