//! A model so small that everything about it is known: what the tests of likelihood, codec and audit run on.

use ndarray::{Array2, ArrayView2};
use tch::{Device, Kind, Tensor};

use crate::{
    autoregressive::{Autoregressive, Conditional, Conditionals, Context, Engine, Layout, Stepper},
    sampling::{Draws, SamplingConfig, draw_in_parallel},
};

/// A context that says nothing but how many draws each example has at the most.
#[derive(Debug, Clone)]
pub(crate) struct Rows(pub(crate) Vec<usize>);

/// `count` examples of full length.
pub(crate) fn rows(count: usize) -> Rows {
    Rows(vec![usize::MAX; count])
}

impl Context for Rows {
    fn rows(&self) -> usize {
        self.0.len()
    }

    fn select(&self, rows: &[usize]) -> Self {
        Self(rows.iter().map(|&row| self.0[row]).collect())
    }

    fn length(&self, row: usize) -> Option<usize> {
        Some(self.0[row])
    }
}

/// A Markov chain: `log p(x_i | x_{i-1})` up to a constant is `-|x_i - x_{i-1}|`, and `x_{-1} = 0`.
#[derive(Debug)]
pub(crate) struct Markov {
    pub(crate) layout: Layout,
    levels: u32,
    /// Breaks causality on purpose: position i sees itself.
    pub(crate) leaks: bool,
}

impl Markov {
    pub(crate) fn new(len: usize, levels: u32) -> Self {
        Self { layout: Layout::uniform(len, levels), levels, leaks: false }
    }

    pub(crate) fn sample(&self, count: usize, seed: u64) -> Array2<u32> {
        let mut symbols = Array2::zeros((count, self.layout.len()));
        let draws = Draws { config: SamplingConfig::default(), seed, known: 0 };
        draw_in_parallel(self, &rows(count), symbols.view_mut(), draws, 1, &|_| {});
        symbols
    }

    pub(crate) fn nats(&self, symbols: ArrayView2<'_, u32>) -> f64 {
        let xs: Vec<i64> = symbols.iter().map(|&x| i64::from(x)).collect();
        let xs = Tensor::from_slice(&xs).reshape([symbols.nrows() as i64, symbols.ncols() as i64]);
        crate::likelihood::nll(self, &xs, &rows(symbols.nrows()))
            .sum(Kind::Double)
            .double_value(&[])
    }
}

impl Autoregressive for Markov {
    type Context = Rows;

    fn layout(&self) -> Layout {
        self.layout.clone()
    }

    fn embed(&self, xs: &Tensor) -> Tensor {
        xs.to_kind(Kind::Float).unsqueeze(-1)
    }

    fn conditionals(&self, embedded: &Tensor, _: &Rows) -> Conditionals {
        let len = self.layout.len() as i64;
        let before = if self.leaks {
            embedded.shallow_clone()
        } else {
            embedded.constant_pad_nd([0, 0, 1, 0]).narrow(1, 0, len)
        };
        let levels = Tensor::arange(i64::from(self.levels), (Kind::Float, Device::Cpu));
        Conditionals::Logits(-(before - levels).abs())
    }
}

impl Engine for Markov {
    type Context = Rows;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &Rows) -> Box<dyn Stepper + 'a> {
        Box::new(MarkovStepper { levels: self.levels, last: vec![0; context.rows()] })
    }
}

struct MarkovStepper {
    levels: u32,
    last: Vec<u32>,
}

impl Stepper for MarkovStepper {
    fn next(&mut self, out: &mut Conditional) {
        let levels = self.levels as usize;
        for (row, logits) in out.reset(self.last.len(), levels).chunks_mut(levels).enumerate() {
            for (level, logit) in logits.iter_mut().enumerate() {
                *logit = -(level as f32 - self.last[row] as f32).abs();
            }
        }
    }

    fn feed(&mut self, symbols: &[u32]) {
        self.last.copy_from_slice(symbols);
    }
}
