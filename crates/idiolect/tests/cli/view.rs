//! `idiolect view`: a run in a browser, while it goes and when it is done.

use serde_json::Value;

use crate::kit::Place;
use crate::server::{Server, reply};

fn view(place: &Place, run: &str) -> Server {
    Server::of(place, &["view", run, "--port", "0", "--json"], &[])
}

#[test]
fn a_run_is_shown_when_half_done_and_when_finished() {
    let place = Place::new();
    place.copy_run("r", &["--until", "arms"]);
    let server = view(&place, "r");
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .to_ascii_lowercase()
            .contains("content-type: text/html")
    );
    assert!(
        page.body.contains("connect-src 'self'")
            || page.body.contains("connect-src &#39;self&#39;")
    );
    let half = server.get("/run.json").json();
    let states = |run: &Value, state: &str| {
        let jobs = run["jobs"].as_array().unwrap();
        jobs.iter().filter(|job| job["state"] == state).count()
    };
    assert!(
        states(&half, "done") > 3 && states(&half, "waiting") > 3,
        "{half}"
    );
    assert_eq!(half["done"], states(&half, "done"));
    assert_eq!(half["reports"], Value::Array(Vec::new()));
    assert!(
        !half["curves"].as_array().unwrap().is_empty(),
        "the models' own training"
    );
    assert_eq!(server.get("/report.html").status, 404);

    place.done(&["run", "tiny", "--out", "r"]);
    let whole = server.get("/run.json").json();
    assert_eq!(
        states(&whole, "done"),
        whole["jobs"].as_array().unwrap().len()
    );
    assert_eq!(whole["reports"][0][0], "/report.html");
    let report = server.get("/report.html");
    assert_eq!(report.body, place.text("r/report.html"));
    let log = "r/students/student/r0/train/W/0/log.jsonl";
    let steps = place
        .lines(log)
        .iter()
        .filter(|row| row["event"] == "step")
        .count();
    let mut curves = whole["curves"].as_array().unwrap().iter();
    let curve = curves
        .find(|curve| curve["job"].as_str().unwrap().contains("/W/"))
        .unwrap();
    assert_eq!(curve["points"].as_array().unwrap().len(), steps.min(120));
    let (code, _, err) = server.stop();
    assert_eq!(code, 0, "{err}");
}

#[test]
fn any_trace_is_found_by_its_id_or_its_problems() {
    let place = Place::new();
    place.copy_run("r", &[]);
    let server = view(&place, "r");
    let trace = &place.lines("r/data/r0/traces.jsonl")[0];
    let found = server
        .get(&format!("/traces/{}", trace["id"].as_str().unwrap()))
        .json();
    let traces = found["traces"].as_array().unwrap();
    assert_eq!(traces.len(), 1, "{found}");
    let row = &traces[0]["row"];
    assert_eq!(row[2], trace["problem_id"]);
    let pieces = row[10]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|step| step[1].as_array().unwrap());
    let text: String = pieces.map(|piece| piece[0].as_str().unwrap()).collect();
    assert_eq!(text, trace["text"].as_str().unwrap());
    let problem = trace["problem_id"].as_str().unwrap().replace('/', "%2F");
    let all = server.get(&format!("/traces/{problem}")).json();
    assert!(all["traces"].as_array().unwrap().len() > 1, "{all}");
    let none = server.get("/traces/nothing");
    assert_eq!(none.status, 404);
    assert!(
        none.body.contains("no trace of this run has this id"),
        "{}",
        none.body
    );
}

#[test]
fn the_server_answers_to_this_machine_and_gives_nothing_beside_the_run() {
    let place = Place::new();
    place.write("secret.html", "secret");
    place.copy_run("r", &[]);
    let server = view(&place, "r");
    for path in [
        "/../secret.html",
        "/students/..%2F..%2Fsecret/report.html",
        "/students/../report.html",
        "/recipe.toml",
        "/traces/",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
    }
    assert_eq!(server.ask("POST", "/run.json", "", "").status, 405);
    let mut stream = server.connect();
    std::io::Write::write_all(
        &mut stream,
        b"GET /run.json HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    assert_eq!(reply(stream).status, 400);
}

#[test]
fn a_folder_without_a_run_and_a_port_in_use_are_said() {
    let place = Place::new();
    place.write("empty/file", "");
    let ran = place.run(&["view", "empty"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("empty") && ran.err.contains("hint"),
        "{}",
        ran.err
    );
    place.copy_run("r", &[]);
    let server = view(&place, "r");
    let port = server.url().rsplit_once(':').unwrap().1.to_owned();
    let ran = place.run(&["view", "r", "--port", &port]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("--port 0"), "{}", ran.err);
}
