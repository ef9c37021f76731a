//! `exp`, `ln` and what follows from them, from operations with defined bits.
//!
//! Polynomials and the splitting of ln 2: Moshier, Cephes Mathematical Library (single precision), `expf` and `logf`.

use super::vector::Vector;

const LN_2_HIGH: f32 = 0.693_359_4; // 355 / 512: few bits, so that n * LN_2_HIGH is exact
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// 1.5 * 2^23 rounds what is added to it to an integer; 127, the bias of an exponent, makes its low bits 2^n.
const ROUND: f32 = 12_582_912.0 + 127.0;
/// Least argument of which e^x is a normal number.
const EXP_LEAST: f32 = -87.33;
/// Greatest argument that rounds to an exponent of 127.
const EXP_GREATEST: f32 = 88.37;

/// `(q, s)` such that `e^x = q s + s`, for x in `EXP_LEAST..=EXP_GREATEST`; q is NaN if x is.
#[inline(always)]
fn exp_parts<V: Vector>(x: V) -> (V, V) {
    let shifted = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND));
    let n = shifted.sub(V::splat(ROUND));
    let r = n.neg_mul_add(V::splat(LN_2_HIGH), x);
    let r = n.neg_mul_add(V::splat(LN_2_LOW), r);
    let mut q = V::splat(1.987_569_1e-4);
    q = q.mul_add(r, V::splat(1.398_2e-3));
    q = q.mul_add(r, V::splat(8.333_452e-3));
    q = q.mul_add(r, V::splat(4.166_579_6e-2));
    q = q.mul_add(r, V::splat(1.666_666_5e-1));
    q = q.mul_add(r, V::splat(0.5));
    (q.mul_add(r.mul(r), r), shifted.bits_to_exponent())
}

/// e^x; 0 below -87.33, infinite above 88.37.
#[inline(always)]
pub(super) fn exp<V: Vector>(x: V) -> V {
    let (least, greatest) = (V::splat(EXP_LEAST), V::splat(EXP_GREATEST));
    let (q, s) = exp_parts(x.at_least(least).at_most(greatest));
    let y = x.if_less(least, V::splat(0.0), q.mul_add(s, s));
    greatest.if_less(x, V::splat(f32::INFINITY), y)
}

/// e^x for x in -87.33..=88.37 or NaN.
#[inline(always)]
pub(super) fn exp_within<V: Vector>(x: V) -> V {
    let (q, s) = exp_parts(x);
    q.mul_add(s, s)
}

/// e^x - 1 for x in -87.33..=88.37 or NaN; relatively exact near 0.
#[inline(always)]
pub(super) fn exp_minus_one_within<V: Vector>(x: V) -> V {
    let (q, s) = exp_parts(x);
    q.mul_add(s, s.sub(V::splat(1.0)))
}

/// ln x; minus infinity at 0, NaN below.
#[inline(always)]
pub(super) fn ln<V: Vector>(x: V) -> V {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    const ONE: u32 = 0x3f80_0000;
    let (zero, infinity) = (V::splat(0.0), V::splat(f32::INFINITY));
    // below the normal numbers the exponent says nothing
    let normal = V::splat(f32::MIN_POSITIVE);
    let scaled = x.if_less(normal, x.mul(V::splat(8_388_608.0)), x);
    let shift = x.if_less(normal, V::splat(23.0), zero);
    // x = m 2^e with m in sqrt(1/2)..sqrt(2)
    let bits = scaled.bits_add(ONE - SQRT_HALF);
    let e = bits
        .bits_from_exponent()
        .bits_or(0x4b00_0000)
        .sub(V::splat(8_388_608.0 + 127.0))
        .sub(shift);
    let f = bits.bits_and(0x007f_ffff).bits_add(SQRT_HALF).sub(V::splat(1.0));
    let mut p = V::splat(7.037_683_6e-2);
    p = p.mul_add(f, V::splat(-1.151_461e-1));
    p = p.mul_add(f, V::splat(1.167_699_9e-1));
    p = p.mul_add(f, V::splat(-1.242_014_1e-1));
    p = p.mul_add(f, V::splat(1.424_932_3e-1));
    p = p.mul_add(f, V::splat(-1.666_805_8e-1));
    p = p.mul_add(f, V::splat(2.000_071_5e-1));
    p = p.mul_add(f, V::splat(-2.499_999_4e-1));
    p = p.mul_add(f, V::splat(3.333_333e-1));
    let z = f.mul(f);
    let y = e.mul_add(V::splat(LN_2_LOW), p.mul(f).mul(z));
    let y = z.mul_add(V::splat(-0.5), y);
    let y = e.mul_add(V::splat(LN_2_HIGH), f.add(y));
    let edge = x.if_less(zero, V::splat(f32::NAN), V::splat(f32::NEG_INFINITY));
    x.if_less(infinity, zero.if_less(x, y, edge), x)
}

