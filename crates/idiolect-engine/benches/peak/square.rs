//! The matrix product that what a machine can do is measured by.

/// `c` = `a` · `b` of n × n matrices, by one thread, with the f32 kernels of the `gemm` crate.
#[expect(unsafe_code, reason = "the matrix product that peak is measured by")]
pub(crate) fn square_product(n: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() == n * n && b.len() == n * n && c.len() == n * n);
    let row = n as isize;
    let (c, a, b) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
    let product = gemm_f32::gemm::f32::get_gemm_fn();
    let alone = gemm_common::Parallelism::None;
    // SAFETY: three whole n x n matrices stored by rows, c borrowed for writing only here.
    unsafe {
        product(
            n, n, n, c, 1, row, false, a, 1, row, b, 1, row, 0.0, 1.0, false, false, false, alone,
        );
    }
}
