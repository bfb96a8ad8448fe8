//! A server that stops, is killed, starts again and goes on in the middle of a backup: that has
//! whatever was acknowledged before it began, and nothing that is not in the log.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;

use super::{SMALL_SEGMENTS, back_up, backup_command, restored, verified, write_log};
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;

const ROUNDS: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_and_starts_again_in_the_middle_spoils_no_backup() {
    let (folder, place) = (Folder::new(), Folder::new());
    write_log(&folder, 400);
    let begin = Instant::now();
    back_up(&folder, &place.path().join("at-rest"));
    let whole = begin.elapsed();
    let mut in_the_middle = 0;
    // On a machine with other work the first ones may all end too soon.
    for round in 0..10 * ROUNDS {
        if round >= ROUNDS && in_the_middle > 0 {
            break;
        }
        let server = Server::start_with(&folder, &[SMALL_SEGMENTS]).await;
        let events = |part: &str| (0..10).map(|n| registered("M", &format!("{round}-{part}-{n}"))).collect::<Vec<_>>();
        server.accept(&events("before")).await;
        let acknowledged = folder.event_ids();
        let backup = place.path().join(round.to_string());
        let mut command = backup_command(&folder, &backup, &["--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        sleep(whole * (round % ROUNDS) / ROUNDS + Duration::from_millis(1)).await;
        kill_process(pid, Signal::STOP).unwrap();
        let is_under_way = child.try_wait().unwrap().is_none();
        in_the_middle += u32::from(is_under_way);

        server.accept(&events("meanwhile")).await;
        if round % 2 == 0 {
            server.kill();
        } else {
            assert!(server.stop().success());
        }
        let server = Server::start_with(&folder, &[SMALL_SEGMENTS]).await;
        server.accept(&events("after")).await;
        if is_under_way {
            kill_process(pid, Signal::CONT).unwrap();
        }
        let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();

        let said = String::from_utf8(ended.stderr).unwrap();
        if !ended.status.success() {
            // It had not asked the server yet.
            assert!(said.contains("does not say how far the log is"), "round {round}: {said}");
            continue;
        }
        let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
        let (twin, again) = restored(&backup);
        assert_eq!(again["head_hash"], report["head_hash"], "round {round}");
        assert_eq!(verified(&twin)["sound"], true);
        let there = twin.event_ids();
        assert!(acknowledged.iter().all(|id| there.contains(id)), "round {round}: acknowledged before it began");
        assert!(folder.log_bytes().starts_with(&twin.log_bytes()), "round {round}");
        assert!(server.stop().success());
    }
    assert!(in_the_middle > 0, "some were still under way");
    assert_eq!(back_up(&folder, &place.path().join("0"))["head_sequence"], folder.event_ids().len());
}
