//! Any bytes as an `OUTPUT.meta.json`: refused with a reason that names the file, or a provenance that
//! reads as it was written.

use idiolect_core::store::Meta;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let output = std::env::temp_dir().join(format!("idiolect-fuzz-{}", std::process::id()));
    std::fs::write(Meta::path_of(&output), data).expect("the temporary folder can be written");
    match Meta::read(&output) {
        Err(error) => assert!(error.to_string().contains("idiolect-fuzz-"), "{error}"),
        Ok(meta) => {
            let meta = meta.expect("the file is there");
            assert!(meta.differences(&meta).is_empty());
            meta.write(&output)
                .expect("the temporary folder can be written");
            let again = Meta::read(&output).expect("what was written can be read");
            assert_eq!(again, Some(meta));
        }
    }
}