/// 1 / (1 + e^-x); at least e^-80.
#[inline(always)]
pub(super) fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp_of_minus(x)))
}

/// e^-x, with x first brought into -80..=80.
#[inline(always)]
pub(super) fn exp_of_minus<V: Vector>(x: V) -> V {
    exp_within(V::splat(0.0).sub(x).at_least(V::splat(-80.0)).at_most(V::splat(80.0)))
}

/// `(q, s)` such that `2^x = q s + s`, for x in -126..127; q is NaN if x is.
///
/// q / r interpolates `(2^r - 1) / r` at six Chebyshev points of -1/2..1/2: within 1e-8.
#[inline(always)]
fn exp2_parts<V: Vector>(x: V) -> (V, V) {
    let shifted = x.add(V::splat(ROUND));
    let r = x.sub(shifted.sub(V::splat(ROUND)));
    let mut q = V::splat(1.545_316_3e-4);
    q = q.mul_add(r, V::splat(1.339_086_3e-3));
    q = q.mul_add(r, V::splat(9.618_083e-3));
    q = q.mul_add(r, V::splat(5.550_357e-2));
    q = q.mul_add(r, V::splat(2.402_265e-1));
    q = q.mul_add(r, V::splat(6.931_472e-1));
    (q.mul(r), shifted.bits_to_exponent())
}

/// tanh a sigmoid b = (1 - A) / ((1 + A) (1 + B)) with A = e^-2a in 2^-115..2^29, B = e^-b in 2^-115..2^87.
#[inline(always)]
pub(super) fn gate<V: Vector>(a: V, b: V) -> V {
    let (log2_e, least) = (std::f32::consts::LOG2_E, V::splat(-115.0));
    let a = a.mul(V::splat(-2.0 * log2_e)).at_least(least).at_most(V::splat(29.0));
    let b = b.mul(V::splat(-log2_e)).at_least(least).at_most(V::splat(87.0));
    let (q, s) = exp2_parts(a);
    let numerator = q.neg_mul_add(s, V::splat(1.0).sub(s)); // 1 - A, relatively exact near 0
    let (q, s) = exp2_parts(b);
    let one_and_b = q.mul_add(s, s.add(V::splat(1.0)));
    numerator.div(V::splat(2.0).sub(numerator).mul(one_and_b))
}

