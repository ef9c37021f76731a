//! Cross-entropy of symbols under logits, without a softmax in memory. Letters: L levels, Z the sum of `e^logit`.
//!
//! `log p(x) = logit[x] - log Z`. `log Z` itself is there for a z-loss, `c mean((log Z)^2)`, which keeps logits from
//! drifting (Chowdhery et al., "PaLM", 2022, section 5, <https://arxiv.org/abs/2204.02311>).
//!
//! Kernels read logits in the kind that they have, sum in f32, and write one gradient: over the logits' own memory where
//! the backward pass finds that nobody else can read it (no other handle, view or saved tensor, and no graph kept for
//! another pass), which in training is so of a last layer; else beside them.

use tch::{Kind, Tensor};

use crate::kernels::{cross_entropy, cuda, ffi};

/// A symbol that does not count: of its position both outputs are 0, and the logits get no gradient. That of PyTorch.
pub const IGNORED: i64 = -100;

/// `log softmax(logits)[symbol]` in nats, 0 where the symbol is [`IGNORED`].
///
/// # Shape
/// `[..., L]` and int64 `[...]` to `[...]`, f32, or f64 of f64 logits.
///
/// ```
/// use core_layers::cross_entropy::{IGNORED, log_prob};
/// use tch::{Device, Kind, Tensor};
/// let logits = Tensor::zeros([2, 4], (Kind::Float, Device::Cpu));
/// let found = Vec::<f32>::try_from(log_prob(&logits, &Tensor::from_slice(&[3, IGNORED]))).unwrap();
/// assert_eq!(found, [-4f32.ln(), 0.]);
/// ```
///
/// # Panics
/// If there is not a symbol a position, or a symbol is neither a level nor ignored. On a GPU, where asking would mean
/// waiting, such a symbol gives NaN.
pub fn log_prob(logits: &Tensor, symbols: &Tensor) -> Tensor {
    match by_kernel(logits, symbols) {
        Some([log_prob, _]) => log_prob,
        None => plain_log_prob(&without_ignored(logits, symbols), symbols),
    }
}

/// [`log_prob`], and `log Z` of every position, 0 where the symbol is [`IGNORED`]; the gradients of both in one pass.
///
/// # Shape
/// `[..., L]` and int64 `[...]` to twice `[...]`, f32, or f64 of f64 logits.
///
/// # Panics
/// As [`log_prob`].
pub fn log_prob_and_log_z(logits: &Tensor, symbols: &Tensor) -> [Tensor; 2] {
    by_kernel(logits, symbols).unwrap_or_else(|| {
        let logits = without_ignored(logits, symbols);
        [plain_log_prob(&logits, symbols), plain_log_z(&logits, symbols)]
    })
}

/// Log-probabilities and `log Z` by a kernel, where one can run.
fn by_kernel(logits: &Tensor, symbols: &Tensor) -> Option<[Tensor; 2]> {
    let found = if let Some(gpu) =
        cuda::of(logits.device()).filter(|_| cuda::Element::of(logits.kind()).is_some())
    {
        cuda::cross_entropy::cross_entropy(gpu, logits, symbols)
    } else if ffi::takes_kind(logits) {
        cross_entropy::cross_entropy(logits, symbols)
    } else {
        return None;
    };
    Some(found.unwrap_or_else(|error| panic!("log-probabilities: {error}")))
}

/// Logits whose ignored positions, whatever they hold, stay out of every gradient.
fn without_ignored(logits: &Tensor, symbols: &Tensor) -> Tensor {
    let ignored = symbols.eq(IGNORED);
    if ignored.any().int64_value(&[]) == 0 {
        return logits.shallow_clone();
    }
    logits.masked_fill(&ignored.unsqueeze(-1), 0.)
}

/// The kind to sum in.
fn wide(logits: &Tensor) -> Kind {
    if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float }
}

/// The definition; [`log_prob`] does the same where it can without writing the softmax down.
fn plain_log_prob(logits: &Tensor, symbols: &Tensor) -> Tensor {
    let ignored = symbols.eq(IGNORED);
    let levels = symbols.masked_fill(&ignored, 0);
    let chosen = logits.log_softmax(-1, wide(logits)).gather(-1, &levels.unsqueeze(-1), false);
    chosen.squeeze_dim(-1).masked_fill(&ignored, 0.)
}

