//! Functions of one number, over slices. A number's bits depend neither on its place nor on the length of the slice.

use super::Kernel;
use super::maths;
use super::vector::{Task, Vector, dispatch};

impl Kernel {
    /// `x = e^x`, within 1e-7 relatively; 0 below -87.33, infinite above 88.37.
    pub fn exp(&self, xs: &mut [f32]) {
        dispatch(self.machine(), Each { xs, function: Exp });
    }

    /// `x = ln x`, within 1e-7 relatively or absolutely; minus infinity at 0, NaN below.
    pub fn ln(&self, xs: &mut [f32]) {
        dispatch(self.machine(), Each { xs, function: Ln });
    }

    /// `x = 1 / (1 + e^-x)`, at least e^-80.
    pub fn sigmoid(&self, xs: &mut [f32]) {
        dispatch(self.machine(), Each { xs, function: Sigmoid });
    }

    /// `x = x` above 0, `e^x - 1` below.
    pub fn elu(&self, xs: &mut [f32]) {
        dispatch(self.machine(), Each { xs, function: Elu });
    }

    /// `x = max(x, 0)`; NaN stays NaN.
    pub fn relu(&self, xs: &mut [f32]) {
        dispatch(self.machine(), Each { xs, function: Relu });
    }

    /// `y = y + x`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_assign(&self, ys: &mut [f32], xs: &[f32]) {
        assert_eq!(ys.len(), xs.len(), "add_assign takes slices of one length");
        dispatch(self.machine(), AddAssign { ys, xs });
    }

    /// `y = tanh(a) sigmoid(b)` for `columns` columns: `pre` is `[column][a: C, b: C][L]`, `ys` `[column][C][L]` with
    /// `y_stride` floats from one column to the next.
    ///
    /// Computed as `(1 - A) / ((1 + A) (1 + B))` with `A = e^-2a`, `B = e^-b`, within 2e-7; tanh is 1 or -1 beyond 10,
    /// the sigmoid at least 2^-87. A NaN in a or b gives NaN.
    ///
    /// # Panics
    /// If `pre` or `ys` ends too early.
    pub fn gate(
        &self,
        pre: &[f32],
        channels: usize,
        columns: usize,
        ys: &mut [f32],
        y_stride: usize,
    ) {
        let width = channels * self.lanes();
        dispatch(self.machine(), Gate { pre, width, columns, ys, y_stride });
    }
}

/// A function of one number.
trait Function: Copy {
    /// Must be `inline(always)`.
    fn of<V: Vector>(self, x: V) -> V;
}

macro_rules! functions {
    ($($name:ident($x:ident) = $body:expr;)*) => { $(
        #[derive(Clone, Copy)]
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn of<V: Vector>(self, $x: V) -> V { $body }
        }
    )* };
}

functions! {
    Exp(x) = maths::exp(x);
    Ln(x) = maths::ln(x);
    Sigmoid(x) = maths::sigmoid(x);
    Elu(x) = maths::elu(x);
    Relu(x) = x.at_least(V::splat(0.0));
}

/// `x = function(x)`.
struct Each<'a, F> {
    xs: &'a mut [f32],
    function: F,
}

impl<F: Function> Task for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut chunks = self.xs.chunks_exact_mut(V::N);
        for xs in &mut chunks {
            self.function.of(V::read(xs)).write(xs);
        }
        for x in chunks.into_remainder() {
            *x = self.function.of(*x);
        }
    }
}

/// `y = y + x`.
struct AddAssign<'a> {
    ys: &'a mut [f32],
    xs: &'a [f32],
}

impl Task for AddAssign<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (mut ys, xs) = (self.ys.chunks_exact_mut(V::N), self.xs.chunks_exact(V::N));
        let tail = xs.remainder();
        for (ys, xs) in (&mut ys).zip(xs) {
            V::read(ys).add(V::read(xs)).write(ys);
        }
        for (y, x) in ys.into_remainder().iter_mut().zip(tail) {
            *y += x;
        }
    }
}

/// `y = tanh(a) sigmoid(b)`, `width` numbers a column.
struct Gate<'a> {
    pre: &'a [f32],
    width: usize,
    columns: usize,
    ys: &'a mut [f32],
    y_stride: usize,
}

