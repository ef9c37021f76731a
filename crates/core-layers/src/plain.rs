//! The sampler that mirrors the formula: one full pass for every symbol.

use tch::{Device, IndexOp, Kind, Tensor};

use crate::autoregressive::{Autoregressive, Conditional, Context, Engine, Layout, Stepper};

/// Steps through any [`Autoregressive`] model by whole passes, of which one position is read. Slow, and the reference
/// that every other engine is held to.
#[derive(Debug)]
pub struct Plain<'m, M> {
    model: &'m M,
    layout: Layout,
    device: Device,
}

impl<'m, M: Autoregressive> Plain<'m, M> {
    /// Steppers of `model`, whose weights are on `device`.
    pub fn new(model: &'m M, device: Device) -> Self {
        Self { model, layout: model.layout(), device }
    }
}

impl<M: Autoregressive> Engine for Plain<'_, M> {
    type Context = M::Context;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &M::Context) -> Box<dyn Stepper + 'a> {
        let sizes = [context.rows() as i64, self.layout.len() as i64];
        let xs = Tensor::zeros(sizes, (Kind::Int64, self.device));
        Box::new(PlainStepper { engine: self, context: context.clone(), xs, step: 0 })
    }
}

struct PlainStepper<'e, M: Autoregressive> {
    engine: &'e Plain<'e, M>,
    context: M::Context,
    xs: Tensor, // [B, N], zeros where nothing is known
    step: usize,
}

impl<M: Autoregressive> Stepper for PlainStepper<'_, M> {
    fn next(&mut self, out: &mut Conditional) {
        let position = i64::from(self.engine.layout.order[self.step]);
        tch::no_grad(|| {
            let model = self.engine.model;
            let all = model.conditionals(&model.embed(&self.xs), &self.context);
            all.at(position).write_to(out);
        });
    }

    fn feed(&mut self, symbols: &[u32]) {
        let symbols: Vec<i64> = symbols.iter().map(|&symbol| i64::from(symbol)).collect();
        let position = i64::from(self.engine.layout.order[self.step]);
        self.xs.i((.., position)).copy_(&Tensor::from_slice(&symbols));
        self.step += 1;
    }
}
