//! MBPP from outside: what the sandbox lets pass, what it stops, and when it refuses to run.
//!
//! These tests need a Python interpreter. Without one they say so and pass; with
//! `IDIOLECT_REQUIRE_PYTHON=1` that is a failure.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::kit::Place;

/// Whether there is an interpreter to test with.
fn python(test: &str) -> bool {
    let named = std::env::var("IDIOLECT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&named)
        .args(["-c", "pass"])
        .output()
        .is_ok_and(|ended| ended.status.success());
    assert!(
        found || std::env::var_os("IDIOLECT_REQUIRE_PYTHON").is_none_or(|v| v != "1"),
        "IDIOLECT_REQUIRE_PYTHON=1, but `{named}` does not run"
    );
    if !found {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!(
                "SKIPPED {test}: no Python interpreter; install python3 or set IDIOLECT_PYTHON"
            );
        }
    }
    found
}

fn pair(id: &str, code: &str, tests: &[&str]) -> Value {
    json!({"id": id, "gold": {"tests": tests, "setup": ""}, "answer": format!("```python\n{code}\n```")})
}

/// Verdict and reason of each pair by id.
fn judged(place: &Place, pairs: &[Value], more: &[&str]) -> BTreeMap<String, (String, String)> {
    let rows: String = pairs.iter().map(|row| format!("{row}\n")).collect();
    place.write("pairs.jsonl", &rows);
    let mut arguments = vec!["verify", "--task", "mbpp", "--pairs", "pairs.jsonl"];
    arguments.extend(["-o", "results.jsonl", "-q"]);
    arguments.extend(more);
    place.done(&arguments);
    let results = place.lines("results.jsonl");
    assert_eq!(results.len(), pairs.len());
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    results
        .iter()
        .map(|row| (text(row, "id"), (text(row, "verdict"), text(row, "reason"))))
        .collect()
}

/// Programs of `escapes.txt`: name, code, tests.
fn escapes() -> Vec<(String, String, Vec<String>)> {
    let mut found: Vec<(String, String, Vec<String>)> = Vec::new();
    for line in include_str!("escapes.txt").lines() {
        match (
            line.strip_prefix("### "),
            line.strip_prefix("#! "),
            found.last_mut(),
        ) {
            (Some(name), _, _) => found.push((name.to_owned(), String::new(), Vec::new())),
            (_, Some(test), Some((_, _, tests))) => tests.push(test.replace("; ", "\n")),
            (_, _, Some((_, code, _))) => {
                code.push_str(line);
                code.push('\n');
            }
            _ => {}
        }
    }
    found.push((
        "nul".to_owned(),
        "def f(x): return 2\0".to_owned(),
        Vec::new(),
    ));
    found.push(("nested".to_owned(), "(".repeat(100_000), Vec::new()));
    found
}

const HONEST: &str = "def f(x):\n    return x + 1";
const TESTS: [&str; 2] = ["assert f(1) == 2", "assert f(5) == 6"];

#[test]
fn no_escape_or_forgery_passes_and_no_other_candidate_is_disturbed() {
    if !python("no_escape_or_forgery_passes_and_no_other_candidate_is_disturbed") {
        return;
    }
    let place = Place::new();
    place.write("private/secret.txt", "the secret of this test");
    let mut pairs = Vec::new();
    for (index, (name, code, tests)) in escapes().iter().enumerate() {
        let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
        let tests = if tests.is_empty() { &TESTS } else { &*tests };
        pairs.push(pair(name, code, tests));
        pairs.push(pair(&format!("honest {index}"), HONEST, &TESTS));
    }
    // Absolute paths that this user may read and write, and a secret of the environment.
    let secret = place.path("private/secret.txt");
    let reads = format!("def f(x): return open({:?}).read()", secret.display());
    pairs.push(pair(
        "read a file of the user's",
        &reads,
        &["assert f(1).startswith('the secret')"],
    ));
    let writes = format!(
        "def f(x):\n    open({:?}, 'w').write('')\n    return 2",
        secret.display()
    );
    pairs.push(pair("write a file of the user's", &writes, &TESTS));
    let reads = "import os\ndef f(x): return len([k for k in os.environ if k.startswith('CARGO')])";
    pairs.push(pair("see the environment", reads, &["assert f(1) > 0"]));
    assert!(pairs.len() > 180, "the suite has shrunk to {}", pairs.len());

    for (id, (verdict, reason)) in judged(&place, &pairs, &[]) {
        let expected = if id.starts_with("honest ") {
            "correct"
        } else {
            "wrong"
        };
        assert_eq!(verdict, expected, "{id}: {reason}");
    }
    assert_eq!(place.text("private/secret.txt"), "the secret of this test");
    for left in ["/tmp/idiolect-escape", "/tmp/l", "/dev/shm/idiolect-escape"] {
        assert!(
            !std::path::Path::new(left).exists(),
            "{left} was left behind"
        );
    }
    assert_eq!(orphans(), Vec::<u32>::new());
}

