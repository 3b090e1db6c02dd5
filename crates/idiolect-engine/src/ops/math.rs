//! Functions of a vector of floats: exponential, logistic, hyperbolic tangent.
//!
//! Polynomials after Cephes (Moshier), within about two units in the last place; NaN stays NaN,
//! so that a diverged model cannot look finite.

use pulp::Simd;

/// Below this e^x is given as exactly 0.
const LOWEST: f32 = -87.0;
/// Above this e^x is given as infinity.
const HIGHEST: f32 = 88.0;

/// e^x.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |v| simd.splat_f32s(v);
    // Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
    let magic = splat(12_582_912.0);
    let shifted = simd.mul_add_f32s(x, splat(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    let f = simd.mul_add_f32s(n, splat(-0.693_359_4), x);
    let f = simd.mul_add_f32s(n, splat(2.121_944_4e-4), f);
    let mut p = splat(1.987_569_1e-4);
    for c in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = simd.mul_add_f32s(p, f, splat(c));
    }
    let p = simd.mul_add_f32s(simd.mul_f32s(p, f), f, simd.add_f32s(f, splat(1.0)));
    let bits = simd.transmute_u32s_f32s(shifted);
    let power = simd.add_u32s(
        simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23)),
        simd.splat_u32s(0x3f80_0000),
    );
    let y = simd.mul_f32s(p, simd.transmute_f32s_u32s(power));
    let y = simd.select_f32s(simd.less_than_f32s(x, splat(LOWEST)), splat(0.0), y);
    simd.select_f32s(
        simd.greater_than_f32s(x, splat(HIGHEST)),
        splat(f32::INFINITY),
        y,
    )
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(crate) fn logistic<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let e = exp(simd, simd.sub_f32s(simd.splat_f32s(0.0), x));
    simd.div_f32s(one, simd.add_f32s(one, e))
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |v| simd.splat_f32s(v);
    let one = splat(1.0);
    let e = exp(simd, simd.add_f32s(x, x));
    let far = simd.sub_f32s(one, simd.div_f32s(splat(2.0), simd.add_f32s(e, one)));
    // Near 0 the difference above would lose digits.
    let z = simd.mul_f32s(x, x);
    let mut p = splat(-5.704_988_7e-3);
    for c in [2.063_909e-2, -5.373_971_5e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = simd.mul_add_f32s(p, z, splat(c));
    }
    let near = simd.mul_add_f32s(simd.mul_f32s(p, z), x, x);
    simd.select_f32s(
        simd.less_than_f32s(simd.abs_f32s(x), splat(0.625)),
        near,
        far,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, Scalar, WithSimd};

    struct Each<'a>(usize, &'a mut [f32]);
    impl WithSimd for Each<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.1);
            assert!(rest.is_empty());
            for v in vectors {
                *v = match self.0 {
                    0 => exp(simd, *v),
                    1 => logistic(simd, *v),
                    _ => tanh(simd, *v),
                };
            }
        }
    }

    #[test]
    fn functions_agree_with_double_precision() {
        let grid: Vec<f32> = (0..160_000)
            .map(|i| (i as f32 - 80_000.0) * 1.08e-3)
            .collect();
        let exact: [fn(f64) -> f64; 3] = [f64::exp, |x| 1.0 / (1.0 + (-x).exp()), f64::tanh];
        for (which, exact) in exact.into_iter().enumerate() {
            let mut fast = grid.clone();
            Arch::new().dispatch(Each(which, &mut fast));
            let mut scalar = grid.clone();
            Each(which, &mut scalar).with_simd(Scalar);
            for ((x, y), s) in grid.iter().zip(&fast).zip(&scalar) {
                let e = exact(f64::from(*x));
                assert!(
                    (f64::from(*y) - e).abs() <= 4e-7 * e.abs() + 1e-37,
                    "{which}({x}) = {y}, {e}"
                );
                assert_eq!(y.to_bits(), s.to_bits(), "{which}({x})");
            }
        }
    }

    #[test]
    fn extremes_are_what_they_should_be() {
        let mut v = [
            f32::NEG_INFINITY,
            -1e30,
            -104.0,
            200.0,
            f32::INFINITY,
            f32::NAN,
            0.0,
            -0.0,
        ];
        let mut long = [0.0; 16];
        long[..8].copy_from_slice(&v);
        Arch::new().dispatch(Each(0, &mut long));
        v.copy_from_slice(&long[..8]);
        assert_eq!(v[..5], [0.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY]);
        assert!(v[5].is_nan());
        assert_eq!(v[6..], [1.0, 1.0]);
    }
}
