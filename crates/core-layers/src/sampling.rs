//! Drawing examples symbol by symbol: temperature, top-k, top-p, min-p, then the inverse of the distribution function.

use std::{
    ops::{ControlFlow, Range},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use clap::Args;
use ndarray::{ArrayViewMut2, Axis};
use serde::{Deserialize, Serialize};

use crate::{
    autoregressive::{Conditional, Context, Engine, Layout, Stepper},
    categorical::{Categorical, argmax},
    error::ConfigError,
    logistics::DiscretisedMixture,
    random,
};

/// How conditionals are sharpened before a symbol is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Args, Serialize, Deserialize)]
pub struct SamplingConfig {
    /// Divides the log-probabilities: 1 draws from the model, 0 takes the likeliest level.
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// Only the K likeliest levels (0: all).
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Only the likeliest levels that together reach probability P (1: all).
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Only levels at least this share as probable as the likeliest (0: all).
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f64,
}

impl Default for SamplingConfig {
    /// The model's own distribution.
    fn default() -> Self {
        Self { temperature: 1., top_k: 0, top_p: 1., min_p: 0. }
    }
}

impl SamplingConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ensure = ConfigError::ensure;
        let temperature = self.temperature;
        ensure(
            temperature >= 0. && temperature.is_finite(),
            "temperature",
            temperature,
            "0 or a positive number",
        )?;
        ensure(self.top_p > 0. && self.top_p <= 1., "top_p", self.top_p, "above 0 and at most 1")?;
        ensure((0. ..=1.).contains(&self.min_p), "min_p", self.min_p, "between 0 and 1")
    }
}

/// Draws symbols; holds the scratch space of the filters.
#[derive(Debug, Clone)]
struct Drawer {
    config: SamplingConfig,
    categorical: Categorical,
    mixture: DiscretisedMixture,
    table: Vec<f32>, // a mixture written out
    logits: Vec<f32>,
    ranking: Vec<usize>,
}

impl Drawer {
    fn new(config: SamplingConfig) -> Self {
        Self {
            config,
            categorical: Categorical::default(),
            mixture: DiscretisedMixture::default(),
            table: Vec::new(),
            logits: Vec::new(),
            ranking: Vec::new(),
        }
    }

    /// A symbol of example `row` at `u` of the distribution function; of the model's own distribution over very many levels
    /// by asking for some of them only.
    fn draw(&mut self, conditional: &Conditional, row: usize, u: f64) -> u32 {
        let is_plain = self.config == SamplingConfig::default();
        if let Some(mixture) = conditional.wide_mixture(row).filter(|_| is_plain) {
            self.mixture.set(mixture);
            return self.mixture.quantile(u);
        }
        let mut table = std::mem::take(&mut self.table);
        let symbol = self.draw_of(conditional.logits(row, &mut table), u);
        self.table = table;
        symbol
    }

    fn draw_of(&mut self, logits: &[f32], u: f64) -> u32 {
        if self.config.temperature == 0. {
            return argmax(logits);
        }
        if self.config == SamplingConfig::default() {
            self.categorical.set(logits);
        } else {
            self.filter(logits);
        }
        self.categorical.quantile(u)
    }

    /// Leaves the sharpened and cut distribution in `self.categorical`.
    fn filter(&mut self, logits: &[f32]) {
        let SamplingConfig { temperature, top_k, top_p, min_p } = self.config;
        self.logits.clear();
        self.logits.extend(logits.iter().map(|&l| (f64::from(l) / temperature) as f32));
        self.categorical.set(&self.logits);
        self.ranking.clear();
        self.ranking.extend(0..logits.len());
        let weights = self.categorical.weights();
        self.ranking.sort_by(|&a, &b| weights[b].total_cmp(&weights[a])); // stable: the first of equals stays first
        let keep = if top_k == 0 { logits.len() } else { top_k.min(logits.len()) };
        // each filter sees what the one before it left, renormalised
        let kept_mass: f64 = self.ranking[..keep].iter().map(|&v| f64::from(weights[v])).sum();
        let mut mass = 0.;
        let mut num_kept = 0;
        for &level in &self.ranking[..keep] {
            let rare = f64::from(weights[level]) < min_p * f64::from(weights[self.ranking[0]]);
            if num_kept > 0 && (rare || mass >= top_p * kept_mass) {
                break;
            }
            mass += f64::from(weights[level]);
            num_kept += 1;
        }
        for &level in &self.ranking[num_kept..] {
            self.logits[level] = f32::NEG_INFINITY;
        }
        self.categorical.set(&self.logits);
    }
}

/// What is drawn, and from which uniform numbers.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// Sharpening and cuts.
    pub config: SamplingConfig,
    /// With the index of an example and a position, the key of a uniform number.
    pub seed: u64,
    /// Draws before this one (in drawing order) are given, not drawn.
    pub known: usize,
}

/// Completes `symbols` `[B, N]` (by position): example b uses the uniform numbers of sample `first + b`.
///
/// `tick` hears of every position passed.
pub fn draw(
    stepper: &mut dyn Stepper,
    layout: &Layout,
    symbols: ArrayViewMut2<'_, u32>,
    first: usize,
    draws: Draws,
    tick: &dyn Fn(usize),
) {
    draw_while(stepper, layout, symbols, first, draws, &mut |column| {
        tick(column.len());
        ControlFlow::Continue(())
    });
}

