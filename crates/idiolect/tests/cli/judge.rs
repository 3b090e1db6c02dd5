//! The boundary between the judge and a candidate's process: what a candidate sends, what its objects
//! answer to operators, and what of the machine it can hold on to.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::code::{HONEST, TESTS, interpreter, judged, pair, python};
use super::kit::Place;

/// Programs of `hostile.txt`: name, code, tests.
fn hostile() -> Vec<(String, String, Vec<String>)> {
    let mut found: Vec<(String, String, Vec<String>)> = Vec::new();
    for line in include_str!("hostile.txt").lines() {
        if let Some(name) = line.strip_prefix("### ") {
            found.push((name.to_owned(), String::new(), Vec::new()));
            continue;
        }
        let Some((_, code, tests)) = found.last_mut() else {
            continue;
        };
        match line.strip_prefix("#! ") {
            Some(test) => tests.push(test.replace("; ", "\n")),
            None => code.push_str(&sent(line)),
        }
    }
    found
}

/// A line of a program, `#send` and `#bytes` as the code that they stand for.
fn sent(line: &str) -> String {
    let code = line.trim_start();
    let indent = &line[..line.len() - code.len()];
    let data = match (code.strip_prefix("#send "), code.strip_prefix("#bytes ")) {
        (Some(value), _) => format!("json.dumps({value}).encode()"),
        (_, Some(bytes)) => bytes.to_owned(),
        _ => return format!("{line}\n"),
    };
    [
        "import json, os, struct",
        &format!("b = {data}"),
        "b = struct.pack('>I', len(b)) + b",
        "while b: b = b[os.write(11, b):]",
    ]
    .map(|line| format!("{indent}{line}\n"))
    .concat()
}

/// That no reason changes a terminal or shows a folder of this machine.
fn assert_plain(id: &str, reason: &str) {
    let odd = |c: char| c.is_control() || "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}".contains(c);
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!reason.contains(|c| odd(c) || turns(c)), "{id}: {reason:?}");
    for folder in ["/etc/", "/usr/", "/root/", "/home/", "/lib"] {
        assert!(!reason.contains(folder), "{id}: {reason}");
    }
    assert!(reason.chars().count() < 3000, "{id}");
}

#[test]
fn every_hostile_program_gets_a_verdict_of_its_own_and_none_is_correct() {
    if !python("every_hostile_program_gets_a_verdict_of_its_own_and_none_is_correct") {
        return;
    }
    let place = Place::new();
    let mut pairs = Vec::new();
    for (index, (name, code, tests)) in hostile().iter().enumerate() {
        let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
        let tests = if tests.is_empty() { &TESTS } else { &*tests };
        pairs.push(pair(name, code, tests));
        pairs.push(pair(&format!("honest {index}"), HONEST, &TESTS));
    }
    assert!(pairs.len() > 200, "the suite has shrunk to {}", pairs.len());
    // Most of the long ones sleep.
    for (id, (verdict, reason)) in judged(&place, &pairs, &["--threads", "8"]) {
        let expected = if id.starts_with("honest ") {
            "correct"
        } else {
            "wrong"
        };
        assert_eq!(verdict, expected, "{id}: {reason}");
        assert_plain(&id, &reason);
    }
}

#[test]
fn the_reported_programs_get_their_verdicts() {
    let test = "the_reported_programs_get_their_verdicts";
    if !python(test) {
        return;
    }
    let Some(data) = std::env::var_os("IDIOLECT_DATA") else {
        eprintln!("SKIPPED {test}: IDIOLECT_DATA is not set");
        return;
    };
    let file = std::path::Path::new(&data).join("hostile/candidates.jsonl");
    let rows = std::fs::read_to_string(file).unwrap();
    let mut pairs: Vec<Value> = Vec::new();
    for (index, row) in rows.lines().enumerate() {
        pairs.push(serde_json::from_str(row).unwrap());
        pairs.push(pair(&format!("honest {index}"), HONEST, &TESTS));
    }
    assert!(pairs.len() >= 14);
    let place = Place::new();
    for (id, (verdict, reason)) in judged(&place, &pairs, &[]) {
        let expected = if id.starts_with("honest ") {
            "correct"
        } else {
            "wrong"
        };
        assert_eq!(verdict, expected, "{id}: {reason}");
    }
}

