//! Complex numbers with a bound on their error: what numeric identity testing compares.
//!
//! Each operation carries the error of its arguments through its derivative and adds its own
//! rounding, so that two values are called equal only within what their computation can vouch for.

/// A disc that holds the true value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ball {
    pub(crate) re: f64,
    pub(crate) im: f64,
    /// Radius.
    pub(crate) radius: f64,
}

/// Rounding of one operation, with room for library functions of a few units in the last place.
const ROUNDING: f64 = 8.0 * f64::EPSILON;

impl Ball {
    /// A real number known to rounding.
    pub(crate) fn real(x: f64) -> Self {
        Self {
            re: x,
            im: 0.0,
            radius: x.abs() * f64::EPSILON,
        }
    }

    pub(crate) fn exactly(re: f64, im: f64) -> Self {
        Self {
            re,
            im,
            radius: 0.0,
        }
    }

    fn with(re: f64, im: f64, radius: f64) -> Self {
        let size = re.hypot(im);
        Self {
            re,
            im,
            radius: radius + size * ROUNDING,
        }
    }

    pub(crate) fn size(self) -> f64 {
        self.re.hypot(self.im)
    }

    /// Whether the imaginary part may be nothing but error.
    pub(crate) fn is_real(self) -> bool {
        self.im.abs() <= 4.0 * self.radius
    }

    pub(crate) fn plus(self, o: Self) -> Self {
        let scale = self.size().max(o.size()) * f64::EPSILON;
        Self::with(
            self.re + o.re,
            self.im + o.im,
            self.radius + o.radius + scale,
        )
    }

    pub(crate) fn negated(self) -> Self {
        Self {
            re: -self.re,
            im: -self.im,
            ..self
        }
    }

    pub(crate) fn times(self, o: Self) -> Self {
        let (a, b) = (self.size(), o.size());
        Self::with(
            self.re * o.re - self.im * o.im,
            self.re * o.im + self.im * o.re,
            a * o.radius + b * self.radius + self.radius * o.radius + a * b * ROUNDING,
        )
    }

    /// `None` where the divisor may be zero.
    pub(crate) fn over(self, o: Self) -> Option<Self> {
        let b = o.size();
        if b <= 2.0 * o.radius || b == 0.0 {
            return None;
        }
        let d = b * b;
        let (re, im) = (
            (self.re * o.re + self.im * o.im) / d,
            (self.im * o.re - self.re * o.im) / d,
        );
        let q = re.hypot(im);
        let radius = (self.radius + q * o.radius) / (b - o.radius) + q * ROUNDING;
        Some(Self::with(re, im, radius))
    }

    pub(crate) fn exp(self) -> Self {
        let size = self.re.exp();
        let radius = size * (self.radius * (1.0 + self.radius) + self.size() * f64::EPSILON);
        Self::with(size * self.im.cos(), size * self.im.sin(), radius)
    }

    /// Principal logarithm; `None` where it may be that of zero.
    pub(crate) fn ln(self) -> Option<Self> {
        let size = self.size();
        if size <= 2.0 * self.radius || size == 0.0 {
            return None;
        }
        Some(Self::with(
            size.ln(),
            self.im.atan2(self.re),
            self.radius / (size - self.radius) + f64::EPSILON,
        ))
    }

    pub(crate) fn whole_power(self, exponent: u32) -> Self {
        let mut result = Self::exactly(1.0, 0.0);
        let (mut square, mut left) = (self, exponent);
        while left > 0 {
            if left % 2 == 1 {
                result = result.times(square);
            }
            left /= 2;
            if left > 0 {
                square = square.times(square);
            }
        }
        result
    }

    /// Principal value.
    pub(crate) fn power(self, exponent: Self) -> Option<Self> {
        if self.size() == 0.0 && self.radius == 0.0 {
            let positive = exponent.re > 0.0 && exponent.im == 0.0;
            return positive.then_some(self);
        }
        Some(self.ln()?.times(exponent).exp())
    }

    pub(crate) fn root(self, degree: f64) -> Option<Self> {
        if self.size() <= 2.0 * self.radius {
            // Near zero the error grows under the root.
            let radius = (self.size() + self.radius).powf(1.0 / degree);
            return Some(Self {
                re: 0.0,
                im: 0.0,
                radius,
            });
        }
        #[expect(clippy::float_cmp, reason = "exactly the square root")]
        let square = degree == 2.0;
        if square && self.im == 0.0 && self.re > 0.0 {
            let root = self.re.sqrt();
            return Some(Self::with(root, 0.0, self.radius / root));
        }
        self.power(Self::real(1.0 / degree))
    }

