//! `idiolect run --on`: the seconds-long recipe on a Slurm of shell scripts (`slurm/`) and on a Ray
//! of this process, and everything that can end in between.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Place, Ran};
use crate::run::differing;
use crate::web::{Answer, Web, document};

/// Three shards of the samples, four arms, two seeds.
const SETTINGS: [&str; 4] = [
    "arms.names=[\"H\",\"G\",\"W\",\"P\"]",
    "execute.rows_per_shard=130",
    "execute.poll_s=0.1",
    "execute.tasks=3",
];

/// A folder with a Slurm of scripts.
struct Slurm {
    place: Place,
}

impl Slurm {
    fn new() -> Self {
        let place = Place::new();
        std::fs::create_dir_all(place.path("slurm")).unwrap();
        Self { place }
    }

    /// A run whose commands of Slurm are those of `slurm/`.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = self.place.command(&arguments("r", "slurm", more));
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/slurm");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{scripts}:{path}"))
            .env("FAKE_SLURM", self.place.path("slurm"));
        command
    }

    fn run(&self, more: &[&str]) -> Ran {
        ran(self.command(more))
    }

    fn start(&self, more: &[&str]) -> Child {
        let log = std::fs::File::create(self.place.path("stderr")).unwrap();
        let mut command = self.command(more);
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// What a started run has written so far.
    fn told(&self) -> String {
        self.place.text("stderr")
    }

    /// A command about the run with the same Slurm.
    fn about(&self, arguments: &[&str]) -> Ran {
        let run = self.command(&[]);
        let mut command = self.place.command(arguments);
        command.envs(
            run.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        ran(command)
    }

    /// Tells the scripts to misbehave.
    fn switch(&self, name: &str, text: &str) {
        self.place.write(&format!("slurm/{name}"), text);
    }

    fn unswitch(&self, name: &str) {
        std::fs::remove_file(self.place.path("slurm").join(name)).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        self.place.path("slurm").join(name).exists()
    }

    /// Name and state of every task that was ever submitted.
    fn tasks(&self) -> Vec<(String, String)> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.place.path("slurm"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("state").exists())
            .collect();
        paths.sort();
        let text = |path: &PathBuf, name: &str| {
            std::fs::read_to_string(path.join(name))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        paths
            .iter()
            .map(|path| (text(path, "name"), text(path, "state")))
            .collect()
    }

    /// How often a group was submitted.
    fn submissions(&self, group: &str) -> usize {
        let names = self.tasks().into_iter().map(|(name, _)| name);
        let names: std::collections::BTreeSet<String> =
            names.filter(|name| name.contains(group)).collect();
        names.len()
    }

    fn wait_for(&self, what: impl Fn(&Self) -> bool) {
        while !what(self) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn arguments<'a>(out: &'a str, on: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["run", "tiny", "--out", out, "--on", on, "--threads", "2"];
    all.extend(settings());
    all.extend(more);
    all
}

fn settings() -> Vec<&'static str> {
    SETTINGS.iter().flat_map(|set| ["--set", *set]).collect()
}

fn ran(mut command: Command) -> Ran {
    let ended = command.output().unwrap();
    Ran {
        code: ended.status.code().unwrap_or(-1),
        out: String::from_utf8(ended.stdout).unwrap(),
        err: String::from_utf8(ended.stderr).unwrap(),
    }
}

/// How often each job began, in whatever process.
fn begun(place: &Place, run: &str) -> BTreeMap<String, usize> {
    let mut files = vec![place.path(run).join("events.jsonl")];
    let of_tasks = std::fs::read_dir(place.path(run).join("cluster/events"));
    files.extend(of_tasks.unwrap().map(|entry| entry.unwrap().path()));
    let mut times = BTreeMap::new();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            if event["event"] == "begin" {
                *times
                    .entry(event["job"].as_str().unwrap().to_owned())
                    .or_insert(0) += 1;
            }
        }
    }
    times
}

/// The run of this machine alone.
fn local(place: &Place) {
    place.copy_run("local", &settings());
}

