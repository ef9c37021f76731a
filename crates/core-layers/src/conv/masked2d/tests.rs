use anyhow::Result;
use tch::nn::Module;

use super::*;

fn live_table(kernel_size: [i64; 2], mask: Mask) -> Vec<Vec<u8>> {
    let vs = nn::VarStore::new(Device::Cpu);
    let conv =
        MaskedConv2d::new(&vs.root(), 1, 1, MaskedConv2dConfig::new(kernel_size, mask)).unwrap();
    let mut table = vec![vec![0; kernel_size[1] as usize]; kernel_size[0] as usize];
    for tap in conv.taps() {
        table[(tap.dy + kernel_size[0] / 2) as usize][(tap.dx + kernel_size[1] / 2) as usize] = 1;
    }
    table
}

#[test]
fn masks_are_the_papers() {
    assert_eq!(live_table([3, 3], Mask::A), [[1, 1, 1], [1, 0, 0], [0, 0, 0]]);
    assert_eq!(live_table([3, 3], Mask::B), [[1, 1, 1], [1, 1, 0], [0, 0, 0]]);
    assert_eq!(live_table([3, 3], Mask::Above), [[1, 1, 1], [0, 0, 0], [0, 0, 0]]);
    assert_eq!(live_table([3, 3], Mask::UpToRow), [[1, 1, 1], [1, 1, 1], [0, 0, 0]]);
    assert_eq!(live_table([3, 3], Mask::All), [[1; 3]; 3]);
    assert_eq!(live_table([1, 5], Mask::A), [[1, 1, 0, 0, 0]]);
    assert_eq!(live_table([1, 5], Mask::B), [[1, 1, 1, 0, 0]]);
    assert_eq!(live_table([1, 1], Mask::B), [[1]]);
    let table = live_table([7, 7], Mask::A);
    assert_eq!(table[..3], vec![vec![1; 7]; 3]);
    assert_eq!(table[3], [1, 1, 1, 0, 0, 0, 0]);
    assert_eq!(table[4..], vec![vec![0; 7]; 3]);
}

#[test]
fn colours_see_earlier_colours_in_both_halves() -> Result<()> {
    let vs = nn::VarStore::new(Device::Cpu);
    for (mask, wanted) in
        [(Mask::A, [[0, 0, 0], [1, 0, 0], [1, 1, 0]]), (Mask::B, [[1, 0, 0], [1, 1, 0], [1, 1, 1]])]
    {
        let config =
            MaskedConv2dConfig { groups: 3, halves: 2, ..MaskedConv2dConfig::new([3, 3], mask) };
        let conv = MaskedConv2d::new(&vs.root(), 3, 6, config)?;
        let centre = conv.taps().pop().expect("the centre is the last tap");
        assert_eq!((centre.dy, centre.dx), (0, 0));
        for output in 0..6 {
            for input in 0..3 {
                let live = centre.ws.double_value(&[output, input]) != 0.;
                assert_eq!(
                    live,
                    wanted[output as usize % 3][input as usize] == 1,
                    "{mask:?} {output} {input}"
                );
            }
        }
    }
    Ok(())
}

/// Kernels of every kind, among them some whose one live tap is not the centre.
const KERNELS: [([i64; 2], Mask, i64); 12] = [
    ([3, 3], Mask::A, 1),
    ([7, 7], Mask::B, 1),
    ([3, 3], Mask::UpToRow, 2),
    ([5, 3], Mask::Above, 1),
    ([1, 5], Mask::A, 2),
    ([1, 3], Mask::A, 1),
    ([1, 3], Mask::A, 2),
    ([3, 1], Mask::Above, 2),
    ([1, 3], Mask::B, 4),
    ([1, 1], Mask::B, 1),
    ([3, 3], Mask::All, 1),
    ([5, 3], Mask::All, 2),
];

#[test]
fn the_cropped_convolution_is_the_masked_one() -> Result<()> {
    let options = (Kind::Double, Device::Cpu);
    for (kernel_size, mask, dilation) in KERNELS {
        let mut vs = nn::VarStore::new(Device::Cpu);
        let config = MaskedConv2dConfig { dilation, ..MaskedConv2dConfig::new(kernel_size, mask) };
        let conv = MaskedConv2d::new(&vs.root(), 2, 3, config)?;
        vs.double();
        let padding = kernel_size.map(|size| size / 2 * dilation);
        let xs = Tensor::randn([2, 2, 5, 6], options);
        let full = xs.conv2d(&conv.ws, conv.bias(), [1, 1], padding, [dilation; 2], 1); // dead weights start at 0
        let difference = (conv.forward(&xs) - full).abs().max().double_value(&[]);
        assert!(difference < 1e-12, "{kernel_size:?} {mask:?}: {difference}");
    }
    Ok(())
}

