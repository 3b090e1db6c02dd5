//! Sign-flip permutation test of paired differences.

use idiolect_model::Rng;

/// Up to this many differences other than 0 all sign patterns are enumerated.
const ENUMERATED: usize = 16;

/// A p and whether every rearrangement was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PermutationP {
    /// Two-sided, in (0, 1].
    pub p: f64,
    /// Enumerated, not drawn.
    pub exact: bool,
}

/// Two-sided p that the differences are symmetric about 0: the fraction of sign patterns whose sum is
/// at least as far from 0 as the observed one (Fisher's randomisation test). Exact up to 16
/// differences other than 0; above, `draws` random patterns, the observed one counted among them.
pub fn sign_flip(differences: &[f64], draws: usize, rng: &mut Rng) -> PermutationP {
    let moving: Vec<f64> = differences
        .iter()
        .copied()
        .filter(|d| d.abs() > 0.0)
        .collect();
    let observed: f64 = moving.iter().sum::<f64>().abs();
    // Sums of the same numbers in another sign pattern may differ in the last bits.
    let bar = observed - 1e-12 * moving.iter().map(|d| d.abs()).sum::<f64>();
    if moving.len() <= ENUMERATED {
        let patterns = 1u32 << moving.len();
        let as_far = (0..patterns)
            .filter(|pattern| flipped(&moving, |i| pattern >> i & 1 == 1).abs() >= bar)
            .count();
        return PermutationP {
            p: as_far as f64 / f64::from(patterns),
            exact: true,
        };
    }
    let tables = signed_sums(&moving);
    let mut as_far = 1usize;
    for _ in 0..draws {
        let mut sum = 0.0;
        for eight in tables.chunks(8) {
            let signs = rng.next_u64().to_le_bytes();
            sum += eight
                .iter()
                .zip(signs)
                .map(|(table, byte)| table[usize::from(byte)])
                .sum::<f64>();
        }
        as_far += usize::from(sum.abs() >= bar);
    }
    PermutationP {
        p: as_far as f64 / (draws + 1) as f64,
        exact: false,
    }
}

/// For each eight differences their sum under each of the 256 sign patterns: a draw then costs one
/// look-up for eight signs.
fn signed_sums(differences: &[f64]) -> Vec<[f64; 256]> {
    differences
        .chunks(8)
        .map(|block| std::array::from_fn(|pattern| flipped(block, |i| pattern >> i & 1 == 1)))
        .collect()
}

fn flipped(differences: &[f64], negative: impl Fn(usize) -> bool) -> f64 {
    differences
        .iter()
        .enumerate()
        .map(|(i, d)| if negative(i) { -d } else { *d })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng() -> Rng {
        Rng::keyed(0, &["sign flip"])
    }

    #[test]
    fn the_golden_differences_give_their_exact_p() {
        let result = sign_flip(&[0.2, 0.1, -0.05, 0.3, 0.25], 10_000, &mut rng());
        assert_eq!(
            result,
            PermutationP {
                p: 0.125,
                exact: true
            }
        );
    }

    #[test]
    fn an_arm_against_itself_has_p_1() {
        assert!(sign_flip(&[0.0; 600], 1000, &mut rng()).p >= 1.0);
        assert!(sign_flip(&[], 1000, &mut rng()).p >= 1.0);
    }

    #[test]
    fn drawn_p_agrees_with_enumerated_p() {
        // 16 differences are enumerated; a seventeenth, too small to matter, makes it draw.
        let mut differences: Vec<f64> = (0..16)
            .map(|i| {
                if i % 3 == 0 {
                    -1.0
                } else {
                    1.0 + 0.1 * f64::from(i)
                }
            })
            .collect();
        let exact = sign_flip(&differences, 0, &mut rng());
        differences.push(1e-9);
        let drawn = sign_flip(&differences, 100_000, &mut rng());
        assert!(exact.exact && !drawn.exact);
        // Five binomial standard errors of 100,000 draws.
        assert!(
            (exact.p - drawn.p).abs() < 5.0 * (exact.p / 1e5).sqrt(),
            "{exact:?} {drawn:?}"
        );
    }
}
