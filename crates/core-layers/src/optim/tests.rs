//! Laws of the optimiser: the published formula, exact resumption, clipping, the average's warm-up.

use tch::{Device, kind::FLOAT_CPU};

use super::*;
use crate::checkpoint::Checkpoint;

const CONFIG: AdamWConfig =
    AdamWConfig { beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weight_decay: 0.1 };

fn model(kind: Kind) -> BTreeMap<String, Tensor> {
    let ramp = |n: i64| Tensor::arange(n, (kind, Device::Cpu)) / 5.0 - 0.7;
    BTreeMap::from([
        ("bias".to_owned(), ramp(4).set_requires_grad(true)),
        ("weight".to_owned(), ramp(12).view([3, 4]).set_requires_grad(true)),
    ])
}

/// A loss whose gradient changes from step to step.
fn loss(model: &BTreeMap<String, Tensor>, step: u64) -> Tensor {
    let ys = (&model["weight"] * (1.0 + step as f64)).sin() + &model["bias"];
    ys.square().sum(ys.kind())
}

fn train(
    model: &BTreeMap<String, Tensor>,
    optimizer: &mut AdamW,
    steps: std::ops::RangeInclusive<u64>,
) {
    for step in steps {
        optimizer.zero_grad();
        loss(model, step).backward();
        optimizer.step(0.03);
    }
}

fn numbers(x: &Tensor) -> Vec<f64> {
    Vec::try_from(x.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

#[test]
fn ten_steps_follow_the_published_formula() {
    let model = model(Kind::Double);
    let mut optimizer = AdamW::new(&model, CONFIG);
    let mut reference: BTreeMap<&str, [Vec<f64>; 3]> = model
        .iter()
        .map(|(name, x)| (name.as_str(), [numbers(x), vec![0.0; x.numel()], vec![0.0; x.numel()]]))
        .collect();
    for step in 1..=10 {
        train(&model, &mut optimizer, step..=step);
        for (name, [ws, ms, vs]) in &mut reference {
            let decay = if *name == "weight" { CONFIG.weight_decay } else { 0.0 };
            for (i, g) in numbers(&model[*name].grad()).into_iter().enumerate() {
                ms[i] = CONFIG.beta1 * ms[i] + (1.0 - CONFIG.beta1) * g;
                vs[i] = CONFIG.beta2 * vs[i] + (1.0 - CONFIG.beta2) * g * g;
                let mean = ms[i] / (1.0 - CONFIG.beta1.powi(step as i32));
                let square = vs[i] / (1.0 - CONFIG.beta2.powi(step as i32));
                ws[i] -= 0.03 * (decay * ws[i] + mean / (square.sqrt() + CONFIG.epsilon));
            }
            for (ours, theirs) in numbers(&model[*name]).into_iter().zip(ws) {
                assert!((ours - *theirs).abs() < 1e-12, "{name} at step {step}: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn a_restored_optimiser_takes_the_very_same_steps() {
    let (whole, cut) = (model(Kind::Float), model(Kind::Float));
    train(&whole, &mut AdamW::new(&whole, CONFIG), 1..=6);

    let mut first = AdamW::new(&cut, CONFIG);
    train(&cut, &mut first, 1..=3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let mut saved = Checkpoint::default();
    saved.insert("weights.", &cut);
    saved.insert("optimizer.", &first.state());
    saved.save(&path).unwrap();

    let resumed = model(Kind::Float);
    let mut second = AdamW::new(&resumed, CONFIG);
    let loaded = Checkpoint::load(&path).unwrap();
    loaded.copy_into(&path, "weights.", &resumed).unwrap();
    loaded.copy_into(&path, "optimizer.", &second.state()).unwrap();
    train(&resumed, &mut second, 4..=6);
    for (name, x) in &whole {
        assert!(x.equal(&resumed[name]), "{name}");
    }
}

#[test]
fn a_gradient_in_another_memory_order_is_put_in_order_for_the_kernel() {
    let ws = Tensor::zeros([2, 3, 4, 5], FLOAT_CPU).set_requires_grad(true);
    let turned = ws.detach().permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    let mut grad = turned.empty_like();
    grad.copy_(&Tensor::arange(120, FLOAT_CPU).view([2, 3, 4, 5]));
    let ordered = laid_out_like(&ws, grad.shallow_clone());
    assert_eq!(ordered.stride(), ws.stride());
    assert!(ordered.equal(&grad));
}

#[test]
fn parameters_without_a_gradient_stay() {
    let model = model(Kind::Float);
    let mut optimizer = AdamW::new(&model, CONFIG);
    let before = model["bias"].copy();
    model["weight"].sum(Kind::Float).backward();
    optimizer.step(0.1);
    assert!(model["bias"].equal(&before));
    assert_eq!(numbers(&optimizer.state()["step.bias"]), [0.0]);
    assert_eq!(numbers(&optimizer.state()["step.weight"]), [1.0]);
}

#[test]
fn clipping_shortens_long_gradients_and_leaves_short_ones() {
    let model = model(Kind::Double);
    let mut optimizer = AdamW::new(&model, CONFIG);
    loss(&model, 1).backward();
    let all = || model.values().flat_map(|x| numbers(&x.grad())).collect::<Vec<f64>>();
    let norm_of = |grads: &[f64]| grads.iter().map(|g| g * g).sum::<f64>().sqrt();
    let (before, norm) = (all(), norm_of(&all()));

    assert!((optimizer.clip(2.0 * norm) - norm).abs() < 1e-9);
    assert_eq!(all(), before);
    assert!((optimizer.clip(norm / 4.0) - norm).abs() < 1e-9);
    assert!((norm_of(&all()) - norm / 4.0).abs() < 1e-5 * norm);
    assert!((all()[0] / before[0] - 0.25).abs() < 1e-5, "the direction stays");
}

#[test]
fn the_average_warms_up_and_then_decays_as_told() {
    let weights = BTreeMap::from([("w".to_owned(), Tensor::zeros([1], FLOAT_CPU))]);
    let mut ema = Ema::new(&weights, 0.5);
    let _ = weights["w"].shallow_clone().fill_(1.0);
    ema.update(1); // d = 2/11
    assert!((numbers(&ema.tensors()["w"])[0] - 9.0 / 11.0).abs() < 1e-6);
    ema.update(1000); // d = 0.5
    assert!((numbers(&ema.tensors()["w"])[0] - 10.0 / 11.0).abs() < 1e-6);
}

#[test]
fn swapping_twice_restores_both_and_once_evaluates_the_average() {
    let weights = model(Kind::Float);
    let mut ema = Ema::new(&weights, 0.9);
    let before = weights["weight"].copy();
    train(&weights, &mut AdamW::new(&weights, CONFIG), 1..=1);
    let after = weights["weight"].copy();
    ema.swap();
    assert!(weights["weight"].equal(&before) && ema.tensors()["weight"].equal(&after));
    assert!(weights["weight"].requires_grad());
    ema.swap();
    assert!(weights["weight"].equal(&after) && ema.tensors()["weight"].equal(&before));
}

#[test]
fn numbers_outside_their_range_are_refused_by_name() {
    assert_eq!(AdamWConfig::default().validate(), Ok(()));
    let message = AdamWConfig { beta2: 1.0, ..CONFIG }.validate().unwrap_err().to_string();
    assert_eq!(message, "beta2 is 1, but must be at least 0 and below 1");
    assert!(AdamWConfig { epsilon: 0.0, ..CONFIG }.validate().is_err());
}
