//! The logits of a NADE without tensors of `[N, B, H]`: `csrc/cpu/nade.cpp` on the CPU in f32, else the plain formula.
//!
//! `logits[b, k] = V_k h_k`, `h_k = sigmoid(c + sum_{j<k} W_j x[b, j])` (Uria et al., "Neural Autoregressive
//! Distribution Estimation", 2016, equations 4 to 6, <https://arxiv.org/abs/1605.02226>).
//! Letters: B batch, N pixels in draw order, H hidden units, L levels.
//!
//! Of the kernel, with H filled up to a multiple of 64: four images read W and V together, `4 N H (1 + L)` bytes, of which
//! those of 64 hidden units, `256 N (1 + L)`, are read by all images of a thread before the next come. Logits, `4 B N L`
//! bytes, are read and written once for every 64 hidden units, x likewise read. About `B N H (22 + 2 L)` operations, of which
//! a sigmoid is 20. Backward reads W and V as often, beside `4 B N L` bytes of gradients once for every 16 hidden units,
//! reads and writes the gradients of W and V once for every four images, keeps `256 N` bytes of sigmoids a thread, and writes
//! `B N H / 4` bytes for x where its gradient is wanted; about `B N H (30 + 4 L)` operations. Each call also packs W and V
//! and unpacks their gradients, a copy each. Arithmetic should bind, the sigmoid above all.

use tch::{Device, Kind, Tensor};

use super::ffi;

/// Logits of all conditionals of a NADE, without the output bias.
///
/// The kernel has first derivatives only. Its bits depend on the processor's instruction set, never on the threads.
///
/// # Shape
/// Inputs `xs` `[B, N]` in draw order, `ws` `[N, H]`, `bs` (the paper's c) `[H]`, `vs` `[N, H, L]` to `[B, N, L]`.
///
/// # Panics
/// When the shapes do not match, as every operation of tch.
pub fn logits(xs: &Tensor, ws: &Tensor, bs: &Tensor, vs: &Tensor) -> Tensor {
    let is_taken =
        |tensor: &&Tensor| tensor.device() == Device::Cpu && tensor.kind() == Kind::Float;
    if !super::are_on() || ![xs, ws, bs, vs].iter().all(is_taken) {
        return plain_logits(xs, ws, bs, vs);
    }
    ffi::nade_logits(xs, ws, bs, vs).unwrap_or_else(|error| panic!("{error}"))
}

/// The definition of [`logits`], in libtorch's operations: any device, kind and derivative.
///
/// # Shape
/// As [`logits`].
///
/// # Panics
/// When the shapes do not match.
pub fn plain_logits(xs: &Tensor, ws: &Tensor, bs: &Tensor, vs: &Tensor) -> Tensor {
    let terms = xs.tr().unsqueeze(-1) * ws.unsqueeze(1); // [N, B, H]
    let known = terms
        .narrow(0, 0, terms.size()[0] - 1)
        .cumsum(0, terms.kind())
        .constant_pad_nd([0, 0, 0, 0, 1, 0]);
    let hidden = (known + bs).sigmoid(); // [N, B, H]
    hidden.bmm(vs).transpose(0, 1) // [B, N, L]
}

#[cfg(test)]
mod tests {
    use tch::kind::FLOAT_CPU;

    use super::*;

    /// Inputs in -1..=1, weights as trained ones are, and what the logits are summed with: `[B, N, L]`.
    struct Case {
        tensors: [Tensor; 4],
        upstream: Tensor,
    }

    impl Case {
        fn new([batch, pixels, hidden, levels]: [i64; 4]) -> Self {
            tch::manual_seed(batch + 10 * pixels + 100 * hidden + levels);
            let tensors = [
                Tensor::rand([batch, pixels], FLOAT_CPU) * 2. - 1.,
                Tensor::randn([pixels, hidden], FLOAT_CPU),
                Tensor::randn([hidden], FLOAT_CPU),
                Tensor::randn([pixels, hidden, levels], FLOAT_CPU) / (hidden as f64).sqrt(),
            ];
            Self { tensors, upstream: Tensor::randn([batch, pixels, levels], FLOAT_CPU) }
        }

        /// The logits and the gradients of x, W, c and V.
        fn run(
            &self,
            kind: Kind,
            logits: impl Fn(&Tensor, &Tensor, &Tensor, &Tensor) -> Tensor,
        ) -> Vec<Tensor> {
            let [xs, ws, bs, vs] = self
                .tensors
                .each_ref()
                .map(|tensor| tensor.detach().to_kind(kind).set_requires_grad(true));
            let ys = logits(&xs, &ws, &bs, &vs);
            (&ys * self.upstream.to_kind(kind)).sum(kind).backward();
            [ys.detach(), xs.grad(), ws.grad(), bs.grad(), vs.grad()].into()
        }
    }