#[test]
fn a_dead_weight_has_no_effect_and_no_gradient() -> Result<()> {
    let vs = nn::VarStore::new(Device::Cpu);
    let conv = MaskedConv2d::new(&vs.root(), 1, 1, MaskedConv2dConfig::new([3, 3], Mask::A))?;
    let xs = Tensor::randn([1, 1, 4, 4], (Kind::Float, Device::Cpu));
    let before = conv.forward(&xs);
    let _ = tch::no_grad(|| conv.ws.narrow(2, 1, 2).narrow(3, 1, 2).fill_(9.));
    let after = conv.forward(&xs);
    assert_eq!(before, after);
    after.square().sum(Kind::Float).backward();
    let dead = conv.ws.grad().narrow(2, 1, 2).narrow(3, 1, 2);
    assert_eq!(dead.not_equal(0.).sum(Kind::Int64).int64_value(&[]), 0);
    Ok(())
}

#[test]
fn an_even_kernel_is_refused() {
    let vs = nn::VarStore::new(Device::Cpu);
    let error =
        MaskedConv2d::new(&vs.root(), 1, 1, MaskedConv2dConfig::new([2, 3], Mask::A)).unwrap_err();
    assert_eq!(error.to_string(), "kernel height is 2, but must be odd");
}

fn bias(conv: &MaskedConv2d) -> &Tensor {
    conv.bias().expect("it has one")
}

/// Values and gradients of `loss = sum(c * ys)` for fixed coefficients c.
fn with_gradients(ys: &Tensor, leaves: &[&Tensor]) -> Vec<Tensor> {
    let options = (Kind::Float, Device::Cpu);
    let coefficients = (Tensor::arange(ys.numel() as i64, options) * 0.7).sin().reshape(ys.size());
    let loss = (ys.to_kind(Kind::Float) * coefficients).sum(Kind::Float);
    let mut all = Tensor::run_backward(&[loss], leaves, false, false);
    all.push(ys.detach());
    all
}

/// Greatest difference, in units of the greatest number.
fn difference(found: &Tensor, wanted: &Tensor) -> f64 {
    let wanted = wanted.to_kind(Kind::Float);
    ((found - &wanted).abs().max() / wanted.abs().max()).double_value(&[])
}

#[test]
fn the_matrix_product_is_the_convolution_in_values_and_gradients() -> Result<()> {
    for (kernel_size, mask, dilation) in KERNELS {
        let vs = nn::VarStore::new(Device::Cpu);
        let config = MaskedConv2dConfig { dilation, ..MaskedConv2dConfig::new(kernel_size, mask) };
        let conv = MaskedConv2d::new(&vs.root(), 2, 3, config)?;
        let xs = Tensor::randn([3, 2, 5, 6], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let leaves = [&xs, &conv.ws, bias(&conv)];
        let wanted = with_gradients(&conv.plain(&xs), &leaves);
        for (found, wanted) in with_gradients(&conv.forward(&xs), &leaves).iter().zip(&wanted) {
            let difference = difference(found, wanted);
            assert!(difference < 1e-5, "{kernel_size:?} {mask:?}: {difference}");
        }
        let guard = crate::autocast::Autocast::new(Device::Cpu);
        let ys = conv.forward(&xs);
        drop(guard);
        assert_eq!(ys.kind(), Kind::BFloat16);
        for (found, wanted) in with_gradients(&ys, &leaves).iter().zip(&wanted) {
            let difference = difference(found, wanted);
            assert!(difference < 0.03, "bf16 {kernel_size:?} {mask:?}: {difference}");
        }
    }
    Ok(())
}

#[test]
fn the_sum_of_two_convolutions_is_their_sum_in_values_and_gradients() -> Result<()> {
    let vs = nn::VarStore::new(Device::Cpu);
    let left = MaskedConv2dConfig { dilation: 2, ..MaskedConv2dConfig::new([1, 3], Mask::B) };
    let left = MaskedConv2d::new(&(vs.root() / "left"), 4, 6, left)?;
    let link = MaskedConv2dConfig::new([1, 1], Mask::UpToRow);
    let link = MaskedConv2d::new(&(vs.root() / "link"), 5, 6, link)?;
    let options = (Kind::Float, Device::Cpu);
    let xs = Tensor::randn([3, 4, 5, 6], options).set_requires_grad(true);
    let ys = Tensor::randn([3, 5, 5, 6], options).set_requires_grad(true);
    let leaves = [&xs, &ys, &left.ws, bias(&left), &link.ws, bias(&link)];
    let wanted = with_gradients(&(left.plain(&xs) + link.plain(&ys)), &leaves);
    for (found, wanted) in with_gradients(&left.sum(&xs, &link, &ys), &leaves).iter().zip(&wanted) {
        assert!(difference(found, wanted) < 1e-5);
    }
    Ok(())
}

#[test]
fn a_layer_without_a_bias_is_linear() -> Result<()> {
    let vs = nn::VarStore::new(Device::Cpu);
    let config = MaskedConv2dConfig { bias: false, ..MaskedConv2dConfig::new([3, 3], Mask::All) };
    let conv = MaskedConv2d::new(&vs.root(), 2, 3, config)?;
    let xs = Tensor::randn([1, 2, 4, 5], (Kind::Float, Device::Cpu));
    assert_eq!((vs.len(), conv.live_parameters()), (1, 54));
    assert!(difference(&(conv.forward(&(&xs * 2.)) * 0.5), &conv.forward(&xs)) < 1e-6);
    assert_eq!(conv.forward(&xs.zeros_like()).abs().max().double_value(&[]), 0.);
    Ok(())
}
