//! The laws of a quantiser.

use anyhow::Result;
use tch::{Device, kind::FLOAT_CPU};

use super::*;
use crate::{autocast::Precision, optim};

fn quantiser(config: &QuantiserConfig) -> Result<(nn::VarStore, VectorQuantiser)> {
    tch::manual_seed(5);
    let vs = nn::VarStore::new(Device::Cpu);
    let quantiser = VectorQuantiser::new(&vs.root(), config)?;
    Ok((vs, quantiser))
}

fn small(codes: i64, dim: i64, codebooks: i64) -> QuantiserConfig {
    QuantiserConfig { codes, dim, codebooks, ..QuantiserConfig::default() }
}

/// Places the codes.
fn put(quantiser: &VectorQuantiser, values: &[f32]) {
    let values = Tensor::from_slice(values).view_as(&quantiser.codes);
    tch::no_grad(|| {
        quantiser.codes.shallow_clone().copy_(&values);
        quantiser.sums.shallow_clone().copy_(&values);
    });
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.detach().flatten(0, -1)).unwrap()
}

fn integers(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor.flatten(0, -1)).unwrap()
}

#[test]
fn the_nearest_code_is_that_of_a_brute_search_also_under_autocast() -> Result<()> {
    let (_vs, quantiser) = quantiser(&small(37, 5, 3))?;
    put(&quantiser, &floats(&Tensor::randn([3 * 37 * 5], FLOAT_CPU)));
    let xs = Tensor::randn([200, 15], FLOAT_CPU);
    let (codes, vectors) = (floats(&quantiser.codes), floats(&xs));
    let mut wanted = Vec::new();
    for row in vectors.chunks(15) {
        for (book, part) in row.chunks(5).enumerate() {
            let distance = |k: usize| -> f64 {
                let code = &codes[(book * 37 + k) * 5..][..5];
                code.iter().zip(part).map(|(&e, &x)| (f64::from(e) - f64::from(x)).powi(2)).sum()
            };
            let best = (0..37).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap();
            wanted.push(best as i64);
        }
    }
    assert_eq!(integers(&quantiser.nearest(&xs)), wanted);
    let _autocast = Precision::Bf16.autocast(Device::Cpu);
    assert_eq!(integers(&quantiser.nearest(&xs)), wanted);
    Ok(())
}

#[test]
fn the_lowest_of_many_is_found_part_by_part() {
    // few values: ties within and between parts; many: the lowest lies in any part
    for values in [9, 150, 10_000] {
        let size = [500, 192];
        let distances = Tensor::randint(values, size, (Kind::Int64, Device::Cpu));
        let distances = distances.to_kind(Kind::Float);
        assert_eq!(lowest(&distances), distances.argmin(-1, false), "of {values} values");
    }
}

#[test]
fn of_equally_near_codes_the_lowest_is_taken() -> Result<()> {
    let (_vs, quantiser) = quantiser(&small(4, 1, 1))?;
    put(&quantiser, &[3., 1., -1., 1.]);
    let codes = quantiser.nearest(&Tensor::from_slice(&[0f32, 1., 9.]).view([3, 1]));
    assert_eq!(integers(&codes), [1, 1, 0]);
    Ok(())
}

#[test]
fn gradients_go_straight_through_and_the_commitment_pulls_to_the_code() -> Result<()> {
    let (vs, quantiser) = quantiser(&small(8, 4, 2))?;
    let xs = Tensor::randn([2, 8, 3, 5], FLOAT_CPU).set_requires_grad(true);
    let found = quantiser.forward(&xs);
    let exact = quantiser.decode(&found.codes);
    assert!((&found.vectors - &exact).abs().max().double_value(&[]) < 1e-6);
    let upstream = Tensor::randn([2, 8, 3, 5], FLOAT_CPU);
    let straight =
        Tensor::run_backward(&[(&found.vectors * &upstream).sum(Kind::Float)], &[&xs], true, false);
    assert_eq!(straight[0], upstream, "exactly");
    let pull = &Tensor::run_backward(&[&found.loss], &[&xs], true, false)[0];
    let wanted = (&xs - &exact) * (2. * 0.25 / xs.numel() as f64);
    assert!((pull - wanted).abs().max().double_value(&[]) < 1e-8);
    (found.vectors.sum(Kind::Float) + found.loss).backward();
    assert!(vs.variables().values().all(|it| !it.grad().defined()), "no gradient moves a code");
    Ok(())
}

#[test]
fn the_papers_own_loss_moves_codes_but_not_what_they_say() -> Result<()> {
    let config = QuantiserConfig { update: CodebookUpdate::Gradient, beta: 0., ..small(8, 4, 1) };
    let (_vs, quantiser) = quantiser(&config)?;
    let xs = Tensor::randn([6, 4, 1, 1], FLOAT_CPU).set_requires_grad(true);
    let found = quantiser.forward(&xs);
    found.loss.backward();
    assert_eq!(xs.grad().abs().max().double_value(&[]), 0.);
    let vectors = rows(&xs).detach();
    let mut wanted = quantiser.codes.detach().zeros_like().view([8, 4]);
    let codes = integers(&found.codes);
    for (row, &code) in codes.iter().enumerate() {
        let difference = quantiser.codebooks().get(0).get(code) - vectors.get(row as i64);
        let _ = wanted.get(code).g_add_(&(difference * (2. / 24.)));
    }
    wanted = wanted.view([1, 8, 4]);
    assert!((quantiser.codes.grad() - wanted).abs().max().double_value(&[]) < 1e-7);
    let before = quantiser.codebooks().copy();
    quantiser.update(&vectors, &quantiser.nearest(&vectors));
    assert_eq!(quantiser.codebooks(), before, "running means are the other way");
    Ok(())
}

