//! Rows survive whatever happens to their files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn file(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Good rows as `line:JSON`, bad ones as `line!reason`.
fn read(path: &Path) -> Result<Vec<String>, StoreError> {
    Rows::<Value>::open(path)?
        .map(|row| {
            Ok(match row? {
                Ok(row) => format!("{}:{}", row.line, row.value),
                Err(bad) => format!("{}!{}", bad.line, bad.reason),
            })
        })
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

mod files {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = dir();
        let path = dir.path().join("a.json");
        write_atomic(&path, b"old").unwrap();
        let failed = write_atomic_with(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"))
        });
        let words = failed.unwrap_err().to_string();
        assert!(
            words.contains("a.json") && words.contains("no space left"),
            "{words}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_hash_equals_the_hash_of_its_bytes() {
        let dir = dir();
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let path = file(&dir, "a", &bytes);
        assert_eq!(
            hash_file(&path).unwrap(),
            crate::record::content_hash(&bytes)
        );
    }

    #[test]
    fn a_second_writer_is_refused() {
        let dir = dir();
        let path = dir.path().join("x.lock");
        let held = Lock::acquire(&path, Path::new("x")).unwrap();
        let second = Lock::acquire(&path, Path::new("x"));
        assert!(matches!(second, Err(StoreError::Locked { path }) if path == "x"));
        drop(held);
        Lock::acquire(&path, Path::new("x")).unwrap();
        let journal = Journal::open(&dir.path().join("j")).unwrap();
        let second = Journal::open(&dir.path().join("j"));
        assert!(matches!(second, Err(StoreError::Locked { .. })));
        drop(journal);
    }

    #[test]
    fn companions_lie_beside_files_and_folders() {
        assert_eq!(
            beside(Path::new("a/b.jsonl"), ".meta.json"),
            Path::new("a/b.jsonl.meta.json")
        );
        assert_eq!(beside(Path::new("a/arms/"), ".x"), Path::new("a/arms.x"));
    }
}

mod rows {
    use super::*;

    #[test]
    fn lines_are_counted_past_blanks_marks_and_bad_rows() {
        let dir = dir();
        let text = b"\xef\xbb\xbf{\"a\":1}\r\n\r\n{\"a\":\n{\"a\":\"\xff\"}\n{\"a\":\"\\u0000\"}\n{\"a\":\"\x00\"}\n[3]";
        let rows = read(&file(&dir, "a.jsonl", text)).unwrap();
        assert_eq!(rows[0], "1:{\"a\":1}");
        assert!(rows[1].starts_with("3!not JSON: EOF"), "{}", rows[1]);
        assert_eq!(rows[2], "4!not UTF-8 at byte 6");
        assert_eq!(rows[3], "5:{\"a\":\"\\u0000\"}");
        assert!(
            rows[4].starts_with("6!not JSON: control character"),
            "{}",
            rows[4]
        );
        assert_eq!(rows[5], "7:[3]");
    }

    #[test]
    fn a_row_that_is_not_the_wanted_record_names_the_field() {
        let dir = dir();
        let path = file(&dir, "a.jsonl", b"{\"trace_id\":\"t\"}\n");
        let rows = Rows::<crate::record::VerdictRow>::open(&path).unwrap();
        let mut bad = Vec::new();
        assert!(rows.collect_good(|row| bad.push(row)).unwrap().is_empty());
        assert!(
            bad[0].reason.starts_with("missing field `problem_id`"),
            "{}",
            bad[0].reason
        );
        assert_eq!(
            (bad[0].file.as_str(), bad[0].text.as_str()),
            ("a.jsonl", "{\"trace_id\":\"t\"}")
        );
    }

    #[test]
    fn hostile_rows_are_bad_rows() {
        let dir = dir();
        let deep = format!(
            "{}{}\n1e999\n{{\"a\":1}}\n",
            "[".repeat(5000),
            "]".repeat(5000)
        );
        // An opening bracket would make it an array, which these are not.
        let rows = read(&file(&dir, "a.jsonl", format!("0\n{deep}").as_bytes())).unwrap();
        assert!(rows[1].contains("recursion"), "{}", rows[1]);
        assert!(
            rows[2].starts_with("3!not JSON: number out of range"),
            "{}",
            rows[2]
        );
        assert_eq!(rows[3], "4:{\"a\":1}");
    }

    #[test]
    fn a_row_beyond_the_limit_is_refused_and_the_next_is_read() {
        let dir = dir();
        let mut text = vec![b'x'; super::super::rows::MAX_ROW_BYTES + 10];
        text.extend(b"\n{\"a\":1}\n");
        let rows = read(&file(&dir, "a.jsonl", &text)).unwrap();
        assert_eq!(rows, ["1!longer than 64 MiB", "2:{\"a\":1}"]);
    }

