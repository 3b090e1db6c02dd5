use super::*;
use std::fs;

/// A safetensors file from a header and data, written as they are.
fn raw(path: &Path, header: &str, data: &[u8]) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

const SLOT_A: Slot<'_> = Slot {
    name: "a",
    shape: &[2],
    range: 0..2,
};

/// The message of reading tensor `a` of shape [2] of a directory.
fn error_of(dir: &Path) -> String {
    let error = WeightFiles::open(dir)
        .and_then(|files| files.read_slots(&[SLOT_A], &mut [0.0; 2]))
        .expect_err("the file is bad");
    error.to_string()
}

#[track_caller]
fn refuses(header: &str, data: &[u8], parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    raw(&dir.path().join("model.safetensors"), header, data);
    let message = error_of(dir.path());
    for part in parts.iter().chain(&["model.safetensors"]) {
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    }
}

const A: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

#[test]
fn a_directory_without_weights_says_what_it_looks_for() {
    let dir = tempfile::tempdir().unwrap();
    assert!(error_of(dir.path()).contains("neither `model.safetensors` nor"));
}

#[test]
fn a_file_cut_off_anywhere_is_refused_without_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    raw(&path, A, &[0; 8]);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert!(
            error_of(dir.path()).contains("model.safetensors"),
            "at {len}"
        );
    }
}

#[test]
fn an_absurd_header_length_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for length in [u64::MAX, 1 << 40, 60] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        assert!(error_of(dir.path()).contains("claims a header of"));
    }
}

#[test]
fn every_lie_of_a_header_is_refused_by_name() {
    refuses("[]", &[], &["header cannot be read"]);
    refuses(r#"{"a":1}"#, &[], &["header cannot be read"]);
    let at = |shape: &str, dtype: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    refuses(
        &at("[2]", "F32", "[0,16]"),
        &[0; 8],
        &["`a`", "bytes 0 to 16 of 8"],
    );
    refuses(
        &at("[2]", "F32", "[8,0]"),
        &[0; 8],
        &["`a`", "bytes 8 to 0"],
    );
    refuses(&at("[3]", "F32", "[0,8]"), &[0; 8], &["`a`", "need 12"]);
    refuses(
        &at("[2]", "Q4", "[0,8]"),
        &[0; 8],
        &["`a`", "unknown dtype `Q4`"],
    );
    refuses(
        &at("[4294967296,4294967296,4294967296]", "F32", "[0,8]"),
        &[0; 8],
        &["`a`", "impossible shape"],
    );
    refuses(
        &at("[2]", "F32", "[4,12]"),
        &[0; 12],
        &["`a`", "follows a hole"],
    );
    refuses(
        &at("[2]", "F32", "[0,8]"),
        &[0; 12],
        &["`a`", "ends at 8", "12 bytes"],
    );
    refuses(
        &at("[2]", "I32", "[0,8]"),
        &[0; 8],
        &["`a`", "dtype I32", "F32, BF16, F16"],
    );
    refuses(
        &at("[1,2]", "F32", "[0,8]"),
        &[0; 8],
        &["`a`", "[1, 2]", "expected [2]"],
    );
    refuses(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        &[0; 12],
        &["`b`", "overlaps"],
    );
    refuses(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        &[0; 8],
        &["`a` is there twice"],
    );
    refuses(
        r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        &[0; 8],
        &["`b`", "not part of the model"],
    );
    refuses("{}", &[], &["`a`", "is missing", "[2]"]);
}

#[test]
fn weights_that_are_not_finite_are_refused_with_their_index() {
    for bad in [f32::NAN, f32::INFINITY] {
        let data = [1f32.to_le_bytes(), bad.to_le_bytes()].concat();
        refuses(A, &data, &["`a`", "index 1"]);
    }
}

#[test]
fn an_index_and_its_shards_must_agree() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    raw(&dir.path().join("s1.safetensors"), A, &[0; 8]);
    let check = |json: &str, part: &str| {
        fs::write(&index, json).unwrap();
        let message = error_of(dir.path());
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    };
    check("{", "not JSON");
    check("{}", "`weight_map` is missing");
    check(
        r#"{"weight_map":{"a":"../s1.safetensors"}}"#,
        "not a plain file name",
    );
    check(r#"{"weight_map":{"a":"s2.safetensors"}}"#, "s2.safetensors");
    check(
        r#"{"weight_map":{"a":"s1.safetensors","b":"s1.safetensors"}}"#,
        "`b` is listed in",
    );
    check(r#"{"weight_map":{}}"#, "`a` is missing");
    raw(
        &dir.path().join("s1.safetensors"),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
        &[0; 12],
    );
    check(
        r#"{"weight_map":{"a":"s1.safetensors"}}"#,
        "`c` is in `s1.safetensors`",
    );
}

#[test]
fn what_is_written_is_read_back_with_the_same_hash_and_by_the_formats_own_library() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let slots = [
        Slot {
            name: "z",
            shape: &[2, 3],
            range: 2..8,
        },
        SLOT_A,
    ];
    let values = [0.5, -0.25, 1.0, -2.5, 3.25, 1e-3, 7.0, -0.0f32];
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        let hash = write_slots(&path, &slots, &values, dtype).unwrap();
        let mut read = [0.0; 8];
        let files = WeightFiles::open(dir.path()).unwrap();
        assert_eq!(hash, files.read_slots(&slots, &mut read).unwrap());
        let tolerance = if dtype == Dtype::F32 { 0.0 } else { 4e-3 };
        for (x, y) in values.iter().zip(&read) {
            assert!((x - y).abs() <= tolerance * x.abs(), "{x} {y} {dtype:?}");
        }
        let bytes = fs::read(&path).unwrap();
        let outside = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(outside.tensor("z").unwrap().shape(), [2, 3]);
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    }
}

#[test]
fn a_value_that_is_not_finite_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let error = write_slots(&path, &[SLOT_A], &[0.0, 1e6], Dtype::F16).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`a` holds a value that is not finite")
    );
    assert!(!path.exists());
}