impl Task for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for column in 0..self.columns {
            let (a, b) = self.pre[column * 2 * self.width..][..2 * self.width].split_at(self.width);
            let ys = &mut self.ys[column * self.y_stride..][..self.width];
            let whole = self.width - self.width % V::N;
            for at in (0..whole).step_by(V::N) {
                maths::gate(V::read(&a[at..]), V::read(&b[at..])).write(&mut ys[at..]);
            }
            for at in whole..self.width {
                ys[at] = maths::gate(a[at], b[at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Variant;
    use super::super::tests::{bits, kernels, numbers};
    use super::*;

    /// Arguments of every size, and the special ones.
    fn arguments(count: usize) -> Vec<f32> {
        let special =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40, f32::MAX, -87.33, 88.37];
        let mut xs: Vec<f32> = numbers(5, count).iter().map(|x| x * x * x * 100.0).collect();
        for (x, special) in xs.iter_mut().rev().step_by(5).zip(special) {
            *x = special;
        }
        xs
    }

    /// The bits, all NaN alike.
    fn defined_bits(xs: &[f32]) -> Vec<u32> {
        xs.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
    }

    #[test]
    fn functions_have_the_same_bits_in_every_variant_and_at_every_length() {
        let functions = [Kernel::exp, Kernel::ln, Kernel::sigmoid, Kernel::elu, Kernel::relu];
        let portable = Kernel::new(Variant::Portable, 1);
        for (which, function) in functions.into_iter().enumerate() {
            for kernel in kernels() {
                for count in [1, 7, 8, 15, 16, 17, 33, 100] {
                    let mut expected = arguments(count);
                    let mut found = expected.clone();
                    for x in &mut expected {
                        function(&portable, std::slice::from_mut(x));
                    }
                    function(&kernel, &mut found);
                    assert_eq!(
                        defined_bits(&found),
                        defined_bits(&expected),
                        "function {which} {kernel:?} {count}"
                    );
                }
            }
        }
    }

    #[test]
    fn nan_stays_nan_in_vectors_and_tails() {
        for kernel in kernels() {
            for function in [Kernel::exp, Kernel::ln, Kernel::sigmoid, Kernel::elu, Kernel::relu] {
                let mut xs = [f32::NAN; 19];
                function(&kernel, &mut xs);
                assert!(xs.iter().all(|x| x.is_nan()), "{kernel:?}");
            }
            let (mut pre, mut ys) =
                (vec![0.5; 38 * kernel.lanes()], vec![0.0; 19 * kernel.lanes()]);
            pre[0] = f32::NAN;
            pre[20 * kernel.lanes()] = f32::NAN;
            kernel.gate(&pre, 19, 1, &mut ys, 0);
            let nan: Vec<usize> = (0..ys.len()).filter(|&i| ys[i].is_nan()).collect();
            assert_eq!(nan, [0, kernel.lanes()], "{kernel:?}");
        }
    }

    #[test]
    fn the_gate_has_the_same_bits_in_every_variant_and_keeps_to_its_columns() {
        for kernel in kernels() {
            for channels in [1, 3, 16] {
                let width = channels * kernel.lanes();
                let pre: Vec<f32> = numbers(6, 3 * 2 * width).iter().map(|x| x * 12.0).collect();
                let mut ys = vec![7.0; 3 * (width + 5)];
                kernel.gate(&pre, channels, 3, &mut ys, width + 5);
                for (pre, ys) in pre.chunks(2 * width).zip(ys.chunks(width + 5)) {
                    let expected: Vec<f32> =
                        (0..width).map(|i| maths::gate(pre[i], pre[width + i])).collect();
                    assert_eq!(bits(&ys[..width]), bits(&expected), "{kernel:?} {channels}");
                    assert_eq!(ys[width..], [7.0; 5]);
                }
            }
        }
    }

    #[test]
    fn add_assign_adds() {
        for kernel in kernels() {
            let mut ys = numbers(7, 37);
            let xs = numbers(8, 37);
            let expected: Vec<f32> = ys.iter().zip(&xs).map(|(y, x)| y + x).collect();
            kernel.add_assign(&mut ys, &xs);
            assert_eq!(bits(&ys), bits(&expected));
        }
    }
}
