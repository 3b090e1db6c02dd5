//! The gated unit: f(gate) ⊙ up.

use pulp::{Arch, Simd, WithSimd};

use super::cpu::Cpu;
use super::math::{logistic, tanh};
use crate::model_config::Activation;

/// Rows of one chunk of work.
const ROWS: usize = 16;

/// √(2/π) and the cubic term of gelu's tanh form.
const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

/// f(x) and f'(x).
#[inline(always)]
fn with_slope<S: Simd>(simd: S, activation: Activation, x: S::f32s) -> (S::f32s, S::f32s) {
    let splat = |v| simd.splat_f32s(v);
    let one = splat(1.0);
    match activation {
        Activation::Silu => {
            let s = logistic(simd, x);
            let y = simd.mul_f32s(x, s);
            // σ (1 + x (1 − σ)) = σ + y (1 − σ)
            (y, simd.mul_add_f32s(y, simd.sub_f32s(one, s), s))
        }
        Activation::GeluTanh => {
            let (root, cubic) = (splat(GELU.0), splat(GELU.1));
            let square = simd.mul_f32s(x, x);
            let inner = simd.mul_f32s(
                simd.mul_f32s(root, x),
                simd.mul_add_f32s(cubic, square, one),
            );
            let t = tanh(simd, inner);
            let half = simd.mul_f32s(splat(0.5), simd.add_f32s(one, t));
            let inner_slope =
                simd.mul_f32s(root, simd.mul_add_f32s(splat(3.0 * GELU.1), square, one));
            let bell = simd.mul_f32s(splat(0.5), simd.sub_f32s(one, simd.mul_f32s(t, t)));
            let slope = simd.mul_add_f32s(simd.mul_f32s(x, bell), inner_slope, half);
            (simd.mul_f32s(x, half), slope)
        }
    }
}

struct Forward<'a> {
    activation: Activation,
    out: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let out = S::as_mut_simd_f32s(self.out).0;
        let inputs = S::as_simd_f32s(self.gate)
            .0
            .iter()
            .zip(S::as_simd_f32s(self.up).0);
        // One loop a form: a branch inside would cost more than the form.
        match self.activation {
            Activation::Silu => out.iter_mut().zip(inputs).for_each(|(o, (a, b))| {
                *o = simd.mul_f32s(with_slope(simd, Activation::Silu, *a).0, *b);
            }),
            Activation::GeluTanh => out.iter_mut().zip(inputs).for_each(|(o, (a, b))| {
                *o = simd.mul_f32s(with_slope(simd, Activation::GeluTanh, *a).0, *b);
            }),
        }
    }
}

impl Cpu<'_> {
    /// Gated unit.
    ///
    /// - `out`: (F, T) lanes of leading dimension `ld`, overwritten
    /// - `gate_up`: (2F, T) lanes, gate first
    ///
    /// out = f(gate) ⊙ up
    pub(crate) fn gate(
        &mut self,
        activation: Activation,
        out: &mut [f32],
        gate_up: &[f32],
        ld: usize,
    ) {
        let (gate, up) = gate_up.split_at(out.len());
        let part = ROWS * ld;
        self.for_chunks(
            out.len().div_ceil(part),
            [(out, part)],
            |chunk, [out], _| {
                let rows = chunk * part..chunk * part + out.len();
                Arch::new().dispatch(Forward {
                    activation,
                    out,
                    gate: &gate[rows.clone()],
                    up: &up[rows],
                });
            },
        );
    }
}

struct Backward<'a> {
    activation: Activation,
    gate: &'a mut [f32],
    up: &'a mut [f32],
    d_out: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.activation {
            Activation::Silu => self.run(simd, Activation::Silu),
            Activation::GeluTanh => self.run(simd, Activation::GeluTanh),
        }
    }
}

impl Backward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, activation: Activation) {
        let gate = S::as_mut_simd_f32s(self.gate).0;
        let up = S::as_mut_simd_f32s(self.up).0;
        let d_out = S::as_mut_simd_f32s(self.d_out).0;
        for ((a, b), d) in gate.iter_mut().zip(up).zip(d_out) {
            let (y, slope) = with_slope(simd, activation, *a);
            *a = simd.mul_f32s(simd.mul_f32s(*d, *b), slope);
            let out = simd.mul_f32s(y, *b);
            *b = simd.mul_f32s(*d, y);
            *d = out;
        }
    }
}

impl Cpu<'_> {
    /// Gated unit, backward, in place.
    ///
    /// - `gate_up`: (2F, T) lanes, as given to [`Cpu::gate`]; becomes its own gradient
    /// - `d_out`: (F, T) lanes; becomes the forward's output again, which the gradient of the
    ///   next weight needs and nobody saved
    ///
    /// d_gate = d_out ⊙ up ⊙ f'(gate),  d_up = d_out ⊙ f(gate)
    pub(crate) fn gate_backward(
        &mut self,
        activation: Activation,
        gate_up: &mut [f32],
        d_out: &mut [f32],
        ld: usize,
    ) {
        let (gate, up) = gate_up.split_at_mut(d_out.len());
        let part = ROWS * ld;
        let parts = [(gate, part), (up, part), (d_out, part)];
        self.for_chunks(
            parts[2].0.len().div_ceil(part),
            parts,
            |_, [gate, up, d_out], _| {
                Arch::new().dispatch(Backward {
                    activation,
                    gate,
                    up,
                    d_out,
                });
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, lanes_of};
    use crate::threads::Threads;

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                0.5 * x
                    * (1.0
                        + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
        }
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        let (f, n, ld) = (19, 13, 16);
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let gate_up = lanes_of("gate", 2 * f, n, ld);
            let d = lanes_of("d", f, n, ld);
            let threads = Threads::single();
            let mut out = vec![5.0; f * ld];
            Cpu::new(&threads, &mut Default::default()).gate(activation, &mut out, &gate_up, ld);
            let (mut d_gate_up, mut again) = (gate_up.clone(), d.clone());
            Cpu::new(&threads, &mut Default::default()).gate_backward(
                activation,
                &mut d_gate_up,
                &mut again,
                ld,
            );
            assert_eq!(out, again, "the forward's output is restored");
            let (mut y, mut d_a, mut d_b) = (Vec::new(), Vec::new(), Vec::new());
            for i in 0..f * ld {
                let (a, b, d) = (
                    f64::from(gate_up[i]),
                    f64::from(gate_up[i + f * ld]),
                    f64::from(d[i]),
                );
                let h = 1e-5;
                y.push((exact(activation, a) * b) as f32);
                d_a.push(
                    (d * b * (exact(activation, a + h) - exact(activation, a - h)) / (2.0 * h))
                        as f32,
                );
                d_b.push((d * exact(activation, a)) as f32);
            }
            close("out", &out, &y, 1e-6);
            close("d_gate", &d_gate_up[..f * ld], &d_a, 1e-6);
            close("d_up", &d_gate_up[f * ld..], &d_b, 1e-6);
        }
    }
}
