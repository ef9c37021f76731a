//! Which images a step sees: a function of the seed and the step.

use std::borrow::Cow;

use core_layers::dataset::order;

use crate::{
    config::Run,
    data::{Dataset, Images},
};

/// The training images of one epoch, in their order.
pub(super) struct Epoch<'d> {
    number: u64,
    pub(super) images: Cow<'d, Images>,
    order: Vec<usize>,
}

impl<'d> Epoch<'d> {
    /// No epoch yet.
    pub(super) fn before_the_first(dataset: &'d Dataset) -> Self {
        Self { number: u64::MAX, images: Cow::Borrowed(&dataset.train), order: Vec::new() }
    }

    /// Makes it the epoch that `step` belongs to. An epoch has whole batches only.
    pub(super) fn enter(&mut self, run: &Run, dataset: &'d Dataset, step: u64) {
        let number = (step - 1) / Self::steps(run, dataset.train.len());
        if number != self.number {
            self.number = number;
            self.images = dataset.epoch(run.train.seed, number);
            self.order = order(run.train.seed, number, dataset.train.len());
        }
    }

    fn steps(run: &Run, images: usize) -> u64 {
        (images / run.train.batch_size).max(1) as u64
    }

    /// The images of `step`; a set smaller than a batch is gone through again.
    pub(super) fn batch(&self, run: &Run, step: u64) -> Vec<usize> {
        let first =
            ((step - 1) % Self::steps(run, self.order.len())) as usize * run.train.batch_size;
        (first..first + run.train.batch_size).map(|i| self.order[i % self.order.len()]).collect()
    }
}