/// Processes of the sandbox whose parent is none of the program's.
fn orphans() -> Vec<u32> {
    let parents: BTreeMap<u32, u32> = harnesses().into_iter().collect();
    let program = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|c| c.starts_with("idiolect"))
    };
    parents
        .iter()
        .filter(|(_, parent)| !parents.contains_key(parent) && !program(parent))
        .map(|(pid, _)| *pid)
        .collect()
}

/// Processes that run the harness, each with its parent.
fn harnesses() -> Vec<(u32, u32)> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_harness =
            String::from_utf8_lossy(&line).contains("Judges Python programs one after");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:"))?;
        is_harness.then_some((pid, parent.trim().parse().ok()?))
    })
    .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn a_killed_program_leaves_no_process_behind() {
    if !python("a_killed_program_leaves_no_process_behind") {
        return;
    }
    let place = Place::new();
    let waits = pair("waits", "import time\ntime.sleep(1000)", &TESTS);
    place.write("pairs.jsonl", &format!("{waits}\n"));
    let mut running = place
        .command(&[
            "verify",
            "--task",
            "mbpp",
            "--pairs",
            "pairs.jsonl",
            "-o",
            "r.jsonl",
            "-q",
        ])
        .spawn()
        .unwrap();
    let own = |root: u32| {
        let all = harnesses();
        let mut own = vec![root];
        for _ in 0..4 {
            let children = all.iter().filter(|(_, parent)| own.contains(parent));
            let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
            own.extend(
                children
                    .into_iter()
                    .filter(|pid| !own.contains(pid))
                    .collect::<Vec<_>>(),
            );
        }
        own.remove(0);
        own
    };
    // Server, judge and candidate.
    let mut started = own(running.id());
    while started.len() < 3 {
        assert!(running.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
        started = own(running.id());
    }
    running.kill().unwrap();
    running.wait().unwrap();
    while harnesses().iter().any(|(pid, _)| started.contains(pid)) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn tests_of_all_kinds_meet_candidates_of_all_kinds() {
    if !python("tests_of_all_kinds_meet_candidates_of_all_kinds") {
        return;
    }
    let place = Place::new();
    let cases = [
        (
            "values",
            "def f(x): return x",
            "import datetime, decimal, fractions, collections\nfor v in (None, True, -3, 10**50, 1.5, float('inf'), 2j, 'é\\0', b'\\xff', [1, [2]], (1,), {1: 'a', (2,): []}, {3}, frozenset([4]), range(3), collections.Counter('aab'), collections.deque([1], 2), datetime.date(2020, 1, 2), datetime.timedelta(1), decimal.Decimal('1.10'), fractions.Fraction(1, 3)):\n    assert f(v) == v and type(f(v)) is type(v), v",
        ),
        (
            "a builtin's name",
            "def sum(a, b): return a * b",
            "assert sum(10, 15) == 150",
        ),
        (
            "a class of the candidate's",
            "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\ndef f(pairs): return [p.a + p.b for p in pairs]",
            "assert f([Pair(1, 2), Pair(3, 4)]) == [3, 7]",
        ),
        (
            "attributes and links",
            "class Node:\n    def __init__(self, v): self.v, self.left = v, None\ndef f(n): return n.v + (f(n.left) if n.left else 0)",
            "root = Node(1)\nroot.left = Node(2)\nassert f(root) == 3 and root.left.v == 2",
        ),
        (
            "generators",
            "def f(n):\n    for i in range(n): yield i",
            "assert list(f(3)) == [0, 1, 2] and sum(f(4)) == 6 and next(f(1)) == 0",
        ),
        (
            "functions of the tests",
            "def f(g, xs): return sorted(xs, key=g)",
            "assert f(lambda x: -x, [1, 3, 2]) == [3, 2, 1]",
        ),
        (
            "arguments that change",
            "def f(xs): xs.sort(); xs.append(9)",
            "a = [3, 1]\nf(a)\nassert a == [1, 3, 9]",
        ),
        (
            "expected exceptions",
            "def f(x): raise ValueError('no')",
            "try:\n    f(1)\nexcept ValueError as e:\n    assert 'no' in str(e)\nelse:\n    assert False",
        ),
        (
            "a named tuple",
            "from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(): return P(1, 2)",
            "assert f() == (1, 2)",
        ),
        (
            "an import of the reference's",
            "def f(x): return x",
            "assert f(4) == math.sqrt(16)",
        ),
        (
            "numbers of numpy's kind",
            "def f(x): return x / 3",
            "import numpy as np\nassert np.allclose(f(1.0), 0.3333333333, rtol=1e-07, atol=1e-6)",
        ),
        (
            "printing and a main guard",
            "print('hello')\nif __name__ == '__main__':\n    raise SystemExit\ndef f(): return 1",
            "assert f() == 1",
        ),
        (
            "line ends of another system",
            "def f():\r\n    return 1\r\n",
            "assert f() == 1",
        ),
        (
            "threads",
            "import threading\ndef f():\n    out = []\n    t = threading.Thread(target=lambda: out.append(1))\n    t.start(); t.join()\n    return out",
            "assert f() == [1]",
        ),
        (
            "data classes",
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\ndef f(x): return A(x)",
            "assert f(1) == A(1) and f(1) != A(2) and f(3).x == 3",
        ),
    ];
    let pairs: Vec<Value> = cases
        .iter()
        .map(|(id, code, test)| pair(id, code, &[test]))
        .collect();
    for (id, (verdict, reason)) in judged(&place, &pairs, &[]) {
        assert_eq!(verdict, "correct", "{id}: {reason}");
    }
    // The same without the sandbox, where someone accepts the risk.
    let unprotected = judged(&place, &pairs, &["--unsafe-no-sandbox", "--fresh"]);
    assert!(
        unprotected
            .values()
            .all(|(verdict, _)| verdict == "correct"),
        "{unprotected:?}"
    );
    let meta = place.text("results.jsonl.meta.json");
    assert!(meta.contains("unprotected"), "{meta}");
}

#[test]
fn reasons_name_the_test_and_faulty_tests_are_ungraded() {
    if !python("reasons_name_the_test_and_faulty_tests_are_ungraded") {
        return;
    }
    let place = Place::new();
    let cases = [
        (
            "second",
            "def f(x): return 2",
            "assert f(1) == 2",
            "wrong",
            "test 2 of 2 fails: assert f(5) == 6",
        ),
        (
            "raises",
            "def f(x): return 1 / 0",
            "assert f(1) == 2",
            "wrong",
            "test 1 of 2 raises ZeroDivisionError: division by zero",
        ),
        (
            "missing",
            "def g(x): return 2",
            "assert f(1) == 2",
            "wrong",
            "name 'f' is not defined",
        ),
        (
            "syntax",
            "def f(x) return 2",
            "assert f(1) == 2",
            "wrong",
            "its code raises SyntaxError",
        ),
        (
            "no test",
            "def f(x): return 2",
            "assert f(1) ==",
            "ungraded",
            "is no Python",
        ),
        (
            "no module",
            "def f(x): return 2",
            "import no_such_module",
            "ungraded",
            "needs a module",
        ),
    ];
    let pairs: Vec<Value> = cases
        .iter()
        .map(|(id, code, test, ..)| pair(id, code, &[test, TESTS[1]]))
        .collect();
    let judged = judged(&place, &pairs, &[]);
    for (id, _, _, verdict, words) in cases {
        let (found, reason) = &judged[id];
        assert_eq!(found, verdict, "{id}: {reason}");
        assert!(reason.contains(words), "{id}: {reason}");
    }
    let rows = place.lines("results.jsonl");
    assert_eq!(rows[0]["extracted"], "def f(x): return 2");
}

#[test]
fn without_an_interpreter_mbpp_is_refused() {
    let place = Place::new();
    place.write("pairs.jsonl", &format!("{}\n", pair("a", HONEST, &TESTS)));
    let ran = place
        .command(&[
            "verify",
            "--task",
            "mbpp",
            "--pairs",
            "pairs.jsonl",
            "-o",
            "r.jsonl",
        ])
        .env("IDIOLECT_PYTHON", "/no/such/python")
        .output()
        .unwrap();
    let words = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(
        words.contains("Python interpreter") && words.contains("IDIOLECT_PYTHON"),
        "{words}"
    );
    assert_eq!(place.count("r.jsonl"), 0);
}

/// Starts the program in a process whose kernel seems to lack one system call.
#[cfg(target_os = "linux")]
fn without_call(place: &Place, call: u32, arguments: &[&str]) -> std::process::Output {
    let wrapper = format!(
        "
import ctypes, os, struct, sys
code = b''.join(struct.pack('HBBI', *i) for i in [
    (0x20, 0, 0, 0), (0x15, 0, 1, {call}), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(code, len(code))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
program = Program(4, ctypes.addressof(buffer))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])"
    );
    let python = std::env::var("IDIOLECT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    Command::new(python)
        .args(["-c", &wrapper, env!("CARGO_BIN_EXE_idiolect")])
        .args(arguments)
        .current_dir(place.path(""))
        .output()
        .unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_kernel_without_landlock_is_refused_unless_the_risk_is_accepted() {
    if !python("a_kernel_without_landlock_is_refused_unless_the_risk_is_accepted") {
        return;
    }
    let place = Place::new();
    place.write("pairs.jsonl", &format!("{}\n", pair("a", HONEST, &TESTS)));
    let mut arguments = vec![
        "verify",
        "--task",
        "mbpp",
        "--pairs",
        "pairs.jsonl",
        "-o",
        "r.jsonl",
    ];
    // landlock_create_ruleset has the same number on every processor.
    let refused = without_call(&place, 444, &arguments);
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    for word in ["Landlock", "--unsafe-no-sandbox"] {
        assert!(words.contains(word), "{words}");
    }
    assert_eq!(place.count("r.jsonl"), 0);
    arguments.push("--unsafe-no-sandbox");
    let accepted = without_call(&place, 444, &arguments);
    let words = String::from_utf8(accepted.stderr).unwrap();
    assert_eq!(accepted.status.code(), Some(0), "{words}");
    assert_eq!(place.lines("r.jsonl")[0]["verdict"], "correct");
}

#[test]
fn reference_solutions_pass_their_own_tests() {
    if !python("reference_solutions_pass_their_own_tests") {
        return;
    }
    let Some(data) = std::env::var_os("IDIOLECT_DATA") else {
        eprintln!("SKIPPED reference_solutions_pass_their_own_tests: IDIOLECT_DATA is not set");
        return;
    };
    let place = Place::new();
    for (file, total) in [("mbpp.jsonl", 974), ("sanitized-mbpp.json", 427)] {
        let file = std::path::Path::new(&data).join("mbpp").join(file);
        let file = file.to_str().unwrap();
        place.done(&[
            "import", "mbpp", file, "-o", "p.jsonl", "--traces", "h.jsonl", "--fresh", "-q",
        ]);
        place.done(&[
            "verify",
            "--problems",
            "p.jsonl",
            "--traces",
            "h.jsonl",
            "-o",
            "v.jsonl",
            "--fresh",
            "-q",
        ]);
        let verdicts = place.lines("v.jsonl");
        let fails = verdicts.iter().filter(|row| row["verdict"] != "correct");
        let fails: Vec<String> = fails
            .map(|row| format!("{}: {}", row["problem_id"], row["reason"]))
            .collect();
        eprintln!(
            "{} of {total} reference solutions pass; {fails:?}",
            total - fails.len()
        );
        assert_eq!(verdicts.len(), total);
        assert!(fails.len() <= 3, "{fails:?}");
    }
}