/// Both: that run, and its beginning as what the cluster goes on with. Pretraining is most of its work.
fn local_and_begun(place: &Place) {
    local(place);
    let begun = [&settings()[..], &["--until", "pretrain"]].concat();
    place.copy_run("r", &begun);
}

fn assert_whole(place: &Place) {
    let none: Vec<String> = Vec::new();
    assert_eq!(differing(place, "local", "r"), none);
}

#[test]
fn slurm_gives_the_bytes_of_a_local_run_each_job_begun_once() {
    let slurm = Slurm::new();
    local(&slurm.place);
    let ran = slurm.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_whole(&slurm.place);
    let begun = begun(&slurm.place, "r");
    assert!(begun.values().all(|times| *times == 1), "{begun:?}");
    let shards = begun.keys().filter(|id| id.contains("r0/generate/shard"));
    assert_eq!(shards.count(), 3);
    let trained = begun.keys().filter(|id| id.ends_with("/train"));
    assert_eq!(trained.count(), 8);
    // Few submissions, of at most three tasks each, and the accuracy at the end.
    assert!(
        slurm
            .tasks()
            .iter()
            .all(|(_, state)| state.starts_with("COMPLETED"))
    );
    let words = |id: usize| slurm.place.text(&format!("slurm/array-{id}/words"));
    assert!(words(1).contains("--array=0-") && !words(1).contains("--array=0-3"));
    assert_eq!(slurm.submissions("-train-"), 1);
    assert!(
        ran.err.contains("job(s) in 3 task(s), each 1 CPU"),
        "{}",
        ran.err
    );
    assert!(ran.out.contains("base"), "{}", ran.out);

    let status = slurm.about(&["status", "r"]);
    assert!(
        !status.out.contains("submitted") && !status.out.contains("running"),
        "{}",
        status.out
    );
    // Nothing is left to submit.
    let before = slurm.tasks().len();
    assert_eq!(slurm.run(&["-q"]).code, 0);
    assert_eq!(slurm.tasks().len(), before);
}

