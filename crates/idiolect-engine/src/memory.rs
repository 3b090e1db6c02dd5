//! Whether memory of a size that a file or a flag decides can be had, asked before it is taken:
//! an allocation that fails ends the program without a word.

/// Asks for memory for `n` values of `T` in `copies` buffers, and gives it back.
///
/// # Errors
/// When the system refuses it; states what it is for and what to do.
pub(crate) fn available<T>(n: usize, copies: usize, what: &str) -> Result<(), String> {
    let mut buffers: Vec<Vec<T>> = Vec::new();
    for _ in 0..copies {
        let mut buffer = Vec::new();
        if buffer.try_reserve_exact(n).is_err() {
            let mib = (n as u128 * copies as u128 * size_of::<T>() as u128) >> 20;
            return Err(format!(
                "there is no memory for {what}: {mib} MiB were refused by the system; give the \
                 process more (`ulimit -v`, a container's limit) or take a smaller model"
            ));
        }
        buffers.push(buffer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_system_gives_is_an_error_that_states_its_size() {
        assert!(available::<f32>(1000, 3, "weights").is_ok());
        let message = available::<f32>(1 << 60, 1, "the weights of `m`").unwrap_err();
        assert!(
            message.contains("the weights of `m`: 4398046511104 MiB"),
            "{message}"
        );
        assert!(available::<f32>(usize::MAX, 1, "weights").is_err());
    }
}