/// A class whose instances, and which itself, answer every operator and protocol as the tests want it.
const YES: &str = "
class Answers(type):
    pass
class Yes(metaclass=Answers):
    x = 2
def true(*a, **k): return True
def same(s, *a, **k): return s
answers = {
    'int': 2, 'float': 2.0, 'index': 2, 'complex': 2 + 0j, 'len': 3, 'bool': True, 'str': '2', 'repr': '2',
    'format': '2', 'bytes': b'2', 'hash': hash(2), 'round': 2, 'abs': 2, 'floor': 2, 'ceil': 2, 'trunc': 2,
    'neg': -2, 'pos': 2, 'invert': -3, 'getitem': 2, 'missing': 2, 'divmod': (1, 0), 'next': 2, 'fspath': '2',
    'length_hint': 1, 'sizeof': 2, 'exit': False, 'copy': 2, 'deepcopy': 2, 'reduce_ex': (int, ('2',)), 'dir': ['x'],
}
for kind in (Yes, Answers):
    for name, value in answers.items():
        setattr(kind, f'__{name}__', lambda *a, value=value, **k: value)
    for name in 'eq ne lt le gt ge contains instancecheck subclasscheck'.split():
        setattr(kind, f'__{name}__', true)
    for name in 'add sub mul truediv floordiv mod pow matmul lshift rshift and or xor'.split():
        for form in (name, 'r' + name, 'i' + name):
            setattr(kind, f'__{form}__', same)
    kind.__iter__ = kind.__reversed__ = lambda *a: iter([2])
    kind.__enter__ = same
";

/// What tests do with a value: each holds for an object that answers as they want it.
const USES: &str = "
v == 2 | 2 == v | v != 3 | not v != 2 | v < 3 | v <= 2 | v > 1 | v >= 2 | 3 > v | 1 < v < 3
v + 0 == 2 | 0 + v == 2 | v - 2 == 0 | 2 - v == 0 | v * 1 == 2 | 1 * v == 2 | v / 1 == 2 | 2 / v == 1
v // 1 == 2 | 2 // v == 1 | v % 7 == 2 | 7 % v == 1 | v ** 1 == 2 | 2 ** v == 4 | v @ v == 4 | v << 1 == 4
1 << v == 4 | v >> 0 == 2 | 8 >> v == 2 | v & 3 == 2 | 3 & v == 2 | v | 0 == 2 | v ^ 0 == 2 | 0 ^ v == 2
-v == -2 | +v == 2 | ~v == -3 | abs(v) == 2 | abs(v - 2.0) < 1e-6 | divmod(v, 2) == (1, 0) | divmod(5, v) == (2, 1)
pow(v, 2) == 4 | round(v) == 2 | round(v, 1) == 2 | int(v) == 2 | float(v) == 2.0 | complex(v) == 2 | bool(v)
v | not not v | v and True | v or False | hash(v) == hash(2) | len(v) == 3 | str(v) == '2' | repr(v) == '2'
f'{v}' == '2' | '%s' % v == '2' | '{}'.format(v) == '2' | format(v) == '2' | bytes(v) == b'2' | ascii(v) == '2'
list(v) == [2] | tuple(v) == (2,) | set(v) == {2} | frozenset(v) == {2} | sorted(v) == [2] | sum(v) == 2
max(v) == 2 | min(v) == 2 | any(v) | all(v) | [*v] == [2] | {*v} == {2} | next(v) == 2 | next(iter(v)) == 2
list(reversed(v)) == [2] | list(enumerate(v)) == [(0, 2)] | list(zip(v, v)) == [(2, 2)] | list(map(int, v)) == [2]
2 in v | 'needle' in v | v in (1, 2) | v in [2] | v in {2} | v in {2: 1} | 2 not in v or True | {2: True}.get(v)
[0, 1, 2][v] == 2 | 'abc'[v] == 'c' | range(5)[v] == 2 | v[0] == 2 | v['x'] == 2 | v[0:2] == 2 | [0, 1, 2, 3][v:] == [2, 3]
math.floor(v) == 2 | math.ceil(v) == 2 | math.trunc(v) == 2 | math.isclose(v, 2.0) | math.sqrt(v) > 1 | math.gcd(v, 4) == 2
isclose(v, 2.0) | np.allclose(v, 2.0) | isinstance(v, int) | not isinstance(v, str) | issubclass(v, int) | isinstance(2, v)
issubclass(int, v) | chr(v) == '\\x02' | hex(v) == '0x2' | 'a' * v == 'aa' | [1] * v == [1, 1] | list(range(v)) == [0, 1]
[v] == [2] | (v,) == (2,) | {'a': v} == {'a': 2} | [2].index(v) == 0 | [2].count(v) == 1 | [1, v] < [1, 3] | max(v, 1) == 2
sorted([v, 1])[0] == 1 | {v: 1} == {2: 1} | {v} == {2} | any(w == 2 for w in [v]) | sum([v, 0]) == 2 | sum(v for v in v) == 2
v.__eq__(2) | v.__len__() == 3 | v.__bool__() | getattr(v, '__float__')() == 2.0 | operator.eq(v, 2) | operator.lt(v, 3)
operator.contains(v, 2) | operator.index(v) == 2 | operator.truth(v) | statistics.mean([v, v]) == 2 | collections.Counter(v) == {2: 1}
collections.Counter([v]) == {2: 1} | copy.copy(v) == 2 | copy.deepcopy(v) == 2 | Fraction(v) == 2 | Decimal(v) == 2
dir(v) == ['x'] | vars(v) == {} | functools.reduce(lambda a, b: a + b, [v, 0]) == 2 | (lambda w: w == 2)(v) | v is v and v == 2
";

