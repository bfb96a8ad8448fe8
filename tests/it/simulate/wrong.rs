//! Servers that answer wrongly, or "not now": the first is found, the second is lived through.

use serde_json::json;

use crate::simulate::stand_in::StandIn;
use crate::simulate::{count, file_of, report, simulate, simulated};
use crate::support::Folder;

const SMALL: [&str; 10] =
    ["--seed", "7", "--lockers", "3", "--compartments", "4", "--connections", "1", "--give-up-after", "20"];

fn accepted() -> (u16, &'static str, String) {
    (202, "", r#"{"status":"accepted","sequence":1}"#.into())
}

#[test]
fn a_server_that_accepts_everything_is_found_out() {
    let folder = Folder::on_sqlite();
    let server = StandIn::start(|_, _| accepted());
    let ended = simulate(&folder, &[&SMALL[..], &["--to", &server.url(), "--events", "500", "--json"]].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), ""), "{ended:?}");
    let report = report(&ended);
    let file = report_of_file(&folder);
    assert_eq!((&report["sound"], count(&report, "accepted")), (&false.into(), 500));
    assert_eq!(count(&report, "wrong"), 500 - count(&file, "accepted"), "all that is to be refused or known: {report}");
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 10, "not all of them are told");
    let told = findings.iter().map(|finding| finding.as_str().unwrap()).collect::<Vec<_>>().join("\n");
    for part in ["sim-7-4-000", "the rules say duplicate, the server said accepted", "the rules say refused ("] {
        assert!(told.contains(part), "{part:?}: {told}");
    }
    let table = simulate(&folder, &[&SMALL[..], &["--to", &server.url(), "--events", "500"]].concat());
    assert_eq!((table.code, table.stdout.matches("FOUND ").count()), (Some(3), 10), "{table:?}");
}

fn report_of_file(folder: &Folder) -> serde_json::Value {
    let path = folder.path().join("file");
    let arguments = ["--file", path.to_str().unwrap(), "--events", "500", "--json"];
    report(&simulate(folder, &[&SMALL[..6], &arguments].concat()))
}

#[test]
fn a_server_that_is_no_such_server_ends_it_soon() {
    let folder = Folder::on_sqlite();
    for (status, body) in [(404, "<html>nothing here</html>"), (422, "{}"), (500, ""), (200, "{}")] {
        let server = StandIn::start(move |_, _| (status, "", body.into()));
        let ended = simulate(&folder, &[&SMALL[..], &["--to", &server.url(), "--orderly", "--seconds", "50"]].concat());
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.stdout.contains("given up: 100 wrong answers and no right one"), "{ended:?}");
        assert!(ended.stdout.contains(&format!("the rules say accepted, the server said {status}")), "{ended:?}");
        assert_eq!(server.asked().len(), 100, "{status}");
    }
}

#[tokio::test]
async fn what_is_turned_away_is_sent_again_as_it_was_before_anything_else() {
    let folder = Folder::on_sqlite();
    let server = StandIn::start(|number, _| match number {
        3 => (503, "retry-after: 0\r\n", r#"{"code":"overloaded"}"#.into()),
        4 => (502, "retry-after: 0\r\nconnection: close\r\n", "<html>".into()),
        _ => accepted(),
    });
    let mut command = crate::support::server::lockstream(&folder);
    command.args(["simulate", "--json", "--orderly", "--events", "20", "--to", &server.url()]).args(SMALL);
    let ended = tokio::task::spawn_blocking(move || crate::support::server::run(command)).await.unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("503 overloaded") && lines[1].contains("answers again"), "{lines:?}");
    let report = report(&ended);
    assert_eq!(report["turned_away"], json!({"502": 1, "503 overloaded": 1}));
    assert_eq!((count(&report, "sent_again"), count(&report, "events"), count(&report, "wrong")), (2, 20, 0));
    let bodies: Vec<_> = server.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!((bodies.len(), &bodies[3], &bodies[3]), (22, &bodies[4], &bodies[5]));
}

#[tokio::test]
async fn events_that_are_sent_together_are_a_line_each_and_each_gets_its_verdict() {
    let folder = Folder::on_sqlite();
    // The second request finds a server that has no room for its fourth event.
    let server = StandIn::start(|number, asked| {
        let accepted = "{\"status\":\"accepted\",\"sequence\":1}\n";
        let lines = match number {
            1 => accepted.repeat(3) + "{\"status\":\"unavailable\",\"code\":\"overloaded\",\"retry_after_s\":0}\n",
            _ => accepted.repeat(asked.body.lines().count()),
        };
        (200, "content-type: application/x-ndjson\r\n", lines + "{\"status\":\"end\",\"complete\":true}\n")
    });
    let arguments = ["--to", &server.url(), "--orderly", "--events", "25", "--batch", "10"];
    let mut command = crate::support::server::lockstream(&folder);
    command.args(["simulate", "--json"]).args(SMALL).args(arguments);
    let ended = tokio::task::spawn_blocking(move || crate::support::server::run(command)).await.unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = report(&ended);
    assert_eq!((count(&report, "events"), count(&report, "accepted"), count(&report, "requests")), (25, 25, 4));
    assert_eq!((count(&report, "sent_again"), &report["turned_away"]), (7, &json!({"unavailable overloaded": 1})));
    let asked = server.asked();
    assert!(
        asked.iter().all(|asked| asked.line == "POST /events/batch" && asked.content_type == "application/x-ndjson")
    );
    let lines = |number: usize| asked[number].body.lines().collect::<Vec<_>>();
    assert_eq!([lines(0).len(), lines(1).len(), lines(2).len(), lines(3).len()], [10, 10, 7, 5]);
    assert_eq!(lines(2), lines(1)[3..], "from the first that had no room on, in the same order");
    let sent: Vec<serde_json::Value> =
        [lines(0), lines(1), lines(3)].concat().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sent, file_of(&folder, &[&SMALL[..6], &["--orderly", "--events", "25"]].concat()));
}

#[tokio::test]
async fn a_path_before_the_routes_is_kept() {
    let folder = Folder::on_sqlite();
    let server = StandIn::start(|_, _| accepted());
    let url = format!("{}/lockers-of/north/", server.url());
    let report = simulated(&folder, &[&SMALL[..], &["--to", &url, "--orderly", "--events", "2"]].concat()).await;
    assert_eq!(report["server"], url.trim_end_matches('/'));
    assert_eq!(server.asked()[1].line, "POST /lockers-of/north/events");
    assert_eq!(server.asked()[1].content_type, "application/json");
}