/// The definition of `log Z`.
fn plain_log_z(logits: &Tensor, symbols: &Tensor) -> Tensor {
    let log_z = logits.to_kind(wide(logits)).logsumexp([-1i64].as_slice(), false);
    log_z.masked_fill(&symbols.eq(IGNORED), 0.)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::kernels::without;

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// Two outputs and, of a fixed combination of them, the gradient of the logits.
    fn values_and_gradient(outputs: &[Tensor; 2], logits: &Tensor) -> [Tensor; 3] {
        let weigh = |it: &Tensor, step: f64| {
            let weights = (Tensor::arange(it.numel() as i64, FLOAT) * step).sin();
            (it.view(-1) * weights).sum(Kind::Double)
        };
        let loss = weigh(&outputs[0], 0.7) + weigh(&outputs[1].square(), 1.3);
        let gradient = Tensor::run_backward(&[loss], &[logits], false, false).remove(0);
        [outputs[0].detach(), outputs[1].detach(), gradient]
    }

    fn symbols(levels: i64, positions: i64) -> Tensor {
        let all = (Tensor::arange(positions, (Kind::Int64, Device::Cpu)) * 7).remainder(levels);
        all.masked_fill(&all.remainder(5).eq(3), IGNORED)
    }

    #[test]
    fn the_kernel_is_the_softmax_in_values_and_gradients() {
        for levels in [1, 2, 33, 300] {
            let symbols = symbols(levels, 40).view([4, 10]);
            let logits = Tensor::randn([4, 10, levels], FLOAT) * 8. - 3.;
            if levels > 1 {
                let _ = logits.view(-1).narrow(0, 1, 1).fill_(-1e30);
            }
            for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 4e-3)] {
                let logits = logits.to_kind(kind).set_requires_grad(true);
                let wide = logits.detach().to_kind(Kind::Double).set_requires_grad(true);
                let wanted = values_and_gradient(&log_prob_and_log_z(&wide, &symbols), &wide);
                let found = values_and_gradient(&log_prob_and_log_z(&logits, &symbols), &logits);
                for (found, wanted) in found.iter().zip(&wanted) {
                    let difference = (found - wanted).abs() / (wanted.abs() + 1.);
                    let worst = difference.max().double_value(&[]);
                    assert!(worst < tolerance, "{levels} levels, {kind:?}: {worst}");
                }
                let again = values_and_gradient(&log_prob_and_log_z(&logits, &symbols), &logits);
                assert_eq!(found, again);
            }
        }
    }

    #[test]
    fn what_all_logits_share_costs_no_digits() {
        let logits = Tensor::randn([5, 40], FLOAT);
        let symbols = symbols(40, 5);
        let shifted = (&logits * 1024.).round() / 1024. + 4096.; // exact in f32
        let wanted = log_prob(&(shifted.to_kind(Kind::Double)), &symbols);
        let worst = (log_prob(&shifted, &symbols) - wanted).abs().max().double_value(&[]);
        assert!(worst < 2e-6, "{worst}");
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let symbols = Tensor::from_slice(&[2i64, IGNORED, 0]);
        let logits = Tensor::randn([3, 5], FLOAT) * 2.;
        let loss = |logits: &Tensor| {
            let [log_prob, log_z] = log_prob_and_log_z(logits, &symbols);
            (log_z.square() * 0.3 - log_prob).sum(Kind::Double)
        };
        let leaf = logits.copy().set_requires_grad(true);
        let gradient = Tensor::run_backward(&[loss(&leaf)], &[&leaf], false, false).remove(0);
        for i in 0..15 {
            let at = |step: f64| {
                let moved = Tensor::eye(15, FLOAT).get(i).view([3, 5]) * step;
                loss(&(logits.to_kind(Kind::Double) + moved)).double_value(&[])
            };
            let wanted = (at(1e-5) - at(-1e-5)) / 2e-5;
            let found = gradient.view(-1).double_value(&[i]);
            assert!((found - wanted).abs() < 1e-5, "{found}, not {wanted}, at {i}");
        }
    }

    #[test]
    fn an_ignored_position_gives_nothing_whatever_it_holds() {
        let symbols = Tensor::from_slice(&[IGNORED, 1]);
        let logits = Tensor::from_slice(&[f32::NAN, f32::INFINITY, 0.5, -1.]).view([2, 2]);
        let run = || {
            let logits = logits.copy().set_requires_grad(true);
            values_and_gradient(&log_prob_and_log_z(&logits, &symbols), &logits)
        };
        for [log_prob, log_z, gradient] in [run(), without(run)] {
            assert_eq!((log_prob.double_value(&[0]), log_z.double_value(&[0])), (0., 0.));
            assert_eq!(Vec::<f32>::try_from(gradient.get(0)).unwrap(), [0., 0.]);
            assert!(gradient.get(1).ne(0.).all().int64_value(&[]) == 1);
        }
    }

    #[test]
    fn a_symbol_that_is_no_level_is_refused() {
        let logits = Tensor::zeros([1, 4], FLOAT);
        for symbol in [-1i64, 4, -101] {
            let refuse = || log_prob(&logits, &Tensor::from_slice(&[symbol]));
            for of in [&refuse as &dyn Fn() -> Tensor, &|| without(refuse)] {
                let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(of));
                assert!(refused.is_err(), "{symbol}");
            }
        }
    }

    #[test]
    fn an_impossible_level_has_no_probability_and_no_gradient() {
        let values = [0., f32::NEG_INFINITY];
        let logits = Tensor::from_slice(&values).view([1, 2]).set_requires_grad(true);
        let found = log_prob(&logits, &Tensor::from_slice(&[0i64]));
        found.backward();
        assert_eq!(found.double_value(&[0]), 0.);
        assert_eq!(Vec::<f32>::try_from(logits.grad().view(-1)).unwrap(), [0., 0.]);
    }

    /// Where the logits lie that a last layer made and nobody kept but `keep`, and where their gradient.
    fn places(kept_graph: bool, keep: impl Fn(&Tensor) -> Option<Tensor>) -> [usize; 2] {
        let leaf = Tensor::randn([3, 4], FLOAT).set_requires_grad(true);
        let symbols = Tensor::from_slice(&[0i64, 2, 3]);
        let logits = &leaf + Tensor::zeros([3, 4], FLOAT); // hands its gradient on as it is
        let place = logits.data_ptr().addr();
        let kept = keep(&logits);
        let loss = log_prob(&logits, &symbols).sum(Kind::Float);
        drop(logits);
        let wanted = leaf.softmax(-1, None) - symbols.one_hot(4);
        let found = Tensor::run_backward(&[loss.shallow_clone()], &[&leaf], kept_graph, false);
        let worst = (&found[0] + wanted).abs().max().double_value(&[]);
        assert!(worst < 1e-6, "{worst}");
        if kept_graph {
            let again = Tensor::run_backward(&[loss], &[&leaf], false, false);
            assert_eq!(again[0], found[0]);
        }
        assert!(kept.is_none_or(|it| it.equal(&leaf)));
        [place, found[0].data_ptr().addr()]
    }

    #[test]
    fn the_gradient_takes_the_place_of_logits_that_nobody_else_can_read() {
        let [logits, gradient] = places(false, |_| None);
        assert_eq!(logits, gradient);
    }

    #[test]
    fn logits_that_somebody_can_read_stay_as_they_are() {
        let keepers: [fn(&Tensor) -> Option<Tensor>; 3] = [
            |it| Some(it.shallow_clone()),
            |it| Some(it.detach()),
            |it| Some(it.view([12]).view([3, 4])),
        ];
        for keep in keepers {
            let [logits, gradient] = places(false, keep);
            assert_ne!(logits, gradient);
        }
        let [logits, gradient] = places(true, |_| None);
        assert_ne!(logits, gradient);
        // an operation that saved its own output
        let leaf = Tensor::randn([3, 4], FLOAT).set_requires_grad(true);
        let loss = |of: &dyn Fn() -> Tensor| of().sum(Kind::Float);
        let found = loss(&|| log_prob(&leaf.exp(), &symbols(4, 3)));
        let wanted = loss(&|| without(|| log_prob(&leaf.exp(), &symbols(4, 3))));
        let [found, wanted] =
            [found, wanted].map(|it| Tensor::run_backward(&[it], &[&leaf], false, false).remove(0));
        assert!((found - wanted).abs().max().double_value(&[]) < 1e-5);
    }
}
