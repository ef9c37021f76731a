//! Gradients in Rust for tensors that Rust computed: `csrc/gradient.cpp`.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
};

use tch::Tensor;
use torch_sys::C_tensor;

use super::ffi::{TorchError, check};

type Backward = unsafe extern "C" fn(
    *mut c_void,
    *const *const C_tensor,
    c_int,
    *const *const C_tensor,
    c_int,
    *mut *mut C_tensor,
    c_int,
) -> c_int;

unsafe extern "C" {
    fn cl_takes_over(saved: *const C_tensor, may: *mut c_int) -> c_int;
    fn cl_refuse(message: *const c_char);
    fn cl_with_gradient(
        inputs: *const *const C_tensor,
        input_count: c_int,
        saved: *const *const C_tensor,
        saved_count: c_int,
        outputs: *mut *mut C_tensor,
        output_count: c_int,
        state: *mut c_void,
        backward: Backward,
        drop: unsafe extern "C" fn(*mut c_void),
    ) -> c_int;
}

/// Gradients of an operation's inputs, in their order, from what it saved and the gradients of its outputs; none of an
/// input that has none.
pub(crate) trait Rule:
    Fn(&[Tensor], &[Tensor]) -> Result<Vec<Option<Tensor>>, TorchError> + Send + 'static
{
}

impl<F> Rule for F where
    F: Fn(&[Tensor], &[Tensor]) -> Result<Vec<Option<Tensor>>, TorchError> + Send + 'static
{
}

/// Makes `outputs`, computed of `inputs` without a graph, part of the graph, with the gradients that `rule` gives.
///
/// `saved` holds what `rule` reads: inputs as they are, or tensors made on the way.
///
/// # Errors
/// When libtorch refuses; what `rule` refuses comes out of the backward pass.
pub(crate) fn with_gradient<R: Rule, const N: usize>(
    inputs: &[&Tensor],
    saved: &[&Tensor],
    outputs: [Tensor; N],
    rule: R,
) -> Result<[Tensor; N], TorchError> {
    if !inputs.iter().any(|it| it.requires_grad()) {
        return Ok(outputs);
    }
    let handles = |tensors: &[&Tensor]| tensors.iter().map(|it| it.as_ptr()).collect::<Vec<_>>();
    let mut made: Vec<*mut C_tensor> = outputs.iter().map(|it| it.as_ptr().cast_mut()).collect();
    let state = Box::into_raw(Box::new(rule));
    // SAFETY: lists of live tensors with their lengths; `state` is a `Box<R>`, which the shim hands to `backward::<R>` and,
    // once, to `release::<R>`, whatever happens. Where the call succeeds `made` holds tensors that nobody else owns.
    unsafe {
        check(cl_with_gradient(
            handles(inputs).as_ptr(),
            inputs.len() as c_int,
            handles(saved).as_ptr(),
            saved.len() as c_int,
            made.as_mut_ptr(),
            N as c_int,
            state.cast(),
            backward::<R>,
            release::<R>,
        ))?;
        let mut made = made.into_iter();
        Ok(outputs.map(|_| Tensor::from_ptr(made.next().expect("as many as outputs"))))
    }
}

/// What a rule may write the gradient of `saved`, one of the tensors that it is given, to: the memory of `saved` itself where
/// nobody can read that any more, else new memory of its shape and kind.
///
/// # Errors
/// When libtorch refuses.
pub(crate) fn room_for(saved: &Tensor) -> Result<Tensor, TorchError> {
    let mut may = 0;
    // SAFETY: a live tensor, and a number that outlives the call.
    check(unsafe { cl_takes_over(saved.as_ptr(), &raw mut may) })?;
    Ok(if may == 0 { saved.empty_like() } else { saved.detach() })
}

/// Calls the rule behind `state`; nothing unwinds into C++.
unsafe extern "C" fn backward<R: Rule>(
    state: *mut c_void,
    saved: *const *const C_tensor,
    saved_count: c_int,
    grads: *const *const C_tensor,
    grad_count: c_int,
    inputs: *mut *mut C_tensor,
    input_count: c_int,
) -> c_int {
    // SAFETY: the shim gives the `Box<R>` that it was given, lists with their lengths, of live tensors; a clone of a handle
    // owns its own share of a tensor.
    let (rule, saved, grads, inputs) = unsafe {
        let list = |from: *const *const C_tensor, count: c_int| {
            let all = if count == 0 { &[] } else { slice::from_raw_parts(from, count as usize) };
            all.iter().map(|&it| Tensor::clone_from_ptr(it.cast_mut())).collect::<Vec<_>>()
        };
        (
            &*state.cast::<R>(),
            list(saved, saved_count),
            list(grads, grad_count),
            slice::from_raw_parts_mut(inputs, input_count as usize),
        )
    };
    let found = catch_unwind(AssertUnwindSafe(|| tch::no_grad(|| rule(&saved, &grads))));
    let refusal = match found {
        Ok(Ok(found)) if found.len() == inputs.len() => {
            for (to, from) in inputs.iter_mut().zip(found) {
                *to = from.map_or(ptr::null_mut(), handed_over);
            }
            return 0;
        }
        Ok(Ok(found)) => format!("{} gradients of {} inputs", found.len(), inputs.len()),
        Ok(Err(error)) => error.0,
        Err(_) => "a gradient panicked".to_owned(),
    };
    let message = CString::new(refusal.replace('\0', " ")).unwrap_or_default();
    // SAFETY: a NUL-terminated string, which the shim copies.
    unsafe { cl_refuse(message.as_ptr()) };
    1
}