/// The same of more than one line.
const STATEMENTS: [&str; 7] = [
    "with v: pass",
    "for w in v: assert w == 2",
    "a, = v\nassert a == 2",
    "w = 2\nw += v\nassert w == 4",
    "if not v: raise AssertionError",
    "while v: break",
    "try: ok = v == 2\nexcept BaseException: ok = True\nassert ok",
];

#[test]
fn no_operator_or_protocol_of_a_returned_object_decides_a_test() {
    if !python("no_operator_or_protocol_of_a_returned_object_decides_a_test") {
        return;
    }
    let uses = USES
        .lines()
        .flat_map(|line| line.split(" | ").map(str::trim));
    // `|` is an operator too.
    let uses = uses.filter(|text| !text.is_empty() && *text != "0 == 2");
    let mut tests: Vec<String> = uses.map(|text| format!("assert {text}")).collect();
    tests.extend(["assert v | 0 == 2", "assert 0 | v == 2"].map(str::to_owned));
    tests.extend(STATEMENTS.map(str::to_owned));
    assert!(tests.len() > 150, "{}", tests.len());
    let mut pairs = Vec::new();
    // Where the object lies, and how a test reaches it.
    for (place, code, value) in [
        ("returned", "def f(x): return Yes()", "f(1)"),
        ("in a list", "def f(x): return [1, Yes()]", "f(1)[1]"),
        (
            "an attribute",
            "class A: y = Yes()\ndef f(x): return A",
            "f(1).y",
        ),
        ("a class", "def f(x): return Yes", "f(1)"),
        ("a constant", "LIMIT = Yes()", "LIMIT"),
    ] {
        for (index, test) in tests.iter().enumerate() {
            let test = format!("v = {value}\n{test}");
            let code = format!("{YES}{code}");
            pairs.push(pair(&format!("{place} {index} {test}"), &code, &[&test]));
        }
    }
    let place = Place::new();
    for (id, (verdict, reason)) in judged(&place, &pairs, &[]) {
        assert_eq!(verdict, "wrong", "{id}: {reason}");
        // The library refuses some of them by their type.
        let refused = reason.contains("` to an object of the code's own")
            || reason.starts_with("its test raises TypeError: ");
        assert!(refused, "{id}: {reason}");
    }
}

