//! MBPP from outside: what the sandbox lets pass, what it stops, and when it refuses to run.
//!
//! These tests need a Python interpreter. Without one they say so and pass; with
//! `IDIOLECT_REQUIRE_PYTHON=1` that is a failure.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::kit::Place;

/// The interpreter that the tests run themselves.
pub(crate) fn interpreter() -> String {
    std::env::var("IDIOLECT_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Whether there is an interpreter to test with.
pub(crate) fn python(test: &str) -> bool {
    let named = interpreter();
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

pub(crate) fn pair(id: &str, code: &str, tests: &[&str]) -> Value {
    pair_with_setup(id, "", code, tests)
}

fn pair_with_setup(id: &str, setup: &str, code: &str, tests: &[&str]) -> Value {
    let answer = format!("```python\n{code}\n```");
    json!({"id": id, "gold": {"tests": tests, "setup": setup}, "answer": answer})
}

/// Verdict and reason of each pair by id.
pub(crate) fn judged(
    place: &Place,
    pairs: &[Value],
    more: &[&str],
) -> BTreeMap<String, (String, String)> {
    let rows: String = pairs.iter().map(|row| format!("{row}\n")).collect();
    place.write("pairs.jsonl", &rows);
    let mut arguments = vec!["verify", "--task", "mbpp", "--pairs", "pairs.jsonl"];
    arguments.extend(["-o", "results.jsonl", "-q"]);
    arguments.extend(more);
    place.done(&arguments);
    verdicts(place, pairs.len())
}

/// Verdict and reason of each row of `results.jsonl` by id.
fn verdicts(place: &Place, rows: usize) -> BTreeMap<String, (String, String)> {
    let results = place.lines("results.jsonl");
    assert_eq!(results.len(), rows);
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

pub(crate) const HONEST: &str = "def f(x):\n    return x + 1";
pub(crate) const TESTS: [&str; 2] = ["assert f(1) == 2", "assert f(5) == 6"];

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

    let (rows, session) = judged_in_session(&place, &pairs);
    for (id, (verdict, reason)) in rows {
        // What returns a value that cannot cross is not judged; it joins no arm.
        let expected = match id.starts_with("honest ") {
            true => "correct",
            false if reason.contains("cannot cross") => "ungraded",
            false => "wrong",
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
    assert_eq!(left_of(session), Vec::<u32>::new());
}

/// Verdict and reason of each pair by id, judged by a program with a session of its own, and the
/// number of that session.
fn judged_in_session(place: &Place, pairs: &[Value]) -> (BTreeMap<String, (String, String)>, u32) {
    let rows: String = pairs.iter().map(|row| format!("{row}\n")).collect();
    place.write("pairs.jsonl", &rows);
    let wrapper = "import os, sys\nos.setsid()\nos.execv(sys.argv[1], sys.argv[1:])";
    let mut running = Command::new(interpreter())
        .args(["-c", wrapper, env!("CARGO_BIN_EXE_idiolect")])
        .args(["verify", "--task", "mbpp", "--pairs", "pairs.jsonl"])
        .args(["-o", "results.jsonl", "-q"])
        .current_dir(place.path(""))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let session = running.id();
    assert!(running.wait().unwrap().success());
    (verdicts(place, pairs.len()), session)
}

/// Processes of a session that run the harness.
fn left_of(session: u32) -> Vec<u32> {
    let is_of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in brackets: state, parent, group, session.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(3) == Some(&session.to_string())
    };
    let pids = harnesses().into_iter().map(|(pid, _)| pid);
    pids.filter(is_of).collect()
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
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n    def doubled(self): return A(2 * self.x)\ndef f(x): return A(x)",
            "assert f(3).x == 3 and f(3).doubled().x == 6",
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
    let unprotected = judged(&place, &pairs, &["--unsafe-no-sandbox", "--overwrite"]);
    assert!(
        unprotected
            .values()
            .all(|(verdict, _)| verdict == "correct"),
        "{unprotected:?}"
    );
    let meta = place.text("results.jsonl.meta.json");
    assert!(meta.contains("unprotected"), "{meta}");
}

/// A class, one that compares, a linked list, and classes that the library makes.
const SETUP: &str = "
import enum
from collections import namedtuple
from dataclasses import dataclass, field

K = 2
class P:
    def __init__(self, a): self.a = a
    def scaled(self): return K * self.a
class Eq(P):
    def __eq__(self, other): return abs(self.a - other.a) < 1e-9
class Slots:
    __slots__ = ('a', 'b')
    def __init__(self, a): self.a = a
class Node:
    def __init__(self, v, next=None): self.v, self.next = v, next
class Stack(list):
    def peek(self): return self[-1]
class Negative(ValueError):
    def __init__(self, code, why): self.code = code; super().__init__(why)
Point = namedtuple('Point', 'x y')
@dataclass(frozen=True)
class D:
    x: int
    y: list = field(default_factory=list)
@dataclass(frozen=True)
class K2:
    a: int = 0
@dataclass
class Group:
    ks: set
class Colour(enum.Enum):
    RED = 1
    BLUE = 'b'
class Bits(enum.Flag):
    A = 1
    B = 2
def linked(xs):
    head = None
    for x in reversed(xs): head = Node(x, head)
    return head
def items(n):
    out = []
    while n: out.append(n.v); n = n.next
    return out
def reference(x): return x + 1
";

#[test]
fn classes_of_the_setup_cross_to_the_code_and_back() {
    if !python("classes_of_the_setup_cross_to_the_code_and_back") {
        return;
    }
    let place = Place::new();
    let right = [
        ("attribute", "def f(p): return p.a", "assert f(P(3)) == 3"),
        (
            "method",
            "def f(p): return p.scaled()",
            "assert f(P(3)) == 6",
        ),
        (
            "result",
            "def f(x): return Eq(x * 2)",
            "assert f(3) == Eq(6) and f(3) != Eq(7) and isinstance(f(1), Eq)",
        ),
        (
            "identity",
            "def f(p): return [p, p]",
            "p = P(1)\na, b = f(p)\nassert a is p and b is p",
        ),
        (
            "change",
            "def f(p):\n    p.a += 1\n    p.new = [p]",
            "p = P(1)\nf(p)\nassert p.a == 2 and p.new[0] is p",
        ),
        (
            "slots",
            "def f(s):\n    s.b = s.a\n    return s",
            "s = Slots(4)\nassert f(s).b == 4 and s.b == 4",
        ),
        (
            "list",
            "def f(ps): return sorted(ps, key=lambda p: p.a)",
            "assert [p.a for p in f([P(3), P(1)])] == [1, 3]",
        ),
        (
            "mapping",
            "def f(d): return {k: v.a for k, v in d.items()}",
            "assert f({'k': P(1)}) == {'k': 1}",
        ),
        (
            "class as a value",
            "def f(k): return k(5).a",
            "assert f(P) == 5",
        ),
        (
            "linked list",
            "def f(n):\n    p = None\n    while n: n.next, p, n = p, n, n.next\n    return p",
            "assert items(f(linked(list(range(3000))))) == list(range(2999, -1, -1))",
        ),
        (
            "a set inside",
            "def f(g): return len(g.ks) + (K2(2) in g.ks)",
            "assert f(Group({K2(1), K2(2)})) == 3",
        ),
        (
            "cycle",
            "def f(n):\n    seen = set()\n    while n and id(n) not in seen: seen.add(id(n)); n = n.next\n    return n is not None",
            "a = linked([1, 2])\na.next.next = a\nassert f(a) and not f(linked([1]))",
        ),
        (
            "list of its own",
            "def f(s):\n    s.append(3)\n    return s.peek()",
            "s = Stack([1])\nassert f(s) == 3 and list(s) == [1, 3]",
        ),
        (
            "named tuple",
            "def f(p): return p._replace(x=p.y)",
            "assert f(Point(1, 2)) == Point(2, 2) and f(Point(1, 2)).x == 2",
        ),
        (
            "data class",
            "def f(d): return D(d.x + 1, d.y + [1])",
            "assert f(D(1)) == D(2, [1])",
        ),
        (
            "its own copy of the class",
            "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int\n    y: list\ndef f(d): return D(d.x + 1, d.y + [1])",
            "assert f(D(1)) == D(2, [1])",
        ),
        (
            "member",
            "def f(c): return Colour.BLUE if c is Colour.RED else c",
            "assert f(Colour.RED) is Colour.BLUE",
        ),
        (
            "flags",
            "def f(b): return b | Bits.B",
            "assert f(Bits.A) == Bits.A | Bits.B",
        ),
        (
            "exception",
            "def f(x): raise Negative(3, 'no')",
            "try:\n    f(-1)\nexcept Negative as error:\n    assert 'no' in str(error)\nelse:\n    assert False",
        ),
        (
            "annotation",
            "def f(p: P) -> 'Point': return Point(p.a, 0)",
            "assert f(P(3)) == (3, 0)",
        ),
    ];
    let wrong = [
        (
            "other value",
            "def f(p): return p.a + 1",
            "assert f(P(3)) == 3",
        ),
        (
            "other result",
            "def f(x): return Eq(x)",
            "assert f(3) == Eq(6)",
        ),
        (
            "always equal inside",
            "class Yes:\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0\n    __rsub__ = __sub__\n    def __abs__(s): return 0\n    def __lt__(s, o): return True\ndef f(x): return Eq(Yes())",
            "assert f(3) == Eq(6)",
        ),
        (
            "method replaced",
            "def f(x):\n    p = P(x)\n    p.scaled = lambda: 99\n    return p",
            "assert f(1).scaled() == 99",
        ),
        (
            "class replaced",
            "class Eq:\n    def __init__(s, a): s.a = 0\n    def __eq__(s, o): return True\ndef f(x): return Eq(x)",
            "assert f(3) == Eq(6)",
        ),
        (
            "setup's function",
            "def f(x): return reference(x)",
            "assert f(1) == reference(1)",
        ),
        (
            "forged instance",
            "import sys\nsys.modules['__main__'].encode = lambda x, o: {'instance': 99}\ndef f(x): return 1",
            "assert f(P(1)) == 1",
        ),
        (
            "forged state",
            "import sys\nsys.modules['__main__'].SHARED.encode = lambda x, o: {'value': True, 'instances': [[-1, 'P', [None, None], [['scaled', True]]]]}\ndef f(x): return 1",
            "assert f(P(1))",
        ),
        (
            "forged class",
            "import sys\nsys.modules['__main__'].SHARED.encode = lambda x, o: {'value': True, 'instances': [[1, 'D', [None, None], []]]}\ndef f(x): return 1",
            "assert f(P(1))",
        ),
    ];
    let ungraded = [(
        "class of the tests",
        "def f(q): return q.a",
        "class Q:\n    a = 1\nassert f(Q()) == 1",
    )];
    let mut pairs = Vec::new();
    for cases in [&right[..], &wrong, &ungraded] {
        pairs.extend(
            cases
                .iter()
                .map(|(id, code, test)| pair_with_setup(id, SETUP, code, &[test])),
        );
    }
    let built = "from collections import deque\nclass Q(deque): pass";
    pairs.push(pair_with_setup(
        "no plain data",
        built,
        "def f(q): return len(q)",
        &["assert f(Q([1])) == 1"],
    ));
    let built = "class Sub(Base): pass";
    let base = "class Base:\n    def __init__(self, a): self.a = a\ndef f(s): return s.a";
    pairs.push(pair_with_setup(
        "builds on the code's",
        built,
        base,
        &["assert f(Sub(2)) == 2"],
    ));
    for (id, (verdict, reason)) in judged(&place, &pairs, &[]) {
        let is = |cases: &[(&str, &str, &str)]| cases.iter().any(|(name, ..)| *name == id);
        let expected = match () {
            () if is(&right) => "correct",
            () if is(&wrong) => "wrong",
            () => "ungraded",
        };
        assert_eq!(verdict, expected, "{id}: {reason}");
        assert!(!reason.is_empty(), "{id}");
    }
}

#[test]
fn a_module_that_is_missing_here_leaves_the_code_ungraded() {
    if !python("a_module_that_is_missing_here_leaves_the_code_ungraded") {
        return;
    }
    let place = Place::new();
    // No registry has packages of these names, so none is installed by chance.
    let cases = [
        (
            "as",
            "import no_such_pkg as np\ndef f(x): return 2",
            "ungraded",
        ),
        (
            "from",
            "from no_such_pkg.linear import solve\ndef f(x): return 2",
            "ungraded",
        ),
        (
            "listed",
            "import os, no_such_pkg.stats as st\ndef f(x): return 2",
            "ungraded",
        ),
        (
            "when called",
            "def f(x):\n    import no_such_pkg\n    return 2",
            "ungraded",
        ),
        (
            "by name",
            "import importlib\nnp = importlib.import_module('no_such_pkg')\ndef f(x): return 2",
            "ungraded",
        ),
        (
            "guarded",
            "try:\n    import no_such_pkg\nexcept ImportError:\n    no_such_pkg = None\ndef f(x): return x + 1",
            "correct",
        ),
        (
            "raised by hand",
            "raise ModuleNotFoundError('no', name='no_such_pkg')",
            "wrong",
        ),
        ("a file of its own", "from solution import f", "wrong"),
        ("a file named as the function", "from f import f", "wrong"),
        ("relative", "from .helpers import f", "wrong"),
        (
            "no part of a module",
            "import os.no_such_part\ndef f(x): return x + 1",
            "wrong",
        ),
        (
            "no name of a module",
            "from math import no_such_name\ndef f(x): return x + 1",
            "wrong",
        ),
        (
            "forged",
            "import sys, math\nsys.modules['__main__'].described = lambda e: ['error', 'ModuleNotFoundError', 'no', 1, 'math']\ndef f(x): raise ValueError",
            "wrong",
        ),
    ];
    let pairs: Vec<Value> = cases
        .iter()
        .map(|(id, code, _)| pair(id, code, &TESTS))
        .collect();
    let judged = judged(&place, &pairs, &[]);
    for (id, _, expected) in cases {
        let (verdict, reason) = &judged[id];
        assert_eq!(verdict, expected, "{id}: {reason}");
        if expected == "ungraded" {
            assert!(
                reason.contains("`no_such_pkg`, which is not installed here"),
                "{id}: {reason}"
            );
        }
    }
}

#[test]
fn names_of_the_library_stay_the_librarys_unless_they_are_what_is_tested() {
    if !python("names_of_the_library_stay_the_librarys_unless_they_are_what_is_tested") {
        return;
    }
    let place = Place::new();
    let cases = [
        (
            "builtins as values",
            "def f(g, x): return g(x)",
            "assert f(len, [1]) == 1 and f(int, '3') == 3 and f(str.upper, 'a') == 'A'",
            "correct",
        ),
        (
            "iterators of builtins",
            "def f(g, x): return g(x)",
            "assert list(f(enumerate, 'a')) == [(0, 'a')] and list(f(reversed, [1, 2])) == [2, 1]",
            "correct",
        ),
        (
            "its own builtin as a value",
            "def sum(a, b): return a * b\ndef f(g, a, b): return g(a, b)",
            "assert f(sum, 3, 4) == 12",
            "correct",
        ),
        (
            "its own builtin in a list",
            "def max(a): return -1\ndef f(gs, a): return [g(a) for g in gs]",
            "assert f([max, min], a=[1, 2]) == [-1, 1]",
            "correct",
        ),
        (
            "mapped",
            "def sum(a, b): return a * b",
            "assert list(map(sum, [1, 2], [3, 4])) == [3, 8]",
            "correct",
        ),
        (
            "around a map",
            "def sum(xs): return 7",
            "assert sum(map(int, ['1', '2'])) == 7",
            "correct",
        ),
        (
            "a wrapper of its own",
            "def int(x): return 7",
            "assert sum(map(int, ['1', '2'])) == 14",
            "wrong",
        ),
        (
            "a builtin as the result",
            "def f(n): return {'max': max}[n]",
            "assert f('max') is max and f('max')([1, 2]) == 2",
            "correct",
        ),
        (
            "an exception as a value",
            "def f(e): raise e('x')",
            "try:\n    f(KeyError)\nexcept KeyError:\n    pass",
            "correct",
        ),
        (
            "an iterator",
            "def f(it): return [next(it), *it]",
            "assert f(i for i in range(3)) == [0, 1, 2] and f(iter([1])) == [1]",
            "correct",
        ),
        (
            "a function of the tests",
            "def f(g): return g",
            "h = lambda: 1\nassert f(h) is h and f(h)() == 1",
            "correct",
        ),
        (
            "a generator's items",
            "def f(n):\n    yield from range(n)",
            "assert 3 in f(5) and 7 not in f(5)",
            "correct",
        ),
        (
            "a named argument that changes",
            "def f(xs): xs.append(1)",
            "a = []\nf(xs=a)\nassert a == [1]",
            "correct",
        ),
        (
            "Counter leans on the reference",
            "def f(x): return list(x)",
            "assert Counter(f('aab')) == Counter('aba')",
            "correct",
        ),
        (
            "its own Counter",
            "def f(x): return list(x)\ndef Counter(x): return 0",
            "assert Counter(f('aab')) == Counter('abb')",
            "wrong",
        ),
        (
            "its own math",
            "class math:\n    isclose = staticmethod(lambda *a, **k: True)\ndef f(x): return 0",
            "assert math.isclose(f(1), 2.0, rel_tol=1e-3)",
            "wrong",
        ),
    ];
    let pairs: Vec<Value> = cases
        .iter()
        .map(|(id, code, test, _)| pair(id, code, &[test]))
        .collect();
    let judged = judged(&place, &pairs, &[]);
    for (id, _, _, expected) in cases {
        let (verdict, reason) = &judged[id];
        assert_eq!(verdict, expected, "{id}: {reason}");
    }
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
    Command::new(interpreter())
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
fn a_rewritten_program_is_held_to_its_tests() {
    if !python("a_rewritten_program_is_held_to_its_tests") {
        return;
    }
    let place = Place::new();
    let row = |n: usize, name: &str| {
        let code = format!("def {name}(x):\n    y = x + {n}\n    return y");
        let tests = json!([
            format!("assert {name}(1) == {}", n + 1),
            format!("assert {name}(5) == {}", n + 5)
        ]);
        let row = json!({"task_id": n, "text": format!("Add {n} to x, as {name}."), "code": code, "test_list": tests});
        format!("{row}\n")
    };
    place.write(
        "raw.jsonl",
        &(row(1, "one") + &row(2, "two") + &row(3, "three")),
    );
    place.done(&[
        "import",
        "mbpp",
        "raw.jsonl",
        "--split",
        "train",
        "-o",
        "p.jsonl",
        "--traces",
        "h.jsonl",
        "-q",
    ]);
    // Other names, no `y` and no 1; the second does something else; the third has no program.
    let answer = |contains: &str, text: &str| json!({"contains": contains, "completions": [text]});
    let script = [
        answer(
            "as one",
            "```python\ndef one(value):\n    \"\"\"The next number.\"\"\"\n    return value - -True\n```",
        ),
        answer(
            "as two",
            "```python\ndef two(value):\n    return value + 1\n```",
        ),
        answer("as three", "I cannot."),
    ];
    place.write("s.jsonl", &script.map(|row| format!("{row}\n")).concat());
    place.done(&[
        "paraphrase",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "--traces",
        "h.jsonl",
        "-o",
        "r.jsonl",
        "-q",
    ]);
    let faults: Vec<String> = place
        .lines("r.jsonl")
        .iter()
        .map(|row| {
            row["origin"]["ops"][0]["reason"]
                .as_str()
                .unwrap_or("none")
                .to_owned()
        })
        .collect();
    assert_eq!(faults.len(), 3);
    assert_eq!(faults[0], "none");
    assert!(
        faults[1].starts_with("the rewritten program: ") && faults[1].contains("test 1"),
        "{faults:?}"
    );
    assert!(
        faults[2].starts_with("the rewritten program: "),
        "{faults:?}"
    );
    let meta: Value = serde_json::from_str(&place.text("r.jsonl.meta.json")).unwrap();
    assert!(meta["versions"]["code"].is_string(), "{meta}");
    for traces in ["h", "r"] {
        let (t, v) = (format!("{traces}.jsonl"), format!("v{traces}.jsonl"));
        place.done(&[
            "verify",
            "--problems",
            "p.jsonl",
            "--traces",
            &t,
            "-o",
            &v,
            "-q",
        ]);
    }
    let ran = place.run(&[
        "arms",
        "--problems",
        "p.jsonl",
        "--traces",
        "h.jsonl",
        "--traces",
        "r.jsonl",
        "--verdicts",
        "vh.jsonl",
        "--verdicts",
        "vr.jsonl",
        "--arm",
        "P=P",
        "-o",
        "arms",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(place.count("arms/P.jsonl"), 1);
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
            "import",
            "mbpp",
            file,
            "-o",
            "p.jsonl",
            "--traces",
            "h.jsonl",
            "--overwrite",
            "-q",
        ]);
        place.done(&[
            "verify",
            "--problems",
            "p.jsonl",
            "--traces",
            "h.jsonl",
            "-o",
            "v.jsonl",
            "--overwrite",
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