/// The address of a tensor that whoever gets it owns.
fn handed_over(mut tensor: Tensor) -> *mut C_tensor {
    let address = tensor.as_mut_ptr();
    mem::forget(tensor);
    address
}

/// Drops the rule behind `state`.
unsafe extern "C" fn release<R: Rule>(state: *mut c_void) {
    // SAFETY: the shim gives what `Box::into_raw` of a `Box<R>` gave, once.
    drop(unsafe { Box::from_raw(state.cast::<R>()) });
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tch::{Device, Kind};

    use super::*;

    /// `x y` and `x + y`.
    fn product_and_sum(x: &Tensor, y: &Tensor, calls: &Arc<AtomicUsize>) -> [Tensor; 2] {
        let outputs = tch::no_grad(|| [x * y, x + y]);
        let calls = Arc::clone(calls);
        let rule = move |saved: &[Tensor], grads: &[Tensor]| {
            calls.fetch_add(1, Ordering::SeqCst);
            let of = |factor: &Tensor| Some(&grads[0] * factor + &grads[1]);
            Ok(vec![of(&saved[1]), of(&saved[0])])
        };
        with_gradient(&[x, y], &[x, y], outputs, rule).unwrap()
    }

    fn numbers(seed: f64) -> Tensor {
        let options = (Kind::Double, Device::Cpu);
        (Tensor::arange(5, options) * seed).sin().set_requires_grad(true)
    }

    #[test]
    fn a_rule_in_rust_gives_the_gradients_of_the_graph() {
        let calls = Arc::new(AtomicUsize::new(0));
        let (x, y) = (numbers(0.7), numbers(1.3));
        let [product, sum] = product_and_sum(&x, &y, &calls);
        let loss = (product.square() + sum * 3.).sum(Kind::Double);
        let found = Tensor::run_backward(&[loss], &[&x, &y], false, false);
        let wanted = [&x * y.square() * 2. + 3., &y * x.square() * 2. + 3.];
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs().max().double_value(&[]) < 1e-14);
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_output_that_nobody_reads_has_a_gradient_of_zero() {
        let calls = Arc::new(AtomicUsize::new(0));
        let (x, y) = (numbers(0.7), numbers(1.3));
        let [product, _] = product_and_sum(&x, &y, &calls);
        let found = Tensor::run_backward(&[product.sum(Kind::Double)], &[&x], false, false);
        assert_eq!(found[0], y.detach());
    }

    #[test]
    fn rules_are_dropped_with_their_graph_or_at_once_where_there_is_none() {
        let calls = Arc::new(AtomicUsize::new(0));
        let (x, y) = (numbers(0.7), numbers(1.3));
        let kept = product_and_sum(&x, &y, &calls);
        assert_eq!(Arc::strong_count(&calls), 2);
        drop(kept);
        assert_eq!(Arc::strong_count(&calls), 1);
        let outputs = tch::no_grad(|| product_and_sum(&x, &y, &calls));
        assert!(!outputs[0].requires_grad());
        assert_eq!(Arc::strong_count(&calls), 1);
        let fixed = product_and_sum(&x.detach(), &y.detach(), &calls);
        assert!(!fixed[0].requires_grad());
    }

    #[test]
    fn what_a_rule_refuses_comes_out_of_the_backward_pass() {
        let x = numbers(0.7);
        let output = tch::no_grad(|| &x * 2.);
        let refuse = |_: &[Tensor], _: &[Tensor]| Err(TorchError("no such kernel".into()));
        let [output] = with_gradient(&[&x], &[], [output], refuse).unwrap();
        let loss = output.sum(Kind::Double);
        let refused = Tensor::f_run_backward(&[loss], &[&x], false, false);
        assert!(refused.unwrap_err().to_string().contains("no such kernel"));
    }
}