    #[test]
    fn gzip_is_read_whatever_the_name_and_in_several_members() {
        let dir = dir();
        let mut bytes = gzip(b"{\"a\":1}\n");
        bytes.extend(gzip(b"{\"a\":2}\n"));
        assert_eq!(
            read(&file(&dir, "a.jsonl.gz", &bytes)).unwrap(),
            ["1:{\"a\":1}", "2:{\"a\":2}"]
        );
        assert_eq!(read(&file(&dir, "b.data", &bytes)).unwrap().len(), 2);
        let array = file(&dir, "c.json.gz", &gzip(b"[1, 2]"));
        assert_eq!(read(&array).unwrap(), ["1:1", "1:2"]);
    }

    #[test]
    fn a_cut_gzip_file_is_an_error_that_says_so() {
        let dir = dir();
        let bytes = gzip("{\"a\":1}\n".repeat(1000).as_bytes());
        let words = read(&file(&dir, "a.jsonl.gz", &bytes[..bytes.len() - 12]))
            .unwrap_err()
            .to_string();
        assert!(
            words.contains("a.jsonl.gz") && words.contains("cut off"),
            "{words}"
        );
    }

    #[test]
    fn an_array_gives_its_elements_with_the_lines_they_begin_on() {
        let dir = dir();
        let text = b" [\n {\"a\": \"],[\\\"\"},\n {\"a\": nope},\n\n {\"a\": [1, {}]}\n]\n";
        let rows = read(&file(&dir, "a.json", text)).unwrap();
        assert_eq!(rows[0], "2:{\"a\":\"],[\\\"\"}");
        assert!(rows[1].starts_with("3!not JSON"), "{}", rows[1]);
        assert_eq!(rows[2], "5:{\"a\":[1,{}]}");
        assert_eq!(read(&file(&dir, "e.json", b"[]")).unwrap().len(), 0);
    }

    #[test]
    fn a_cut_array_is_an_error_that_says_so() {
        let dir = dir();
        let words = read(&file(&dir, "a.json", b"[{\"a\":1},{\"a\""))
            .unwrap_err()
            .to_string();
        assert!(words.contains("cut off"), "{words}");
    }

    #[test]
    fn lines_in_a_json_file_are_read_as_lines() {
        let dir = dir();
        assert_eq!(
            read(&file(&dir, "a.json", b"{\"a\":1}\n{\"a\":2}"))
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn missing_files_folders_and_false_parquet_are_errors_with_the_path() {
        let dir = dir();
        let words = |path: &Path| read(path).unwrap_err().to_string();
        assert!(words(&dir.path().join("none.jsonl")).contains("none.jsonl"));
        assert!(words(dir.path()).contains("is a folder"));
        assert!(words(&file(&dir, "a.parquet", b"{}")).contains("not a parquet file"));
    }

    #[test]
    fn parquet_rows_are_objects_with_lists_and_nulls() {
        let dir = dir();
        let path = parquet(&dir);
        assert_eq!(
            read(&path).unwrap(),
            [
                "1:{\"text\":\"é\",\"n\":7,\"nums\":[1,2]}",
                "2:{\"text\":null,\"n\":8,\"nums\":[]}"
            ]
        );
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 20);
        assert!(read(&file(&dir, "cut.parquet", &bytes)).is_err());
    }

    fn parquet(dir: &tempfile::TempDir) -> PathBuf {
        use ::parquet::data_type::{ByteArrayType, Int64Type};
        use ::parquet::file::writer::SerializedFileWriter;
        use ::parquet::schema::parser::parse_message_type;
        let path = dir.path().join("a.parquet");
        let schema = "message m { OPTIONAL BYTE_ARRAY text (UTF8); REQUIRED INT64 n;
            REQUIRED GROUP nums (LIST) { REPEATED GROUP list { REQUIRED INT64 element; } } }";
        let schema = std::sync::Arc::new(parse_message_type(schema).unwrap());
        let file = fs::File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&["é".into()], Some(&[1, 0]), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int64Type>()
            .write_batch(&[7, 8], None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels = (Some([1, 1, 0].as_slice()), Some([0, 1, 0].as_slice()));
        column
            .typed::<Int64Type>()
            .write_batch(&[1, 2], levels.0, levels.1)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        path
    }
}

mod journals {
    use super::*;