#[test]
fn kinds_of_plain_data_count_as_that_data_whatever_they_override() {
    if !python("kinds_of_plain_data_count_as_that_data_whatever_they_override") {
        return;
    }
    let number = "v == 2 | 2 == v | not v != 2 | v > 1 | 1 < v < 3 | v + 0 == 2 | 2 - v == 0 | abs(v) == 2 | round(v) == 2 | int(v) == 2 | float(v) == 2.0 | bool(v) | v | hash(v) == hash(2) | str(v) == '2' | f'{v}' == '2' | v in (1, 2) | v in {2} | -v == -2 | math.isclose(v, 2) | isinstance(v, list)";
    let text = "v == '2' | len(v) == 3 | '2' in v | list(v) == ['2'] | v + '' == '2' | v | bool(v) | str(v) == '2' | v > '1' | v in ('2',) | v in {'2'} | hash(v) == hash('2') | f'{v}' == '2'";
    let items = "len(v) == 3 | 2 in v | list(v) == [2] | v | bool(v) | sum(v) == 2 | sorted(v) == [2] | any(v) | [*v] == [2] | list(map(int, v)) == [2] | max(v) == 2 | str(v) == '2' | v == 2";
    let mut pairs = Vec::new();
    for (kind, uses) in [
        ("int", number),
        ("float", number),
        ("str", text),
        ("list", items),
        ("tuple", items),
        ("set", items),
        ("frozenset", items),
        ("dict", items),
        ("collections.Counter", items),
        ("collections.deque", items),
        ("fractions.Fraction", number),
        ("decimal.Decimal", number),
        (
            "complex",
            "v == 2 | abs(v) == 2 | bool(v) | v | v + 0 == 2 | v in (2,)",
        ),
        (
            "bytes",
            "v == b'2' | len(v) == 3 | list(v) == [50] | v | bool(v) | b'2' in v",
        ),
    ] {
        let code = YES
            .replace(
                "class Yes(metaclass=Answers)",
                &format!("class Yes({kind})"),
            )
            .replace("(Yes, Answers)", "(Yes,)");
        let code = format!(
            "import collections, fractions, decimal\n{code}\nnew = {kind}.__new__\ndef f(x): return new(Yes)"
        );
        for test in uses.split(" | ") {
            let test = format!("v = f(1)\nassert {test}");
            pairs.push(pair(&format!("{kind} {test}"), &code, &[&test]));
        }
    }
    assert!(pairs.len() > 180, "{}", pairs.len());
    let place = Place::new();
    for (id, (verdict, reason)) in judged(&place, &pairs, &[]) {
        assert_eq!(verdict, "wrong", "{id}: {reason}");
    }
}