    pub(crate) fn sin(self) -> Self {
        let radius = self.radius * self.im.cosh() + self.size() * f64::EPSILON;
        Self::with(
            self.re.sin() * self.im.cosh(),
            self.re.cos() * self.im.sinh(),
            radius,
        )
    }

    pub(crate) fn cos(self) -> Self {
        let radius = self.radius * self.im.cosh() + self.size() * f64::EPSILON;
        Self::with(
            self.re.cos() * self.im.cosh(),
            -self.re.sin() * self.im.sinh(),
            radius,
        )
    }

    pub(crate) fn sinh(self) -> Self {
        let half = Self::exactly(0.5, 0.0);
        self.exp().plus(self.negated().exp().negated()).times(half)
    }

    pub(crate) fn cosh(self) -> Self {
        let half = Self::exactly(0.5, 0.0);
        self.exp().plus(self.negated().exp()).times(half)
    }

    /// A function of a real argument with a known derivative; `None` off the real line.
    pub(crate) fn real_function(
        self,
        f: impl Fn(f64) -> f64,
        derivative: impl Fn(f64) -> f64,
    ) -> Option<Self> {
        if !self.is_real() {
            return None;
        }
        let value = f(self.re);
        let slope = derivative(self.re).abs();
        let radius = if slope.is_finite() {
            slope * self.radius * 2.0
        } else {
            (2.0 * self.radius).sqrt()
        };
        value
            .is_finite()
            .then(|| Self::with(value, 0.0, radius + f64::EPSILON))
    }

    /// Γ(x + 1) for a positive real x (Lanczos, g = 7, nine terms).
    pub(crate) fn factorial(self) -> Option<Self> {
        if !self.is_real() || self.re < 0.0 || self.re > 165.0 {
            return None;
        }
        const C: [f64; 9] = [
            0.999_999_999_999_809_9,
            676.520_368_121_885_1,
            -1_259.139_216_722_402_8,
            771.323_428_777_653_1,
            -176.615_029_162_140_6,
            12.507_343_278_686_905,
            -0.138_571_095_265_720_12,
            9.984_369_578_019_572e-6,
            1.505_632_735_149_311_6e-7,
        ];
        let x = self.re;
        let t = x + 7.5;
        let series: f64 = C[1..]
            .iter()
            .enumerate()
            .fold(C[0], |sum, (i, c)| sum + c / (x + i as f64 + 1.0));
        let value = (2.0 * std::f64::consts::PI).sqrt() * t.powf(x + 0.5) * (-t).exp() * series;
        let radius = value * (1e-13 + self.radius * (t.ln() + 1.0));
        Some(Self::with(value, 0.0, radius))
    }

    /// Whether two discs meet, or lie apart; `None` where their errors are too large to state.
    pub(crate) fn same(self, o: Self) -> Option<bool> {
        let distance = (self.re - o.re).hypot(self.im - o.im);
        let error = self.radius + o.radius;
        if !distance.is_finite() || !error.is_finite() {
            return None;
        }
        if distance > 2.0 * error {
            return Some(false);
        }
        let scale = self.size().max(o.size()).max(1e-3);
        (error <= 1e-9 * scale).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_follow_cancellation() {
        let third = Ball::real(1.0 / 3.0);
        let sum = third.plus(third).plus(third);
        assert_eq!(sum.same(Ball::exactly(1.0, 0.0)), Some(true));
        let near = Ball::exactly(1.0 + 1e-13, 0.0);
        assert_eq!(sum.same(near), Some(false));
    }

    #[test]
    fn functions_hold_their_identities() {
        let x = Ball::real(1.234_567);
        let one = x.sin().times(x.sin()).plus(x.cos().times(x.cos()));
        assert_eq!(one.same(Ball::exactly(1.0, 0.0)), Some(true));
        assert_eq!(x.exp().ln().and_then(|y| y.same(x)), Some(true));
        let root = Ball::real(2.0).root(2.0).unwrap();
        assert_eq!(root.times(root).same(Ball::exactly(2.0, 0.0)), Some(true));
        let five = Ball::exactly(5.0, 0.0).factorial().unwrap();
        assert_eq!(five.same(Ball::exactly(120.0, 0.0)), Some(true));
        let minus = Ball::exactly(0.0, std::f64::consts::PI).exp();
        assert_eq!(minus.same(Ball::exactly(-1.0, 0.0)), Some(true));
    }

    #[test]
    fn division_by_what_may_be_zero_is_refused() {
        let zero = Ball::real(0.1).plus(Ball::real(0.2)).plus(Ball::real(-0.3));
        assert!(Ball::real(1.0).over(zero).is_none() && zero.ln().is_none());
    }
}