#[test]
fn a_step_of_the_running_means_is_that_of_the_hand() -> Result<()> {
    let config = QuantiserConfig { update: CodebookUpdate::Ema { decay: 0.5 }, ..small(3, 1, 1) };
    let (_vs, quantiser) = quantiser(&config)?;
    put(&quantiser, &[0., 10., 20.]); // counts 1
    let xs = Tensor::from_slice(&[1f32, 2., 12.]).view([3, 1]);
    quantiser.update(&xs, &quantiser.nearest(&xs));
    // n = 0.5 + 0.5 [2, 1, 0]; m = 0.5 [0, 10, 20] + 0.5 [3, 12, 0]
    assert_eq!(floats(&quantiser.counts), [1.5, 1., 0.5]);
    assert_eq!(floats(&quantiser.sums), [1.5, 11., 10.]);
    let codes = floats(&quantiser.codes);
    assert!((codes[0] - 1.).abs() < 1e-4 && (codes[1] - 11.).abs() < 1e-4, "{codes:?}");
    assert_eq!(codes[2], 20., "nobody chose it");
    Ok(())
}

#[test]
fn codes_at_the_means_of_their_vectors_stay() -> Result<()> {
    let (_vs, quantiser) = quantiser(&small(2, 1, 1))?;
    put(&quantiser, &[1., 5.]);
    let xs = Tensor::from_slice(&[0.5f32, 1.5, 4., 6.]).view([4, 1]);
    let _ = tch::no_grad(|| quantiser.counts.shallow_clone().fill_(2.));
    tch::no_grad(|| quantiser.sums.shallow_clone().copy_(&(&quantiser.codes * 2.)));
    for _ in 0..100 {
        quantiser.update(&xs, &quantiser.nearest(&xs));
    }
    let codes = floats(&quantiser.codes);
    assert!((codes[0] - 1.).abs() < 1e-4 && (codes[1] - 5.).abs() < 1e-4, "{codes:?}");
    Ok(())
}

#[test]
fn a_code_that_nobody_chooses_stays_where_it_is_for_ever() -> Result<()> {
    let (_vs, quantiser) = quantiser(&small(3, 2, 1))?;
    put(&quantiser, &[0., 0., 1., 1., 50., -50.]);
    let xs = Tensor::from_slice(&[0f32, 0.1, 1., 1.1]).view([2, 2]);
    for _ in 0..5000 {
        quantiser.update(&xs, &quantiser.nearest(&xs));
    }
    assert_eq!(&floats(&quantiser.codes)[4..], [50., -50.]);
    let late = Tensor::from_slice(&[48f32, -48.]).view([1, 2]);
    quantiser.update(&late, &quantiser.nearest(&late));
    let code = &floats(&quantiser.codes)[4..];
    assert!((code[0] - 48.).abs() < 0.2 && (code[1] + 48.).abs() < 0.2, "{code:?}");
    Ok(())
}

#[test]
fn a_restart_moves_dead_codes_alone_and_all_that_they_carry() -> Result<()> {
    let (_vs, quantiser) = quantiser(&small(4, 2, 1))?;
    put(&quantiser, &[0., 0., 1., 1., 90., 90., 80., 80.]);
    let xs = Tensor::randn([64, 2], FLOAT_CPU);
    for step in 0..600 {
        quantiser.update(&xs, &quantiser.nearest(&xs));
        let moved = quantiser.restart(&xs, 7, step);
        if moved > 0 {
            assert_eq!(moved, 2);
            break;
        }
    }
    let codes = quantiser.codebooks().get(0);
    let share = quantiser.counts.mean(Kind::Float).double_value(&[]);
    let mut found = Vec::new();
    for code in [2, 3] {
        let rows = xs.eq_tensor(&codes.get(code)).all_dim(1, false).nonzero();
        found.push(integers(&rows)[0]);
        let count = quantiser.counts.double_value(&[0, code]);
        assert!((count / share - 1.).abs() < 0.5, "an even share: {count} of {share}");
        let mean = quantiser.sums.get(0).get(code) / count;
        assert!((mean - codes.get(code)).abs().max().double_value(&[]) < 1e-5);
    }
    assert_ne!(found[0], found[1], "two codes at one vector");
    assert_eq!(quantiser.restart(&xs, 7, 601), 0);
    Ok(())
}

#[test]
fn a_start_by_k_means_finds_what_lies_apart() -> Result<()> {
    let (vs, quantiser) = quantiser(&small(3, 1, 1))?;
    let around = |mean: f32| (0..30).map(move |i| mean + (i % 5) as f32 * 0.01);
    let all: Vec<f32> = [-3f32, 0., 4.].into_iter().flat_map(around).collect();
    quantiser.start(&Tensor::from_slice(&all).view([90, 1]), 4);
    let mut codes = floats(&quantiser.codes);
    codes.sort_by(f32::total_cmp);
    for (found, wanted) in codes.iter().zip([-2.98, 0.02, 4.02]) {
        assert!((found - wanted).abs() < 1e-4, "{codes:?}");
    }
    assert_eq!(floats(&quantiser.counts), [30.; 3]);
    assert_eq!(optim::parameters(&vs).len(), 3, "a checkpoint holds codes, counts and sums");
    Ok(())
}

#[test]
fn perplexity_is_one_for_one_code_and_their_number_for_all_alike() {
    assert_eq!(perplexity(&usage([3, 3, 3], 8)), 1.);
    assert!((perplexity(&usage(0..8, 8)) - 8.).abs() < 1e-12);
    assert!((perplexity(&[1, 1, 0, 2]) - 2f64.powf(1.5)).abs() < 1e-12);
}