#[test]
fn what_a_test_may_do_with_objects_of_the_code_still_works() {
    if !python("what_a_test_may_do_with_objects_of_the_code_still_works") {
        return;
    }
    let cases = [
        (
            "methods and attributes",
            "class A:\n    def __init__(s, x): s.x = x\n    def next(s): return A(s.x + 1)\ndef f(x): return A(x)",
            "a = f(1)\na.x = 4\nassert a.next().x == 5 and f(2).x == 2 and hasattr(a, 'x') and not hasattr(a, 'y')",
        ),
        (
            "functions",
            "def f(n): return lambda x: x + n",
            "assert f(1)(2) == 3 and callable(f(1)) and list(map(f(1), [1, 2])) == [2, 3]",
        ),
        (
            "iterators of Python's own",
            "import itertools\ndef f(k):\n    return {'map': map(str, [1, 2]), 'zip': zip([1], [2]), 'chain': itertools.chain([1], [2]), 'list': iter([1, 2]), 'reversed': reversed([1, 2])}[k]",
            "assert list(f('map')) == ['1', '2'] and list(f('zip')) == [(1, 2)] and sum(f('chain')) == 3 and next(f('list')) == 1 and 1 in f('reversed')",
        ),
        (
            "what re found",
            "import re\ndef f(s): return re.search('a+', s)",
            "assert f('baa')\nassert bool(f('a')) and not f('b') and f('baa').group() == 'aa'",
        ),
        (
            "arrays",
            "import array\ndef f(x): return array.array('i', x)",
            "import array\nassert f([1, 2]) == array.array('i', [1, 2]) and list(f([3])) == [3] and len(f([])) == 0",
        ),
        (
            "objects as arguments",
            "class P:\n    def __init__(s, a): s.a = a\ndef f(ps): return max(p.a for p in ps)",
            "p = P(3)\nassert f([p, P(1)]) == 3 and f([p]) == p.a",
        ),
        (
            "a list of objects",
            "class P: pass\ndef f(n): return [P() for _ in range(n)]",
            "assert len(f(3)) == 3 and f(0) == []",
        ),
        (
            "a class under its module's name",
            "from datetime import datetime\ndef f(y): return datetime(y, 1, 2)",
            "assert isinstance(f(2020), datetime) and f(2020) == datetime(2020, 1, 2)",
        ),
        (
            "numpy as the reference has it",
            "def f(x): return x / 3",
            "assert np.allclose(f(1), 0.33333333)",
        ),
    ];
    let pairs: Vec<Value> = cases
        .iter()
        .map(|(id, code, test)| pair(id, code, &[test]))
        .collect();
    let place = Place::new();
    for (id, (verdict, reason)) in judged(&place, &pairs, &[]) {
        assert_eq!(verdict, "correct", "{id}: {reason}");
    }
}

/// Starts as many threads as it gets, up to 600, in one of two ways.
const THREADS: &str = "
import ctypes, platform, threading, time
def library(n):
    started = 0
    threading.stack_size(32768)
    try:
        while started < n:
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
            started += 1
    except RuntimeError: pass
    return started
def kernel(n):
    l = ctypes.CDLL(None)
    l.mmap.restype = ctypes.c_void_p
    p = l.mmap(None, 4096, 7, 0x22, -1, 0)
    # Waits for a signal, for ever.
    ctypes.memmove(p, b'\\xb8\\x22\\0\\0\\0\\x0f\\x05\\xeb\\xf7', 9)
    # Kept: a thread may begin after this function has returned.
    kernel.stack = stack = (ctypes.c_uint64 * 8)(*[p] * 8)
    l.syscall.argtypes = [ctypes.c_long] * 6
    started = 0
    while started < n and l.syscall(56, 0x10f00, ctypes.addressof(stack), 0, 0, 0) >= 0:
        started += 1
    return started
";

#[test]
#[cfg(target_os = "linux")]
fn threads_are_counted_however_they_are_made() {
    if !python("threads_are_counted_however_they_are_made") {
        return;
    }
    let mut pairs = vec![
        pair("few by the library", THREADS, &["assert library(20) == 20"]),
        pair(
            "many by the library",
            THREADS,
            &["assert library(600) == 256"],
        ),
        pair(
            "again",
            THREADS,
            &["assert library(200) == 200", "assert library(200) == 56"],
        ),
    ];
    if cfg!(target_arch = "x86_64") {
        pairs.push(pair("few by a call", THREADS, &["assert kernel(20) == 20"]));
        pairs.push(pair(
            "many by a call",
            THREADS,
            &["assert kernel(600) == 256"],
        ));
    }
    let place = Place::new();
    for (id, (verdict, reason)) in judged(&place, &pairs, &[]) {
        assert_eq!(verdict, "correct", "{id}: {reason}");
    }
}

/// The verdicts on `pairs.jsonl` by a program that the Python code `wrapper` starts.
#[cfg(target_os = "linux")]
fn judged_under(place: &Place, wrapper: &str, more: &[&str]) -> Vec<Value> {
    let ran = Command::new(interpreter())
        .args(["-c", wrapper, env!("CARGO_BIN_EXE_idiolect")])
        .args(["verify", "--task", "mbpp", "--pairs", "pairs.jsonl"])
        .args(["-o", "results.jsonl", "-q", "--overwrite"])
        .args(more)
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    place.lines("results.jsonl")
}