    /// Greatest difference over the greatest number.
    fn distance(xs: &Tensor, exact: &Tensor) -> f64 {
        let scale = exact.abs().max().double_value(&[]).max(1e-3);
        (xs.to_kind(Kind::Double) - exact).abs().max().double_value(&[]) / scale
    }

    const SHAPES: [[i64; 4]; 10] = [
        [1, 1, 1, 2],
        [3, 5, 1, 3],
        [1, 5, 63, 2],
        [3, 1, 63, 3],
        [3, 5, 64, 2],
        [4, 9, 64, 3],
        [3, 5, 65, 2],
        [9, 17, 65, 3],
        [3, 5, 500, 2],
        [5, 20, 500, 17],
    ];

    #[test]
    fn kernel_is_its_twin_in_double_precision_with_every_gradient() {
        for shape in SHAPES {
            let case = Case::new(shape);
            let exact = case.run(Kind::Double, plain_logits);
            let fused = case.run(Kind::Float, logits);
            for (i, name) in ["logits", "x", "W", "c", "V"].iter().enumerate() {
                assert_eq!(fused[i].size(), exact[i].size());
                let error = distance(&fused[i], &exact[i]);
                assert!(error < 2e-6, "{name} at {shape:?} is off by {error}");
            }
        }
    }

    #[test]
    fn gradients_are_finite_differences_of_the_twin() {
        let case = Case::new([2, 4, 20, 3]);
        let gradients = case.run(Kind::Float, logits);
        let exact = case.tensors.each_ref().map(|tensor| tensor.to_kind(Kind::Double));
        let upstream = case.upstream.to_kind(Kind::Double);
        for which in 0..4 {
            let along = Tensor::randn(exact[which].size(), FLOAT_CPU).to_kind(Kind::Double);
            let at = |step: f64| {
                let mut moved = exact.each_ref().map(Tensor::shallow_clone);
                moved[which] = &moved[which] + &along * step;
                let [xs, ws, bs, vs] = moved;
                (plain_logits(&xs, &ws, &bs, &vs) * &upstream).sum(Kind::Double).double_value(&[])
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            let gradient = gradients[which + 1].to_kind(Kind::Double);
            let got = (gradient * along).sum(Kind::Double).double_value(&[]);
            assert!((got - slope).abs() < 1e-4 * slope.abs().max(1.), "{which}: {got} for {slope}");
        }
    }

    #[test]
    fn bits_repeat_and_do_not_depend_on_the_threads() {
        let case = Case::new([9, 17, 500, 2]);
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let one = case.run(Kind::Float, logits);
        tch::set_num_threads(2);
        let two = case.run(Kind::Float, logits);
        tch::set_num_threads(threads);
        assert!(one.iter().zip(&two).all(|(x, y)| x.equal(y)));
    }

    #[test]
    fn hidden_units_far_from_zero_are_on_or_off() {
        let far = [-1e30f32, -200., -90., 90., 200., 1e30, f32::NEG_INFINITY, f32::INFINITY];
        let vs = Tensor::eye(8, FLOAT_CPU).unsqueeze(0); // level h shows hidden unit h
        let ys = logits(
            &Tensor::zeros([1, 1], FLOAT_CPU),
            &Tensor::zeros([1, 8], FLOAT_CPU),
            &Tensor::from_slice(&far),
            &vs,
        );
        let expected = Tensor::from_slice(&far).sigmoid().reshape([1, 1, 8]);
        assert!(ys.allclose(&expected, 0., 1e-30, false), "{ys}");
    }

    #[test]
    fn nan_reaches_exactly_the_conditionals_that_see_it() {
        let case = Case::new([5, 6, 65, 2]);
        let [xs, ws, bs, vs] = &case.tensors;
        let _ = xs.get(1).get(2).fill_(f64::NAN);
        let expected = plain_logits(xs, ws, bs, vs).isnan();
        assert_eq!(expected.sum(Kind::Int64).int64_value(&[]), 3 * 2);
        assert!(logits(xs, ws, bs, vs).isnan().equal(&expected));
    }

    #[test]
    fn second_derivatives_are_refused_rather_than_zero() {
        let [xs, ws, bs, vs] = Case::new([2, 3, 4, 2]).tensors;
        let ws = ws.set_requires_grad(true);
        let sum = logits(&xs, &ws, &bs, &vs).sum(Kind::Float);
        let error = Tensor::f_run_backward(&[sum], &[ws], true, true).unwrap_err().to_string();
        assert!(error.contains("no second derivative"), "{error}");
    }

    #[test]
    #[should_panic(expected = "NADE of inputs")]
    fn weights_of_another_shape_are_refused() {
        let [xs, ws, bs, _] = Case::new([2, 3, 4, 2]).tensors;
        let _ = logits(&xs, &ws, &bs, &Tensor::ones([3, 5, 2], FLOAT_CPU));
    }
}