#[test]
fn a_submitter_that_is_killed_leaves_its_jobs_to_the_next() {
    let slurm = Slurm::new();
    local_and_begun(&slurm.place);
    slurm.switch("pending", "Resources");
    let mut first = slurm.start(&[]);
    slurm.wait_for(|slurm| slurm.told().contains(" waiting, "));
    first.kill().unwrap();
    first.wait().unwrap();
    let submitted = slurm.tasks().len();

    // Anyone who sees the directory sees where the jobs are, also without Slurm's commands.
    let status = slurm.about(&["status", "r"]);
    assert!(
        status.out.contains("submitted  tiny/r0/")
            && status.out.contains("slurm 1_0 PENDING (Resources)"),
        "{}",
        status.out
    );
    let elsewhere = slurm.place.run(&["jobs", "r", "--json"]);
    let jobs: Value = serde_json::from_str(&elsewhere.out).unwrap();
    let of = |state: &str| {
        jobs["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|job| job["state"] == state)
            .count()
    };
    assert!(of("submitted") > 0, "{}", elsewhere.err);
    // It is not done here beside the cluster.
    let mut here = slurm.place.command(&arguments("r", "local", &["-q"]));
    here.envs(
        slurm
            .command(&[])
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let here = ran(here);
    assert_eq!(here.code, 1, "{}", here.err);
    assert!(
        here.err.contains("continue with --on slurm"),
        "{}",
        here.err
    );

    slurm.unswitch("pending");
    let second = slurm.run(&[]);
    assert_eq!(second.code, 0, "{}", second.err);
    assert_whole(&slurm.place);
    assert_eq!(
        slurm.tasks().len(),
        submitted,
        "what was submitted is taken over"
    );
    assert!(begun(&slurm.place, "r").values().all(|times| *times == 1));
}

#[test]
fn a_detached_run_needs_nobody_until_its_report() {
    let slurm = Slurm::new();
    local_and_begun(&slurm.place);
    let ran = slurm.run(&["--detach"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.contains("`idiolect status r` shows it"),
        "{}",
        ran.out
    );
    slurm.wait_for(|slurm| {
        slurm
            .tasks()
            .iter()
            .all(|(_, state)| state.starts_with("COMPLETED"))
    });
    let submitted = slurm.tasks().len();
    let ran = slurm.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_whole(&slurm.place);
    assert_eq!(slurm.tasks().len(), submitted);
    let ran = slurm.place.run(&arguments("other", "local", &["--detach"]));
    assert_eq!(ran.code, 2, "{}", ran.err);
}

#[test]
fn an_array_is_submitted_once_whatever_sbatch_answers() {
    let slurm = Slurm::new();
    local_and_begun(&slurm.place);
    // Killed while sbatch, which has submitted, gives no answer.
    slurm.switch("silent", "");
    let mut first = slurm.start(&[]);
    slurm.wait_for(|slurm| slurm.has("silenced"));
    first.kill().unwrap();
    first.wait().unwrap();
    let silent = slurm.place.text("slurm/silenced");
    assert!(
        Command::new("kill")
            .arg(silent.trim())
            .status()
            .unwrap()
            .success()
    );
    // The next sbatch submits and states that it did not.
    slurm.switch("lie", "");
    let second = slurm.run(&[]);
    assert_eq!(second.code, 0, "{}", second.err);
    assert!(second.err.contains("Socket timed out"), "{}", second.err);
    assert_whole(&slurm.place);
    let begun = begun(&slurm.place, "r");
    assert!(begun.values().all(|times| *times == 1), "{begun:?}");
}

#[test]
fn a_lost_worker_is_replaced_and_what_waited_for_it_comes_after() {
    let slurm = Slurm::new();
    local(&slurm.place);
    slurm.switch("kill", "train");
    slurm.switch("lose", "pretrain");
    let ran = slurm.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for words in [
        "NODE_FAIL (NodeDown)",
        "RaisedSignal:9(Killed)",
        "submitted again (1 of 2)",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert_whole(&slurm.place);
    let states = slurm.tasks();
    let never = states
        .iter()
        .filter(|(_, state)| state.contains("DependencyNeverSatisfied"));
    assert!(never.count() > 0, "{states:?}");
}

#[test]
fn a_worker_that_is_lost_again_and_again_fails_its_job_and_what_reads_from_it() {
    let slurm = Slurm::new();
    local_and_begun(&slurm.place);
    // No node sees the program.
    let ran = slurm.run(&[
        "--set",
        "execute.program=/no/such/idiolect",
        "--set",
        "execute.retries=1",
    ]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for words in [
        "its worker was lost 2 time(s)",
        "has no program /no/such/idiolect",
        "read what they write",
        "the logs are in r/cluster/logs",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let status = slurm.about(&["status", "r", "--json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert!(
        status["failed"][0]["message"]
            .as_str()
            .unwrap()
            .contains("was lost 2 time(s)")
    );
    // Corrected, the same run goes on.
    assert_eq!(slurm.run(&["-q"]).code, 0);
    assert_whole(&slurm.place);
}

#[test]
fn a_job_that_fails_of_itself_is_not_tried_again_and_its_reason_is_shown() {
    let slurm = Slurm::new();
    local_and_begun(&slurm.place);
    // Rows of someone else where the rewritings go.
    let journal = "r/data/r0/parts/paraphrased.jsonl.part";
    slurm.place.write(journal, "not ours\n");
    let ran = slurm.run(&[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for words in ["paraphrased.jsonl", "(slurm ", "read what they write"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert_eq!(slurm.submissions("paraphrase"), 1, "{:?}", slurm.tasks());
    let status = slurm.about(&["status", "r"]);
    assert!(
        status.out.contains("failed  tiny/r0/paraphrase: "),
        "{}",
        status.out
    );
    // What does not read from it is done, and the rest follows once the cause is gone.
    assert!(
        slurm
            .place
            .path("r/students/student/r0/eval/base/0/greedy.jsonl")
            .exists()
    );
    std::fs::remove_file(slurm.place.path(journal)).unwrap();
    assert_eq!(slurm.run(&["-q"]).code, 0);
    assert_whole(&slurm.place);
}

#[test]
fn a_queue_that_cannot_be_asked_is_asked_again_and_nothing_is_submitted_meanwhile() {
    let slurm = Slurm::new();
    local_and_begun(&slurm.place);
    slurm.switch("pending", "Priority");
    let mut child = slurm.start(&[]);
    slurm.wait_for(|slurm| slurm.told().contains(" waiting, "));
    slurm.switch("down", "");
    let submitted = slurm.tasks().len();
    slurm.wait_for(|slurm| slurm.has("asked"));
    slurm.unswitch("pending");
    slurm.unswitch("asked");
    slurm.wait_for(|slurm| slurm.has("asked"));
    assert_eq!(slurm.tasks().len(), submitted);
    slurm.unswitch("down");
    assert!(
        child.wait().unwrap().success(),
        "{}",
        slurm.place.text("stderr")
    );
    let told = slurm.place.text("stderr");
    assert!(
        told.contains("slurm does not answer (squeue: ") && told.contains("Unable to contact"),
        "{told}"
    );
    assert_whole(&slurm.place);
}

#[test]
fn what_is_too_large_is_stated_and_ctrl_c_cancels_everything() {
    let slurm = Slurm::new();
    local_and_begun(&slurm.place);
    slurm.switch("refuse", "Requested node configuration is not available");
    let ran = slurm.run(&["--set", "execute.resources.default.cpus=4096"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for words in [
        "slurm refuses what its stage asks for (4096 CPU)",
        "Requested node configuration",
        "execute.resources",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    slurm.unswitch("refuse");

    slurm.switch("pending", "PartitionConfig");
    let mut child = slurm.start(&[]);
    slurm.wait_for(|slurm| slurm.told().contains("waits for ever"));
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        slurm.told().contains("cancelled") && slurm.told().contains("the same command continues")
    );
    let states = slurm.tasks();
    assert!(
        states
            .iter()
            .all(|(_, state)| state.starts_with("CANCELLED")),
        "{states:?}"
    );
    slurm.unswitch("pending");
    assert_eq!(slurm.run(&["-q"]).code, 0);
    assert_whole(&slurm.place);
}

#[test]
fn a_dry_run_shows_what_would_be_submitted_and_touches_nothing() {
    let slurm = Slurm::new();
    let more = [
        "--dry-run",
        "--set",
        "execute.resources.default.memory=2G",
        "--set",
        "execute.resources.train.gpus=1",
        "--set",
        "execute.resources.train.time=4:00:00",
        "--set",
        "execute.resources.train.sbatch=[\"--constraint=it's\"]",
    ];
    let ran = slurm.run(&more);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for words in [
        "on slurm, in this order",
        "--gres=gpu:1 --mem=2048M --time=4:00:00 '--constraint=it'\\''s'",
        "in this process",
        "job \"$run\" --task idiolect-RUN-",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    assert!(!slurm.place.path("r").exists());
    let ran = slurm.run(&[&more[..], &["--json"]].concat());
    let plan: Value = serde_json::from_str(&ran.out).unwrap();
    let submissions = plan["submissions"].as_array().unwrap();
    let train = submissions
        .iter()
        .find(|one| one["group"].as_str().unwrap().ends_with("-train"))
        .unwrap();
    assert_eq!(
        (
            train["jobs"].as_u64(),
            train["tasks"].as_array().unwrap().len()
        ),
        (Some(8), 3)
    );
    // Every script is one that a shell can read.
    for script in submissions.iter().filter_map(|one| one["script"].as_str()) {
        slurm.place.write("script", script);
        let read = Command::new("sh")
            .arg("-n")
            .arg(slurm.place.path("script"))
            .status()
            .unwrap();
        assert!(read.success(), "{script}");
    }
    for (set, words) in [
        (
            "execute.on=moon",
            "expected local, slurm or ray://HOST:PORT",
        ),
        ("execute.resources.lunch.cpus=1", "there is no such stage"),
        ("execute.resources.train.memory=lots", "as \"64G\""),
        (
            "execute.resources.train.sbatch=[\"--array=1\"]",
            "which idiolect sets itself",
        ),
        ("execute.resources.train.cpu=1", "the nearest is `cpus`"),
        ("execute.local=[\"lunch\"]", "has no stage `lunch`"),
        ("execute.tasks=0", "from 1 to 1000"),
    ] {
        let ran = slurm.run(&["--dry-run", "--set", set]);
        assert_eq!(ran.code, 2, "{set}: {}", ran.err);
        assert!(ran.err.contains(words), "{set}: {}", ran.err);
    }
}

/// The head of a Ray cluster, whose jobs are processes of this machine.
struct Ray {
    web: Web,
    jobs: Arc<Mutex<BTreeMap<String, Value>>>,
    down: Arc<AtomicBool>,
}

impl Ray {
    /// With nodes of `cpus` cores each; the first job whose id holds `kill` is killed.
    fn start(cpus: u64, kill: &'static str) -> Self {
        let jobs: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
        let down = Arc::new(AtomicBool::new(false));
        let killed = AtomicBool::new(kill.is_empty());
        let (known, is_down) = (Arc::clone(&jobs), Arc::clone(&down));
        let web = Web::start(move |request| -> Answer {
            if is_down.load(Ordering::SeqCst) {
                return (502, String::new(), b"bad gateway".to_vec());
            }
            let id = request.path.trim_start_matches("/api/jobs/").to_owned();
            match (request.method.as_str(), request.path.as_str()) {
                ("GET", "/api/version") => {
                    document(&json!({"version": "4", "ray_version": "2.60.0"}))
                }
                ("GET", "/api/v0/nodes?detail=true") => {
                    let node =
                        json!({"state": "ALIVE", "resources_total": {"CPU": cpus, "memory": 1e10}});
                    document(&json!({"data": {"result": {"result": [node]}}}))
                }
                ("POST", "/api/jobs/") => {
                    let id = request.body["submission_id"].as_str().unwrap().to_owned();
                    let mut jobs = known.lock().unwrap();
                    if jobs.contains_key(&id) {
                        return (500, String::new(), b"ValueError: already exists".to_vec());
                    }
                    let fits = request.body["entrypoint_num_cpus"].as_u64().unwrap() <= cpus;
                    let state = if fits { "RUNNING" } else { "PENDING" };
                    jobs.insert(
                        id.clone(),
                        json!({"status": state, "message": "", "driver_exit_code": null}),
                    );
                    if fits {
                        let dies = id.contains(kill) && !killed.swap(true, Ordering::SeqCst);
                        let entrypoint = request.body["entrypoint"].as_str().unwrap().to_owned();
                        let known = Arc::clone(&known);
                        std::thread::spawn(move || job(&known, &id, &entrypoint, dies));
                    }
                    document(&json!({}))
                }
                ("POST", _) => {
                    let id = id.trim_end_matches("/stop");
                    let mut jobs = known.lock().unwrap();
                    // As Ray does: one that waits for resources stays as it is.
                    if let Some(job) = jobs.get_mut(id).filter(|job| job["status"] == "RUNNING") {
                        job["status"] = json!("STOPPED");
                    }
                    document(&json!({"stopped": true}))
                }
                _ => match known.lock().unwrap().get(&id) {
                    Some(job) => document(job),
                    None => (
                        404,
                        String::new(),
                        format!("Job {id} does not exist").into_bytes(),
                    ),
                },
            }
        });
        Self { web, jobs, down }
    }

    fn place(&self) -> String {
        self.web.url.replace("http://", "ray://")
    }

    fn posted(&self) -> usize {
        self.web
            .count(|method, path| method == "POST" && path == "/api/jobs/")
    }
}

/// Runs an entrypoint to its end.
fn job(jobs: &Mutex<BTreeMap<String, Value>>, id: &str, entrypoint: &str, dies: bool) {
    let mut child = Command::new("sh")
        .args(["-c", entrypoint])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if dies {
        child.kill().unwrap();
    }
    let ended = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    let (state, message) = match ended.status.success() {
        true => ("SUCCEEDED", "Job finished successfully.".to_owned()),
        false => (
            "FAILED",
            format!("Job entrypoint command failed, last available logs:\n{log}"),
        ),
    };
    let code = ended.status.code().unwrap_or(137);
    // A head that was restarted knows nothing of it.
    if let Some(job) = jobs.lock().unwrap().get_mut(id) {
        *job = json!({"status": state, "message": message, "driver_exit_code": code});
    }
}

#[test]
fn ray_gives_the_bytes_of_a_local_run_also_when_a_worker_is_killed() {
    let (place, ray) = (Place::new(), Ray::start(2, "-train-"));
    local(&place);
    let ran = place.run(&arguments("r", &ray.place(), &[]));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("FAILED, exit code 137") && ran.err.contains("submitted again (1 of 2)"),
        "{}",
        ran.err
    );
    assert_whole(&place);
    let jobs = ray.posted();
    assert_eq!(place.run(&arguments("r", &ray.place(), &["-q"])).code, 0);
    assert_eq!(ray.posted(), jobs);
}

#[test]
fn ray_may_be_away_and_forget_and_the_submitter_may_be_killed() {
    let (place, ray) = (Place::new(), Ray::start(2, ""));
    local_and_begun(&place);
    let on = ray.place();
    let start = || {
        let log = std::fs::File::create(place.path("stderr")).unwrap();
        let mut command = place.command(&arguments("r", &on, &[]));
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    };
    let mut first = start();
    while ray.posted() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = start();
    while !place.text("stderr").contains("submitted") {
        std::thread::sleep(Duration::from_millis(5));
    }
    // The head is restarted: away for a while, then without its jobs.
    ray.down.store(true, Ordering::SeqCst);
    while !place.text("stderr").contains("does not answer") {
        std::thread::sleep(Duration::from_millis(5));
    }
    ray.jobs.lock().unwrap().clear();
    ray.down.store(false, Ordering::SeqCst);
    assert!(second.wait().unwrap().success(), "{}", place.text("stderr"));
    assert_whole(&place);
}

#[test]
fn ray_states_no_job_too_large_so_the_program_does() {
    let (place, ray) = (Place::new(), Ray::start(2, ""));
    local_and_begun(&place);
    let log = std::fs::File::create(place.path("stderr")).unwrap();
    let on = ray.place();
    let large = arguments("r", &on, &["--set", "execute.resources.default.cpus=64"]);
    let mut child = place
        .command(&large)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    while !place
        .text("stderr")
        .contains("no node has that (the most: 2 CPU, 0 GPU, 9.3 GiB)")
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = place.done(&["status", "r"]);
    assert!(status.contains("it asks for 64 CPU"), "{status}");
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    // What Ray goes on to list would do nothing if it began now.
    let id = ray.jobs.lock().unwrap().keys().next().unwrap().clone();
    let ran = place.run(&["job", "r", "--task", &id]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("is over (cancelled)"), "{}", ran.err);
    // Smaller, the same run goes on.
    assert_eq!(place.run(&arguments("r", &on, &["-q"])).code, 0);
    assert_whole(&place);
}

#[test]
fn what_is_no_cluster_is_said_before_anything_is_submitted() {
    let place = Place::new();
    let nobody = Web::start(|_| document(&json!({"hello": 1})));
    let other = nobody.url.replace("http://", "ray://");
    for (on, code, words) in [
        ("moon", 2, "expected local, slurm or ray://HOST:PORT"),
        (other.as_str(), 1, "is no dashboard of Ray"),
        ("ray://127.0.0.1:1", 1, "127.0.0.1:1"),
    ] {
        let ran = place.run(&arguments("r", on, &["-q"]));
        assert_eq!(ran.code, code, "{on}: {}", ran.err);
        assert!(ran.err.contains(words), "{on}: {}", ran.err);
    }
    let ran = place.run_with(&arguments("r", "slurm", &["-q"]), &[("PATH", "/nowhere")]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("cannot run `sbatch`"), "{}", ran.err);
}