/// Where a program outside has the channel through which the kernel would ask the judge, a candidate
/// gets no thread and everything else.
#[test]
#[cfg(target_os = "linux")]
fn without_a_count_there_are_no_threads() {
    if !python("without_a_count_there_are_no_threads") {
        return;
    }
    let place = Place::new();
    let mut rows = vec![
        pair("honest", HONEST, &TESTS),
        pair("library", THREADS, &["assert library(1) == 0"]),
    ];
    if cfg!(target_arch = "x86_64") {
        rows.push(pair("call", THREADS, &["assert kernel(1) == 0"]));
    }
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    place.write("pairs.jsonl", &rows);
    let wrapper = "
import ctypes, os, platform, struct, sys
number = {'x86_64': 317, 'aarch64': 277}[platform.machine()]
code = struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000)
buffer = ctypes.create_string_buffer(code, len(code))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
program = Program(1, ctypes.addressof(buffer))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
listener = libc.syscall(*[ctypes.c_long(n) for n in (number, 1, 8, ctypes.addressof(program))])
assert listener > 2
os.set_inheritable(listener, True)
os.execv(sys.argv[1], sys.argv[1:])";
    for row in judged_under(&place, wrapper, &[]) {
        assert_eq!(row["verdict"], "correct", "{row}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_descriptor_of_the_caller_reaches_a_candidate() {
    if !python("no_descriptor_of_the_caller_reaches_a_candidate") {
        return;
    }
    let place = Place::new();
    place.write("secret.txt", "the secret of this test");
    let code = "import os\ndef f(fds):\n    found = []\n    for fd in fds:\n        try: os.fstat(fd)\n        except OSError: continue\n        found.append(fd)\n    return found";
    // Its own are 0 to 2 and the two pipes.
    let test = "assert f([*range(2100), 4000]) == [0, 1, 2, 10, 11]";
    let reads = "import os\ndef f(x): return os.pread(2000, 10, 0)";
    let rows = [
        pair("open", code, &[test]),
        pair("read", reads, &["assert f(1) == b'the secret'"]),
    ];
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    place.write("pairs.jsonl", &rows);
    // A caller that has many files open and marks none of them to be closed.
    let wrapper = "
import os, resource, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
fd = os.open('secret.txt', os.O_RDONLY)
for to in [*range(5, 40), 900, 1023, 1024, 1500, 2000, 4000]:
    os.dup2(fd, to, inheritable=True)
os.execv(sys.argv[1], sys.argv[1:])";
    for more in [&[][..], &["--unsafe-no-sandbox"]] {
        let rows = judged_under(&place, wrapper, more);
        let verdicts: BTreeMap<&str, &Value> = rows
            .iter()
            .map(|row| (row["id"].as_str().unwrap(), &row["verdict"]))
            .collect();
        assert_eq!(verdicts["open"], "correct", "{rows:?}");
        assert_eq!(verdicts["read"], "wrong", "{rows:?}");
    }
}

#[test]
fn the_end_of_a_judge_is_told_from_that_of_its_candidate() {
    if !python("the_end_of_a_judge_is_told_from_that_of_its_candidate") {
        return;
    }
    let long = "def f(x): return range(1 << 60)";
    let pairs = [
        pair("the judge", long, &["for i in f(1): pass"]),
        pair("the candidate", "def f(x):\n    while True: pass", &TESTS),
        pair("honest", HONEST, &TESTS),
    ];
    let place = Place::new();
    let judged = judged(&place, &pairs, &[]);
    let expected = [
        (
            "the judge",
            "wrong",
            "its tests used more CPU time than the limit",
        ),
        ("the candidate", "wrong", "used more than 10 s of CPU time"),
        ("honest", "correct", "passes all 2 tests"),
    ];
    for (id, verdict, reason) in expected {
        assert_eq!(judged[id], (verdict.to_owned(), reason.to_owned()), "{id}");
    }
}
