//! The centre of the house: a distribution over examples, one conditional at a time.
//!
//! `p(x | c) = prod_k p(x_{o(k)} | x_{o(0)}, ..., x_{o(k-1)}, c)` for positions drawn in the order `o` and a context `c`.
//! Letters: B examples, N positions, L levels.

use tch::Tensor;

use crate::{
    likelihood::Logistics,
    logistics::{MAX_TABLE_LEVELS, Mixture},
};

/// The positions of one example: how many levels each has, and in which order they are drawn.
///
/// The position of channel `c` at row `y`, column `x` of an image is `(y * width + x) * channels + c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Levels of each position: a symbol there is `0..levels`.
    pub levels: Vec<u32>,
    /// The position that is drawn k-th; a permutation of `0..levels.len()`.
    pub order: Vec<u32>,
}

impl Layout {
    /// `len` positions of `levels` levels each, drawn from first to last.
    pub fn uniform(len: usize, levels: u32) -> Self {
        Self { levels: vec![levels; len], order: (0..len as u32).collect() }
    }

    /// Positions N of one example.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Whether an example holds nothing.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }
}

/// What a distribution is conditioned on, one row an example: nothing, labels, features, codes of an upper level.
pub trait Context: Clone + Send + Sync {
    /// Examples B it speaks of.
    fn rows(&self) -> usize;

    /// The context of the given rows, in that order; a row may stand twice.
    #[must_use]
    fn select(&self, rows: &[usize]) -> Self;

    /// Draws of that row's example where it is shorter than the layout: what follows is neither drawn nor coded.
    fn length(&self, _row: usize) -> Option<usize> {
        None
    }
}

/// All conditionals of a batch, by position (not by draw order).
#[derive(Debug)]
pub enum Conditionals {
    /// Unnormalised log-probabilities of each level `[B, N, L]`.
    Logits(Tensor),
    /// Mixtures of logistics, discretised to the levels.
    Logistics(Logistics),
}

/// A distribution over examples of a fixed layout: the definition, in libtorch operations on any device.
pub trait Autoregressive {
    /// What it is conditioned on.
    type Context: Context;

    /// The positions of an example.
    fn layout(&self) -> Layout;

    /// Symbols `[B, N]`, int64, to the numbers that the first layer reads: the door through which an audit looks,
    /// since gradients flow from here on. The first two axes are B and N.
    fn embed(&self, xs: &Tensor) -> Tensor;

    /// Every conditional in one pass; those of the k-th drawn position depend on earlier drawn ones only.
    fn conditionals(&self, embedded: &Tensor, context: &Self::Context) -> Conditionals;
}

/// The same distribution, stepwise: what samplers and the codec are written over.
///
/// An engine is shared by threads, a [`Stepper`] belongs to one.
pub trait Engine {
    /// What it is conditioned on.
    type Context: Context;

    /// The positions of an example.
    fn layout(&self) -> &Layout;

    /// A stepper at the first position of `context.rows()` fresh examples.
    fn stepper<'a>(&'a self, context: &Self::Context) -> Box<dyn Stepper + 'a>;
}

/// Examples in lockstep: asks for the conditional at a position, is told the symbols there, moves on.
pub trait Stepper {
    /// Writes the conditional of the next position to draw, a row an example. Calling it twice gives the same.
    fn next(&mut self, out: &mut Conditional);

    /// Moves on: `symbols[b]` is what example b holds at the position that `next` spoke of.
    ///
    /// `next` need not have been called before: what is already known is fed, not asked for.
    fn feed(&mut self, symbols: &[u32]);
}

/// The conditionals of one position, a row an example: unnormalised log-probabilities `[rows, L]`, or mixtures of
/// logistics `[rows, 3, M]` that nobody need write out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditional {
    levels: usize,
    width: usize, // numbers of a row
    is_mixture: bool,
    numbers: Vec<f32>,
}

impl Conditional {
    /// Makes room for `rows` conditionals of `levels` levels and returns it, row by row; earlier content is lost.
    pub fn reset(&mut self, rows: usize, levels: usize) -> &mut [f32] {
        self.resize(rows, levels, levels, false)
    }

    /// Makes room for `rows` mixtures of `components` logistics over `levels` levels: of each row M unnormalised
    /// log-weights, M means and M logarithms of scales. Earlier content is lost.
    pub fn reset_mixtures(&mut self, rows: usize, levels: usize, components: usize) -> &mut [f32] {
        self.resize(rows, levels, 3 * components, true)
    }

    fn resize(&mut self, rows: usize, levels: usize, width: usize, is_mixture: bool) -> &mut [f32] {
        (self.levels, self.width, self.is_mixture) = (levels, width, is_mixture);
        self.numbers.resize(rows * width, 0.0);
        &mut self.numbers
    }

    /// The numbers of example `row` as they were written: log-probabilities of each level, or parameters of a mixture.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.width..(row + 1) * self.width]
    }

    /// The mixture of example `row`, where the conditionals are mixtures.
    pub fn mixture(&self, row: usize) -> Option<Mixture<'_>> {
        self.is_mixture.then(|| Mixture::of(self.row(row), self.levels))
    }

    /// The mixture of example `row` where it has more levels than a table should.
    pub fn wide_mixture(&self, row: usize) -> Option<Mixture<'_>> {
        self.mixture(row).filter(|_| self.levels > MAX_TABLE_LEVELS)
    }

    /// Unnormalised log-probabilities of each level of example `row`; those of a mixture are written to `room`.
    pub fn logits<'a>(&'a self, row: usize, room: &'a mut Vec<f32>) -> &'a [f32] {
        let Some(mixture) = self.mixture(row) else { return self.row(row) };
        room.resize(self.levels, 0.0);
        mixture.log_probs(room);
        room
    }

    /// Levels L.
    pub fn levels(&self) -> usize {
        self.levels
    }
}