/// [`draw`], but `tick` hears the symbols of every position as soon as they are there, and may break off.
pub fn draw_while(
    stepper: &mut dyn Stepper,
    layout: &Layout,
    mut symbols: ArrayViewMut2<'_, u32>,
    first: usize,
    draws: Draws,
    tick: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
) {
    let rows = symbols.nrows();
    let mut uniforms: Vec<_> =
        (0..rows).map(|row| random::generator(draws.seed, "draw", (first + row) as u64)).collect();
    for generator in &mut uniforms {
        generator.set_word_pos(2 * draws.known as u128);
    }
    let mut drawer = Drawer::new(draws.config);
    let mut conditional = Conditional::default();
    let mut column = vec![0; rows];
    for (k, &position) in layout.order.iter().enumerate() {
        let mut at = symbols.column_mut(position as usize);
        if k >= draws.known {
            stepper.next(&mut conditional);
            for (row, symbol) in at.iter_mut().enumerate() {
                *symbol = drawer.draw(&conditional, row, random::uniform(&mut uniforms[row]));
            }
        }
        for (to, &from) in column.iter_mut().zip(&at) {
            *to = from;
        }
        if tick(&column).is_break() {
            return;
        }
        stepper.feed(&column);
    }
}

/// Examples that are stepped side by side: enough to fill a vector of 16, few enough to give each thread a share. Not
/// two: they cost what four do, and alone they are faster one after the other.
pub fn groups(rows: usize, threads: usize) -> Vec<Range<usize>> {
    let share = rows.div_ceil(threads.max(1)).clamp(1, 16);
    let size = if share == 2 { 1 } else { share };
    (0..rows).step_by(size).map(|start| start..(start + size).min(rows)).collect()
}

/// Calls `work` on every item, with `threads` threads taking the next one as they become free. Results keep the order.
pub fn in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let slots: Vec<Mutex<(Option<T>, Option<R>)>> =
        items.into_iter().map(|item| Mutex::new((Some(item), None))).collect();
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            let item = slot.lock().ok().and_then(|mut slot| slot.0.take());
            let result = item.map(&work);
            if let Ok(mut slot) = slot.lock() {
                slot.1 = result;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.max(1).min(slots.len().max(1)) {
            scope.spawn(run);
        }
        run();
    });
    slots
        .into_iter()
        .filter_map(|slot| slot.into_inner().ok().and_then(|(_, result)| result))
        .collect()
}

/// Completes `symbols` `[B, N]` with steppers of `engine` on `threads` threads; the result is the same for any number.
pub fn draw_in_parallel<E: Engine + Sync>(
    engine: &E,
    context: &E::Context,
    mut symbols: ArrayViewMut2<'_, u32>,
    draws: Draws,
    threads: usize,
    tick: &(dyn Fn(usize) + Sync),
) {
    let mut shares = Vec::new();
    let groups = groups(symbols.nrows(), threads);
    let mut rest = symbols.view_mut();
    for group in groups {
        let (share, tail) = rest.split_at(Axis(0), group.len());
        rest = tail;
        shares.push((group, share));
    }
    in_parallel(shares, threads, |(group, share)| {
        let rows: Vec<usize> = group.clone().collect();
        let mut stepper = engine.stepper(&context.select(&rows));
        draw(stepper.as_mut(), engine.layout(), share, group.start, draws, tick);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(config: SamplingConfig, logits: &[f32]) -> Vec<f64> {
        let mut drawer = Drawer::new(config);
        let mut counts = vec![0.; logits.len()];
        for i in 0..1000 {
            counts[drawer.draw_of(logits, (f64::from(i) + 0.5) / 1000.) as usize] += 1e-3;
        }
        counts
    }

    const LOGITS: [f32; 4] = [0., 1., 2., -1.];

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-3)
    }

    fn softmax(logits: &[f64]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|l| l.exp()).sum();
        logits.iter().map(|l| l.exp() / total).collect()
    }

    #[test]
    fn temperature_one_is_the_model_and_zero_is_argmax() {
        let plain = SamplingConfig::default();
        assert!(close(&frequencies(plain, &LOGITS), &softmax(&[0., 1., 2., -1.])));
        let cold = SamplingConfig { temperature: 0., ..plain };
        assert_eq!(Drawer::new(cold).draw_of(&LOGITS, 0.01), 2);
        let warm = SamplingConfig { temperature: 2., ..plain };
        assert!(close(&frequencies(warm, &LOGITS), &softmax(&[0., 0.5, 1., -0.5])));
    }

    #[test]
    fn filters_keep_the_likeliest_and_renormalise() {
        let plain = SamplingConfig::default();
        let two = softmax(&[1., 2.]);
        let wanted = [0., two[0], two[1], 0.];
        assert!(close(&frequencies(SamplingConfig { top_k: 2, ..plain }, &LOGITS), &wanted));
        assert!(close(&frequencies(SamplingConfig { top_p: 0.8, ..plain }, &LOGITS), &wanted));
        assert!(close(&frequencies(SamplingConfig { min_p: 0.3, ..plain }, &LOGITS), &wanted));
        let one = frequencies(SamplingConfig { top_p: 1e-9, ..plain }, &LOGITS);
        assert!(close(&one, &[0., 0., 1., 0.]), "at least one level is left");
    }

    #[test]
    fn parallel_work_keeps_its_order() {
        let squares = in_parallel((0..100).collect(), 4, |i: i32| i * i);
        assert_eq!(squares, (0..100).map(|i| i * i).collect::<Vec<_>>());
    }

    #[test]
    fn groups_cover_every_row_once() {
        for (rows, threads) in [(1, 2), (4, 2), (16, 2), (17, 1), (100, 3), (0, 2)] {
            let all: Vec<usize> = groups(rows, threads).into_iter().flatten().collect();
            assert_eq!(all, (0..rows).collect::<Vec<_>>());
        }
    }
}