/// x if x > 0, otherwise e^x - 1.
#[inline(always)]
pub(super) fn elu<V: Vector>(x: V) -> V {
    let zero = V::splat(0.0);
    // NaN is not greater than 0, and stays NaN
    zero.if_less(x, x, exp_minus_one_within(x.at_least(V::splat(-80.0)).at_most(zero)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::bits;
    use super::*;

    /// Greatest value of `error(found, reference)` over 400,001 arguments from `from` to `to`.
    fn worst(
        from: f64,
        to: f64,
        f: impl Fn(f32) -> f32,
        g: impl Fn(f64) -> f64,
        error: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        (0..=400_000).map(|i| (from + (to - from) * i as f64 / 4e5) as f32).fold(0.0, |worst, x| {
            let e = error(f(x) as f64, g(x as f64));
            assert!(e.is_finite(), "at {x}");
            worst.max(e)
        })
    }

    fn relative(found: f64, reference: f64) -> f64 {
        ((found - reference) / reference).abs()
    }

    fn absolute(found: f64, reference: f64) -> f64 {
        (found - reference).abs()
    }

    #[test]
    fn exp_is_within_1e_7_relatively() {
        let e = worst(-87.3, 88.3, exp::<f32>, f64::exp, relative);
        assert!(e < 1e-7, "{e:e}");
    }

    #[test]
    fn ln_is_within_1e_7_relatively() {
        for (from, to) in [(1e-37, 1e-30), (1e-3, 0.9999), (1.0001, 20.0), (1e20, 3e38)] {
            let e = worst(from, to, ln::<f32>, f64::ln, relative);
            assert!(e < 1.2e-7, "{e:e} in {from}..{to}");
        }
        let subnormal = worst(1e-44, 1e-38, ln::<f32>, f64::ln, relative);
        assert!(subnormal < 1e-7, "{subnormal:e}");
    }

    #[test]
    fn the_gate_is_within_5e_7_relatively_and_2e_7_absolutely() {
        let reference = |a: f64, b: f64| a.tanh() / (1.0 + (-b).exp());
        for other in [-5.0f32, -0.3, 0.01, 1.0, 20.0] {
            let (of_a, of_b) = (|a| gate(a, other), |b| gate(other, b));
            let (a_of, b_of) =
                (|a| reference(a, other as f64), |b: f64| reference(other as f64, b));
            let e = worst(1e-3, 30.0, of_a, a_of, relative);
            assert!(e < 5e-7, "{e:e} over a, b = {other}");
            let e = worst(-5.0, 90.0, of_b, b_of, relative);
            assert!(e < 5e-7, "{e:e} over b, a = {other}");
            let e = worst(-99.0, 99.0, of_a, a_of, absolute);
            assert!(e < 2e-7, "{e:e} over a, b = {other}");
            let e = worst(-99.0, 99.0, of_b, b_of, absolute);
            assert!(e < 2e-7, "{e:e} over b, a = {other}");
        }
        let found = [gate(0.0f32, 1.0), gate(f32::INFINITY, 90.0), gate(f32::NEG_INFINITY, 90.0)];
        assert_eq!(bits(&found), bits(&[0.0, 1.0, -1.0]));
    }

    #[test]
    fn sigmoid_and_elu_are_within_4e_7_relatively() {
        let e = worst(-79.0, 79.0, sigmoid::<f32>, |x| 1.0 / (1.0 + (-x).exp()), relative);
        assert!(e < 4e-7, "{e:e}");
        let e = worst(-100.0, -1e-6, elu::<f32>, f64::exp_m1, relative);
        assert!(e < 4e-7, "{e:e}");
        assert_eq!((elu(2.5f32), elu(0.0f32)), (2.5, 0.0));
        assert!(
            worst(-200.0, 200.0, sigmoid::<f32>, |x| 1.0 / (1.0 + (-x).exp()), absolute) < 1e-7
        );
    }

    #[test]
    fn edges_are_what_they_say() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let found = [exp(-inf), exp(-88.0), exp(0.0), exp(89.0), exp(inf)];
        assert_eq!(bits(&found), bits(&[0.0, 0.0, 1.0, inf, inf]));
        assert_eq!(bits(&[0.0, -0.0, 1.0, inf].map(ln)), bits(&[-inf, -inf, 0.0, inf]));
        for y in [
            exp(nan),
            ln(nan),
            ln(-1.0),
            ln(-inf),
            sigmoid(nan),
            elu(nan),
            gate(nan, 1.0),
            gate(1.0, nan),
        ] {
            assert!(y.is_nan());
        }
    }
}
