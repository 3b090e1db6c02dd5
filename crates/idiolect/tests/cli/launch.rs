//! Programs that idiolect starts, through the library: what is left of them in the end.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use idiolect::interrupt::Stop;
use idiolect::launch::{End, Launch, Process};
use idiolect::stage::StageError;

use crate::kit::Place;

/// A shell script as a program to start.
fn script(place: &Place, text: &str) -> Launch {
    let words = ["sh", "-c", text].map(str::to_owned).to_vec();
    Launch {
        directory: Some(place.path("")),
        grace: Duration::from_millis(300),
        guard: Some(PathBuf::from(env!("CARGO_BIN_EXE_idiolect"))),
        ..Launch::new(words, &place.path("program.log"))
    }
}

fn start(place: &Place, text: &str) -> Process {
    Process::start(&script(place, text)).unwrap_or_else(|why| panic!("{text}: {why}"))
}

/// A line that a script wrote to a file, waited for.
fn written(place: &Place, name: &str) -> i32 {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(place.path(name)).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().parse().unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    if cfg!(target_os = "linux") {
        return stat.is_ok_and(|stat| !stat.contains(") Z "));
    }
    let sent = Command::new("kill").args(["-0", &pid.to_string()]).status();
    sent.unwrap().success()
}

/// Waits for a process to be gone.
pub(crate) fn ends(pid: i32) {
    let begun = Instant::now();
    while is_alive(pid) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{pid} lives");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kill(pid: i32) {
    let sent = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

fn wait(process: &mut Process) -> Result<End, StageError> {
    process.wait(&Stop::default(), &mut |_| Ok(()))
}

#[test]
fn a_program_ends_with_its_code_or_signal_and_its_log() {
    let place = Place::new();
    let text = "echo out; echo error >&2; echo $VALUE; cat; exit 3";
    let mut launch = script(&place, text);
    launch.environment = vec![("VALUE".to_owned(), "a value".to_owned())];
    let mut process = Process::start(&launch).unwrap();
    let mut from = 0;
    let mut lines = Vec::new();
    let end = process.wait(&Stop::default(), &mut |log| {
        lines.extend(log.lines(&mut from).unwrap());
        Ok(())
    });
    assert_eq!(end.unwrap(), End::Exited(3));
    assert_eq!(lines, ["out", "error", "a value"]);
    assert!(process.log().tail(2).ends_with("| error\n  | a value"));
    let mut killed = start(&place, "kill -9 $$");
    assert_eq!(wait(&mut killed).unwrap(), End::Killed(9));
    assert!(killed.log().tail(9).contains("wrote nothing"));
    assert_eq!(place.text("program.log"), "out\nerror\na value\n");
    assert!(wait(&mut start(&place, "exit 0")).unwrap().is_success());
}

#[test]
fn a_program_that_is_not_there_is_an_error_in_words() {
    let place = Place::new();
    let mut launch = script(&place, "");
    launch.words = vec!["no-such-program".to_owned()];
    let error = Process::start(&launch).unwrap_err();
    assert!(
        error.contains("cannot start `no-such-program`: No such file"),
        "{error}"
    );
    launch.log = place.path("file/program.log");
    place.write("file", "");
    let error = Process::start(&launch).unwrap_err();
    assert!(error.contains("cannot write the log"), "{error}");
}

#[test]
fn stopping_asks_first_and_kills_what_does_not_listen() {
    let place = Place::new();
    let polite = "trap 'echo bye; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done";
    let mut process = start(&place, polite);
    assert_eq!(written(&place, "pid"), process.id());
    process.stop();
    assert_eq!(process.poll(), Some(End::Exited(0)));
    assert!(process.log().tail(9).ends_with("| bye"));
    let deaf = "trap '' TERM; echo $$ > deaf; while :; do sleep 0.05; done";
    let mut process = start(&place, deaf);
    let pid = written(&place, "deaf");
    process.stop();
    assert_eq!(process.poll(), Some(End::Killed(9)));
    assert!(!is_alive(pid));
}

#[test]
fn what_a_program_started_ends_with_it() {
    let place = Place::new();
    let child = "trap '' TERM; echo $$ > child; while :; do sleep 0.05; done";
    place.write("child.sh", child);
    // In the background, its parent gone before it.
    let mut process = start(
        &place,
        "sh child.sh & while ! [ -s child ]; do sleep 0.02; done; exit 4",
    );
    let pid = written(&place, "child");
    assert_eq!(wait(&mut process).unwrap(), End::Exited(4));
    assert!(!is_alive(pid), "a child outlives its program");
    if cfg!(target_os = "linux") {
        std::fs::remove_file(place.path("child")).unwrap();
        // In a session of its own, as torchrun starts its workers.
        let mut process = start(&place, "setsid sh child.sh & wait");
        let pid = written(&place, "child");
        assert!(is_alive(pid));
        process.stop();
        assert!(!is_alive(pid), "a session of its own outlives its program");
    }
}

#[test]
fn ctrl_c_and_an_error_of_the_caller_end_it() {
    let place = Place::new();
    let text = "echo $$ > pid; while :; do sleep 0.05; done";
    let mut process = start(&place, text);
    let pid = written(&place, "pid");
    let stop = Stop::default();
    stop.request();
    let ended = process.wait(&stop, &mut |_| Ok(()));
    assert!(matches!(ended, Err(StageError::Interrupted)));
    assert!(!is_alive(pid));
    std::fs::remove_file(place.path("pid")).unwrap();
    let mut process = start(&place, text);
    let pid = written(&place, "pid");
    let ended = process.wait(&Stop::default(), &mut |_| Err(StageError::failed("no", "")));
    assert_eq!(ended.unwrap_err().to_string(), "no");
    assert!(!is_alive(pid));
}

#[test]
fn dropping_a_process_ends_it() {
    let place = Place::new();
    let process = start(&place, "echo $$ > pid; while :; do sleep 0.05; done");
    let pid = written(&place, "pid");
    drop(process);
    assert!(!is_alive(pid));
}

/// Of a guard that is killed: the kernel ends the program, this process its group.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_guard_takes_its_program_along() {
    let place = Place::new();
    let child = "echo $$ > child; while :; do sleep 0.05; done";
    place.write("child.sh", child);
    let mut process = start(&place, "echo $PPID > guard; sh child.sh & wait");
    let (guard, child) = (written(&place, "guard"), written(&place, "child"));
    kill(guard);
    assert_eq!(wait(&mut process).unwrap(), End::Lost);
    ends(process.id());
    ends(child);
}