    #[test]
    fn a_tail_torn_at_any_byte_costs_only_the_last_row() {
        let dir = dir();
        let path = dir.path().join("a.jsonl");
        let rows = [
            json!({"a": "é\u{0}\n"}),
            json!({"a": [1, 2]}),
            json!({"b": {}}),
        ];
        let mut journal = Journal::open(&path).unwrap();
        let mut ends = vec![0];
        for row in &rows {
            journal.push(row).unwrap();
            ends.push(fs::metadata(&path).unwrap().len());
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            let kept = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
            assert_eq!(journal.rows(), kept as u64, "cut at byte {cut}");
            assert_eq!(journal.dropped(), cut as u64 - ends[kept]);
            rows[kept..]
                .iter()
                .for_each(|row| journal.push(row).unwrap());
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at byte {cut}");
        }
    }

    #[test]
    fn a_tail_of_zeros_is_dropped_and_a_bad_row_inside_stays() {
        let dir = dir();
        let path = file(
            &dir,
            "a.jsonl",
            b"{\"a\":1}\nnot json\n{\"a\":2}\n\0\0\0\0\n\0\0",
        );
        let journal = Journal::open(&path).unwrap();
        assert_eq!((journal.rows(), journal.dropped()), (3, 7));
    }

    #[test]
    fn truncating_keeps_the_first_rows() {
        let dir = dir();
        let path = dir.path().join("a.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        (0..5).for_each(|n| journal.push(&n).unwrap());
        journal.truncate(2).unwrap();
        journal.push(&9).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n1\n9\n");
    }

    #[test]
    fn a_full_disk_says_where_and_leaves_the_rows_before_it() {
        if !Path::new("/dev/full").exists() {
            return;
        }
        let mut journal = Journal::open(Path::new("/dev/full")).unwrap();
        let words = journal.push(&json!("x")).unwrap_err().to_string();
        assert!(
            words.contains("/dev/full") && words.contains("No space left"),
            "{words}"
        );
        assert_eq!(journal.rows(), 0);
    }

    proptest! {
        #[test]
        fn any_unicode_survives(texts in proptest::collection::vec(".*", 0..8)) {
            let dir = dir();
            let path = dir.path().join("a.jsonl");
            let mut journal = Journal::open(&path).unwrap();
            texts.iter().for_each(|text| journal.push(text).unwrap());
            drop(journal);
            prop_assert_eq!(Journal::open(&path).unwrap().rows(), texts.len() as u64);
            let back = Rows::<String>::open(&path).unwrap().collect_good(|bad| panic!("{bad:?}")).unwrap();
            let back: Vec<String> = back.into_iter().map(|row| row.value).collect();
            prop_assert_eq!(back, texts);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let dir = dir();
            for name in ["a.jsonl", "a.json", "a.jsonl.gz", "a.parquet"] {
                let _ = read(&file(&dir, name, &bytes));
            }
        }
    }
}

mod outputs {
    use super::*;

    fn meta(k: u32) -> Meta {
        let mut meta = Meta::of("test");
        meta.setting("k", k).input("data", "hash");
        meta
    }

    fn open(path: &Path, meta: &Meta) -> Output {
        match Output::open(path, meta, false).unwrap() {
            Opened::Unfinished(output) => output,
            Opened::Complete(_) => panic!("complete"),
        }
    }

    /// A stage over lines 1 to 9 of which 3 and 8 are refused, whose results come in the order of
    /// `at`, stopped before the result number `stop`.
    fn work(path: &Path, at: [u64; 9], stop: usize) -> Option<Meta> {
        let mut output = open(path, &meta(1));
        let id = |line: u64| format!("line/{line}");
        for (number, line) in at.into_iter().enumerate() {
            if output.contains(Key::new(&id(line), 0)) {
                continue;
            }
            if number == stop {
                return None;
            }
            if line == 3 || line == 8 {
                let bad = BadRow::new("in", line, "bad", "");
                output.refuse(&id(line), 0, &bad).unwrap();
            } else {
                output.push(&id(line), 0, &json!({ "line": line })).unwrap();
            }
        }
        let order: Vec<Key> = (1..10).map(|line| Key::new(&id(line), 0)).collect();
        let ending = Ending {
            order: &order,
            refused: &[],
            seen: 9,
        };
        Some(output.finish(&ending).unwrap())
    }

