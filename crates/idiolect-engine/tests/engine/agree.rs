//! Whether two tensors agree, and if not, where they differ most.

/// Why 1e-4: f32 and f64 PyTorch differ by up to 4e-6 of a tensor's largest entry on these models,
/// and other orders of summation by as much again; a flipped setting moves some entry by a tenth.
pub(crate) const TOLERANCE: f64 = 1e-4;

/// Differences of at most `TOLERANCE` times the largest wanted entry.
pub(crate) fn relatively(name: &str, got: &[f32], want: &[f32]) -> Result<(), String> {
    let largest = want.iter().fold(0.0, |m: f64, w| m.max(f64::from(w.abs())));
    within(name, got, want, TOLERANCE * largest)
}

/// Differences of at most `TOLERANCE`.
pub(crate) fn absolutely(name: &str, got: &[f32], want: &[f32]) -> Result<(), String> {
    within(name, got, want, TOLERANCE)
}

/// Two numbers, relative to the wanted one.
pub(crate) fn number(name: &str, got: f64, want: f64) -> Result<(), String> {
    if (got - want).abs() <= TOLERANCE * want.abs() {
        return Ok(());
    }
    Err(format!("`{name}` is {got}, expected {want}"))
}

fn within(name: &str, got: &[f32], want: &[f32], limit: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!(
            "`{name}` has {} entries, expected {}",
            got.len(),
            want.len()
        ));
    }
    let difference = |i: usize| (f64::from(got[i]) - f64::from(want[i])).abs();
    // A NaN is larger than any number in the total order, so it is found here.
    let Some(worst) = (0..got.len()).max_by(|&i, &j| difference(i).total_cmp(&difference(j)))
    else {
        return Err(format!("`{name}` is empty"));
    };
    if difference(worst) <= limit {
        return Ok(());
    }
    Err(format!(
        "`{name}` differs most at entry {worst}: {} and not {} (limit {limit:.1e})",
        got[worst], want[worst]
    ))
}

#[test]
fn a_difference_names_the_tensor_and_the_worst_entry() {
    let want = [1.0, -2.0, 0.5];
    assert_eq!(relatively("x", &[1.0001, -2.0, 0.5], &want), Ok(()));
    let message = relatively("x", &[1.0001, -2.0, 0.6], &want).unwrap_err();
    assert!(
        message.starts_with("`x` differs most at entry 2: 0.6 and not 0.5"),
        "{message}"
    );
    assert!(absolutely("x", &[1.0, -2.0, 0.50011], &want).is_err());
}

#[test]
fn values_that_are_not_numbers_never_agree() {
    assert!(absolutely("x", &[0.0, f32::NAN], &[0.0, 0.0]).is_err());
    assert!(relatively("x", &[0.0], &[f32::NAN]).is_err());
    assert!(number("x", f64::NAN, 1.0).is_err());
    assert!(absolutely("x", &[0.0], &[0.0, 0.0]).is_err());
}