    const IN_ORDER: [u64; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

    fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (file_name(&path), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn a_stage_stopped_anywhere_ends_in_the_same_bytes_whatever_the_order_of_results() {
        for name in ["o.jsonl", "o.jsonl.gz"] {
            let whole = dir();
            work(&whole.path().join(name), IN_ORDER, 99).unwrap();
            let rows = read(&whole.path().join(name)).unwrap();
            assert_eq!(rows.len(), 7, "{name}");
            for stop in 0..9 {
                for order in [IN_ORDER, [9, 2, 8, 4, 3, 6, 7, 1, 5]] {
                    let cut = dir();
                    let path = cut.path().join(name);
                    assert!(work(&path, order, stop).is_none());
                    work(&path, IN_ORDER, 99).unwrap();
                    assert_eq!(
                        contents(cut.path()),
                        contents(whole.path()),
                        "{name} stopped at {stop}"
                    );
                }
            }
        }
    }

    /// One shard of that stage, stopped before the result number `stop`.
    fn shard(path: &Path, shard: Shard, stop: usize) -> Option<Meta> {
        let mut meta = meta(1);
        meta.setting("shard", shard);
        let mut output = match Output::open(&shard.path_of(path), &meta, false).unwrap() {
            Opened::Unfinished(output) => output,
            Opened::Complete(meta) => return Some(meta),
        };
        for line in IN_ORDER {
            let id = format!("line/{line}");
            if !shard.takes(&id) || output.contains(Key::new(&id, 0)) {
                continue;
            }
            if output.done() == stop as u64 {
                return None;
            }
            if line == 3 || line == 8 {
                let bad = BadRow::new("in", line, "bad", "");
                output.refuse(&id, 0, &bad).unwrap();
            } else {
                output.push(&id, 0, &json!({ "line": line })).unwrap();
            }
        }
        Some(output.finish_shard().unwrap())
    }

    #[test]
    fn shards_of_any_number_end_in_the_same_bytes() {
        let whole = dir();
        work(&whole.path().join("o.jsonl"), IN_ORDER, 99).unwrap();
        for of in [1, 2, 5, 40] {
            let cut = dir();
            let path = cut.path().join("o.jsonl");
            let mut seen = 0;
            for one in Shard::all(of) {
                // Stopped and continued.
                shard(&path, one, 1);
                let meta = shard(&path, one, 99).unwrap();
                assert_eq!(
                    shard(&path, one, 0).unwrap(),
                    meta,
                    "a finished shard is kept"
                );
                seen += meta.seen;
            }
            assert_eq!(seen, 9, "every row belongs to one shard");
            let mut output = open(&path, &meta(1));
            Shard::all(of).for_each(|shard| output.take_over(shard).unwrap());
            assert_eq!((output.done(), output.rejected()), (9, 2));
            drop(output);
            work(&path, IN_ORDER, 0).unwrap();
            Shard::all(of).for_each(|shard| shard.remove(&path).unwrap());
            assert_eq!(contents(cut.path()), contents(whole.path()), "{of} shards");
        }
    }

    #[test]
    fn a_shard_killed_while_it_finishes_loses_nothing_and_a_changed_one_is_refused() {
        let cut = dir();
        let path = cut.path().join("o.jsonl");
        let one = Shard { index: 0, of: 1 };
        shard(&path, one, 99).unwrap();
        let file = one.path_of(&path);
        // Killed between the provenance and the renaming of the journal.
        fs::rename(&file, part_of(&file)).unwrap();
        shard(&path, one, 9).unwrap();
        let mut output = open(&path, &meta(1));
        output.take_over(one).unwrap();
        assert_eq!(output.done(), 9);
        drop(output);

        let rows = fs::read_to_string(&file).unwrap();
        fs::write(&file, rows.replacen("\"line\":1", "\"line\":7", 1)).unwrap();
        output = open(&path, &meta(1));
        output.restart().unwrap();
        let words = output.take_over(one).unwrap_err().to_string();
        assert!(words.contains("content hash"), "{words}");
        drop(output);
        let mut other = open(&cut.path().join("p.jsonl"), &meta(2));
        fs::copy(&file, one.path_of(&cut.path().join("p.jsonl"))).unwrap();
        let meta_of = |name: &str| Meta::path_of(&one.path_of(&cut.path().join(name)));
        fs::copy(meta_of("o.jsonl"), meta_of("p.jsonl")).unwrap();
        let words = other.take_over(one).unwrap_err().to_string();
        assert!(words.contains("k"), "{words}");
    }

    #[test]
    fn a_stage_killed_while_it_finishes_finishes_again() {
        let whole = dir();
        let made = work(&whole.path().join("o.jsonl"), IN_ORDER, 99).unwrap();
        let cut = dir();
        let path = cut.path().join("o.jsonl");
        assert!(work(&path, IN_ORDER, 8).is_none());
        let part = fs::read(part_of(&path)).unwrap();
        work(&path, IN_ORDER, 99).unwrap();
        // The rows were written, the provenance was not.
        let unfinished = Meta {
            complete: false,
            ..made
        };
        unfinished.write(&path).unwrap();
        fs::write(part_of(&path), part).unwrap();
        work(&path, IN_ORDER, 99).unwrap();
        assert_eq!(contents(cut.path()), contents(whole.path()));
    }

    #[test]
    fn rows_that_repeat_an_id_are_samples_of_it() {
        let mut occurrences = Occurrences::default();
        let samples: Vec<usize> = ["a", "b", "a", "a"]
            .into_iter()
            .map(|id| occurrences.next(id))
            .collect();
        assert_eq!(samples, [0, 0, 1, 2]);
        assert_ne!(Key::new("a", 1), Key::new("a", 2));
        assert_ne!(Key::new("a1", 0), Key::new("a", 10));
    }

    #[test]
    fn rows_that_are_appended_come_out_as_they_came_in() {
        let dir = dir();
        let path = dir.path().join("o.jsonl");
        let mut output = open(&path, &meta(1));
        output.append(&json!({"a": 1.5})).unwrap();
        output
            .append_refused(&BadRow::new("in", 2, "bad", ""))
            .unwrap();
        output.append(&json!({"a": "é"})).unwrap();
        assert_eq!((output.done(), output.rejected()), (3, 1));
        let made = output.finish_appended(3).unwrap();
        assert_eq!((made.rows, made.rejected), (2, 1));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"a\":1.5}\n{\"a\":\"é\"}\n"
        );
        assert!(!part_of(&path).exists());
    }

    #[test]
    fn a_finished_output_is_complete_and_an_edited_one_is_refused() {
        let dir = dir();
        let path = dir.path().join("o.jsonl");
        let made = work(&path, IN_ORDER, 99).unwrap();
        assert_eq!((made.rows, made.rejected, made.seen), (7, 2, 9));
        // Killed between the last two things that it does.
        let part = dir.path().join("o.jsonl.part");
        fs::write(&part, "left behind").unwrap();
        assert!(
            matches!(Output::open(&path, &meta(1), false).unwrap(), Opened::Complete(m) if m == made)
        );
        assert!(!part.exists());
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{}\n");
        fs::write(&path, text).unwrap();
        let words = Output::open(&path, &meta(1), false)
            .unwrap_err()
            .to_string();
        assert!(words.contains("changed after it was finished"), "{words}");
    }

    #[test]
    fn other_settings_are_named_and_fresh_starts_over() {
        let dir = dir();
        let path = dir.path().join("o.jsonl");
        work(&path, IN_ORDER, 5);
        let words = Output::open(&path, &meta(2), false)
            .unwrap_err()
            .to_string();
        assert!(
            words.ends_with("\n  settings.k: 1 before, 2 now"),
            "{words}"
        );
        let Opened::Unfinished(output) = Output::open(&path, &meta(2), true).unwrap() else {
            panic!("complete")
        };
        assert_eq!(output.done(), 0);
        assert!(!Rejects::path_of(&path).exists());
    }

    #[test]
    fn an_output_that_never_got_a_row_binds_nobody() {
        let dir = dir();
        let path = dir.path().join("o.jsonl");
        drop(open(&path, &meta(1)));
        drop(open(&path, &meta(2)));
        assert!(!Meta::read(&path).unwrap().unwrap().complete);
    }

    #[test]
    fn a_device_is_no_output() {
        let words = Output::open(Path::new("/dev/null"), &meta(1), false)
            .unwrap_err()
            .to_string();
        assert!(
            !cfg!(unix) || words.contains("not a regular file"),
            "{words}"
        );
    }

    #[test]
    fn a_file_of_the_users_own_is_not_appended_to() {
        let dir = dir();
        let path = file(&dir, "o.jsonl", b"{\"mine\":1}\n");
        for overwrite in [false, true] {
            assert!(matches!(
                Output::open(&path, &meta(1), overwrite),
                Err(StoreError::Foreign { .. })
            ));
        }
        assert_eq!(fs::read(&path).unwrap(), b"{\"mine\":1}\n");
    }

    #[test]
    fn the_key_moves_with_every_part_and_not_with_the_outcome() {
        let mut other = meta(1);
        other.version("task", "gsm8k@2");
        assert_ne!(meta(1).key(), other.key());
        assert_ne!(meta(1).key(), meta(2).key());
        let mut done = meta(1);
        done.complete = true;
        done.rows = 3;
        assert_eq!(done.key(), meta(1).key());
        assert!(done.differences(&meta(1)).is_empty());
    }

    fn open_folder(path: &Path, k: u32, overwrite: bool) -> Result<Option<Folder>, StoreError> {
        Ok(
            match Folder::open(path, &meta(k), &["weights*", "log"], overwrite)? {
                OpenedFolder::Unfinished(folder) => Some(folder),
                OpenedFolder::Complete(_) => None,
            },
        )
    }

    #[test]
    fn a_folder_is_continued_completed_refused_and_emptied() {
        let dir = dir();
        let path = dir.path().join("model");
        drop(open_folder(&path, 1, false).unwrap().unwrap());
        // It held nothing, so other settings may take it.
        let folder = open_folder(&path, 2, false).unwrap().unwrap();
        assert!(matches!(
            open_folder(&path, 2, false),
            Err(StoreError::Locked { .. })
        ));
        fs::write(path.join("weights"), "w").unwrap();
        drop(folder);
        assert!(matches!(
            open_folder(&path, 1, false),
            Err(StoreError::Changed { .. })
        ));
        open_folder(&path, 2, false)
            .unwrap()
            .unwrap()
            .finish(1, 1, "h")
            .unwrap();
        assert!(open_folder(&path, 2, false).unwrap().is_none());
        drop(open_folder(&path, 1, true).unwrap().unwrap());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_of_the_users_own_is_neither_used_nor_emptied() {
        let dir = dir();
        let path = dir.path().join("mine");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis"), "t").unwrap();
        for overwrite in [false, true] {
            assert!(matches!(
                open_folder(&path, 1, overwrite),
                Err(StoreError::Foreign { .. })
            ));
        }
        assert!(path.join("thesis").exists());
    }

    #[test]
    fn of_a_folder_only_what_the_stage_made_is_removed() {
        let dir = dir();
        let path = dir.path().join("model");
        let folder = open_folder(&path, 1, false).unwrap().unwrap();
        fs::create_dir(path.join("weights-1")).unwrap();
        fs::write(path.join("weights-1/a"), "w").unwrap();
        fs::write(path.join("notes"), "mine").unwrap();
        drop(folder);
        // Unfinished: told by the names that the stage gives.
        let words = open_folder(&path, 1, true).unwrap_err().to_string();
        assert!(words.contains("notes"), "{words}");
        assert!(path.join("weights-1/a").exists());
        fs::remove_file(path.join("notes")).unwrap();
        let folder = open_folder(&path, 1, false).unwrap().unwrap();
        let done = folder.finish(1, 1, "h").unwrap();
        assert!(done.files.contains_key("weights-1/a"));
        // Finished: told by what it held then.
        fs::write(path.join("weights-2"), "put there later").unwrap();
        let words = open_folder(&path, 1, true).unwrap_err().to_string();
        assert!(words.contains("weights-2"), "{words}");
        fs::remove_file(path.join("weights-2")).unwrap();
        drop(open_folder(&path, 1, true).unwrap().unwrap());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn an_output_is_not_written_through_a_link() {
        use std::os::unix::fs::symlink;
        let dir = dir();
        let (victim, folder) = (file(&dir, "victim", b""), dir.path().join("d"));
        fs::create_dir(&folder).unwrap();
        for name in ["o.jsonl", "p.jsonl.part", "q.jsonl.meta.json"] {
            symlink(&victim, dir.path().join(name)).unwrap();
        }
        symlink(&folder, dir.path().join("f")).unwrap();
        for overwrite in [false, true] {
            for name in ["o.jsonl", "p.jsonl", "q.jsonl"] {
                let opened = Output::open(&dir.path().join(name), &meta(1), overwrite);
                assert!(opened.is_err(), "{name}");
            }
            assert!(open_folder(&dir.path().join("f"), 1, overwrite).is_err());
        }
        assert_eq!(fs::read(&victim).unwrap(), b"");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_row_that_was_changed_moved_or_put_in_is_told_before_it_is_used() {
        let dir = dir();
        let path = dir.path().join("o.jsonl");
        let mut output = open(&path, &meta(1));
        for id in ["a", "b", "c"] {
            output
                .push(id, 0, &json!({"id": id, "verdict": "wrong"}))
                .unwrap();
        }
        drop(output);
        let part = part_of(&path);
        let whole = fs::read_to_string(&part).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let flipped = whole.replacen("wrong", "right", 1);
        let swapped = [lines[1], lines[0], lines[2], ""].join("\n");
        let foreign = format!("{whole}{{\"id\":\"d\",\"sample\":0,\"row\":{{\"id\":\"d\"}}}}\n");
        for (changed, line) in [(flipped, 1), (swapped, 1), (foreign, 4)] {
            fs::write(&part, &changed).unwrap();
            let words = Output::open(&path, &meta(1), false)
                .unwrap_err()
                .to_string();
            assert!(
                words.contains(&format!("line {line} is not what was written")),
                "{words}"
            );
            assert_eq!(
                fs::read_to_string(&part).unwrap(),
                changed,
                "it is left to be looked at"
            );
        }
        fs::write(&part, &whole).unwrap();
        assert_eq!(open(&path, &meta(1)).done(), 3);
    }

    #[test]
    fn a_finished_file_that_changed_is_told_when_it_is_read() {
        let dir = dir();
        let path = dir.path().join("o.jsonl");
        let mut output = open(&path, &meta(1));
        output.append(&json!({"verdict": "wrong"})).unwrap();
        output.finish_appended(1).unwrap();
        let hash = hash_input(&path).unwrap();
        assert_eq!(hash, hash_file(&path).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[5] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let words = hash_input(&path).unwrap_err().to_string();
        assert!(
            words.contains("o.jsonl` is not what was written"),
            "{words}"
        );
        fs::remove_file(Meta::path_of(&path)).unwrap();
        assert!(
            hash_input(&path).is_ok(),
            "without provenance it is a user's own"
        );
        // A file of a folder whose files are read one by one.
        let arms = dir.path().join("arms");
        let mut folder = open_folder(&arms, 1, false).unwrap().unwrap();
        folder.hash_files();
        fs::write(arms.join("log"), "a").unwrap();
        folder.finish(1, 1, "h").unwrap();
        assert!(hash_input(&arms.join("log")).is_ok());
        fs::write(arms.join("log"), "b").unwrap();
        assert!(matches!(
            hash_input(&arms.join("log")),
            Err(StoreError::Altered { .. })
        ));
    }

    #[test]
    fn a_page_is_written_over_a_page_alone() {
        let dir = dir();
        let path = dir.path().join("r.html");
        write_page(&path, "one").unwrap();
        write_page(&path, "two").unwrap();
        let ours = fs::read_to_string(&path).unwrap();
        assert!(ours.starts_with("two\n<!-- "));
        let notes = ours.replace("two", "two, with notes of mine");
        let quoted = "Somebody wrote: <!-- written by idiolect -->";
        for mine in ["mine", notes.as_str(), &format!("{ours}more"), quoted] {
            fs::write(&path, mine).unwrap();
            assert!(matches!(
                write_page(&path, "three"),
                Err(StoreError::Foreign { .. })
            ));
            assert_eq!(fs::read_to_string(&path).unwrap(), mine);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_page_is_written_to_a_regular_file_alone() {
        use std::os::unix::fs::FileTypeExt as _;
        let dir = dir();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
        for path in [&pipe, &link, Path::new("/dev/null")] {
            assert!(matches!(
                write_page(path, "page"),
                Err(StoreError::Foreign { .. })
            ));
        }
        assert!(
            fs::metadata("/dev/null")
                .unwrap()
                .file_type()
                .is_char_device()
        );
    }

    #[test]
    fn rejects_of_the_users_own_stay() {
        let dir = dir();
        let path = dir.path().join("o.jsonl");
        let mine = Rejects::path_of(&path);
        fs::write(&mine, "{\"mine\":1}\n").unwrap();
        let mut output = open(&path, &meta(1));
        output.append(&json!(1)).unwrap();
        assert!(matches!(
            output.finish_appended(1),
            Err(StoreError::Foreign { .. })
        ));
        assert_eq!(fs::read_to_string(&mine).unwrap(), "{\"mine\":1}\n");
    }
}

mod csv {
    use super::*;

    #[test]
    fn cells_are_texts_by_column_and_an_empty_one_is_absent() {
        let dir = dir();
        let text = "\u{feff}question,answer,note\r\n\"a, \"\"b\"\"\nc\",7,\r\n\r\nd,,\"\"\r\n";
        for (name, bytes) in [
            ("a.csv", text.as_bytes().to_vec()),
            ("A.CSV.gz", gzip(text.as_bytes())),
        ] {
            assert_eq!(
                read(&file(&dir, name, &bytes)).unwrap(),
                [
                    r#"2:{"question":"a, \"b\"\nc","answer":"7"}"#,
                    r#"5:{"question":"d","note":""}"#
                ]
            );
        }
    }

    #[test]
    fn a_bad_row_is_refused_by_its_line_and_the_others_are_read() {
        let dir = dir();
        let bytes = b"a,b\n1,2\n3\n4,5,6\n\"x\ny\",\"7\"8\n\xff,1\n9,10";
        assert_eq!(
            read(&file(&dir, "a.csv", bytes)).unwrap(),
            [
                r#"2:{"a":"1","b":"2"}"#,
                "3!has 1 cells, and the header 2 columns",
                "4!has 3 cells, and the header 2 columns",
                "5!text follows a closing quote; a quote inside a cell is doubled",
                "7!the cell of column `a` is not UTF-8",
                r#"8:{"a":"9","b":"10"}"#
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_csv_says_why() {
        let dir = dir();
        let why = |text: &str| {
            read(&file(&dir, "a.csv", text.as_bytes()))
                .unwrap_err()
                .to_string()
        };
        assert!(why("").contains("column names"));
        assert!(why("a,a\n").contains("two columns are named `a`"));
        assert!(why("a;b\n1;2\n").contains("separated by ';'"));
        let open = why("a,b\n1,2\n\"3,4\n5,6\n");
        assert!(
            open.contains("line 3") && open.contains("never closed"),
            "{open}"
        );
    }

    #[test]
    fn typed_rows_take_numbers_lists_and_objects_out_of_cells() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Typed {
            id: String,
            n: u32,
            weight: Option<f64>,
            flag: Option<bool>,
            list: Vec<u8>,
            #[serde(default)]
            any: Value,
        }
        let dir = dir();
        let text = "id,n,weight,flag,list,any,unused\n7,3,0.5,true,\"[1, 2]\",{},x\n8,x,,,[],,\n";
        let rows: Vec<_> = Rows::<Typed>::open(&file(&dir, "a.csv", text.as_bytes()))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let first = Typed {
            id: "7".to_owned(),
            n: 3,
            weight: Some(0.5),
            flag: Some(true),
            list: vec![1, 2],
            any: json!("{}"),
        };
        assert_eq!(rows[0].as_ref().unwrap().value, first);
        let bad = rows[1].as_ref().unwrap_err();
        assert!(
            bad.line == 3 && bad.reason.contains("\"x\""),
            "{}",
            bad.reason
        );
    }

    proptest! {
        #[test]
        fn what_a_writer_quotes_is_read_back(cells in prop::collection::vec(prop::collection::vec("[a,\"\n\r é]{0,6}", 3), 1..6)) {
            let line = |cells: &[String]| {
                let quoted: Vec<String> = cells.iter().map(|c| format!("\"{}\"", c.replace('"', "\"\""))).collect();
                quoted.join(",") + "\n"
            };
            let mut text = "x,y,z\n".to_owned();
            text.extend(cells.iter().map(|row| line(row)));
            let dir = dir();
            let path = file(&dir, "a.csv", text.as_bytes());
            let rows: Vec<Value> = Rows::<Value>::open(&path).unwrap().map(|row| row.unwrap().unwrap().value).collect();
            let expected: Vec<Value> = cells.iter().map(|c| json!({"x": c[0], "y": c[1], "z": c[2]})).collect();
            prop_assert_eq!(rows, expected);
        }
    }
}

#[test]
fn values_that_python_writes_and_json_has_not_do_not_cost_the_row() {
    let dir = dir();
    let bytes = b"{\"a\": 1, \"b\": NaN}\n{\"a\": -Infinity, \"b\": \"NaN\"}\n{\"a\": NaN,}\n";
    let rows = read(&file(&dir, "a.jsonl", bytes)).unwrap();
    assert_eq!(rows[0], r#"1:{"a":1,"b":null}"#);
    assert_eq!(rows[1], r#"2:{"a":"-Infinity","b":"NaN"}"#);
    assert!(rows[2].starts_with("3!not JSON"), "{}", rows[2]);
}

#[test]
fn parquet_is_read_in_every_codec() {
    use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
    use ::parquet::data_type::{ByteArray, ByteArrayType};
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    let dir = dir();
    let text = "four and four are eight ".repeat(40);
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let path = dir.path().join("a.parquet");
        let schema = parse_message_type("message m { required binary question (UTF8); }").unwrap();
        let properties = WriterProperties::builder().set_compression(codec).build();
        let file = fs::File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema.into(), properties.into()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values = [ByteArray::from(text.as_str()), ByteArray::from("b")];
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, None, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let rows = read(&path).unwrap_or_else(|error| panic!("{codec:?}: {error}"));
        assert_eq!(
            rows,
            [
                format!("1:{}", json!({"question": text})),
                "2:{\"question\":\"b\"}".to_owned()
            ]
        );
    }
}
