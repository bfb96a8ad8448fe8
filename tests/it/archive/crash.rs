//! Killed at any moment while it archives: the next start has the archive before or the one after.

use lockstream::random::Random;

use crate::archive::{TINY, forgotten, live, pass_time};
use crate::support::Folder;
use crate::support::events::{expired, reserved};
use crate::support::server::{Server, lockstream, run};

#[tokio::test]
async fn a_kill_while_the_past_is_archived_loses_nothing_of_it() {
    let folder = Folder::new();
    let mut random = Random::new(16);
    let mut events = Vec::new();
    let mut archived = 0;
    for round in 0..12 {
        let server = Server::start_with(&folder, &TINY).await;
        if round == 0 {
            events = live(&server).await;
        }
        for number in 0..random.below(40) {
            let reservation = format!("r{round}-{number}");
            server.accept(&[reserved("L", "B", &reservation), expired("L", &reservation)]).await;
            pass_time(&server).await;
        }
        archived = archived.max(forgotten(&server));
        for (event, sequence) in events.iter().zip(1..) {
            let again = server.post(event).await;
            assert_eq!((again.status, again.sequence()), (200, sequence), "round {round}");
        }
        let used = server.post(&reserved("L", "B", "r0-0")).await;
        assert!(round == 0 || used.code() == "reservation-already-exists" || used.status == 202, "{used:?}");
        if used.status == 202 {
            server.accept(&[expired("L", "r0-0")]).await;
        }
        server.kill();
    }
    assert!(archived > 14, "something was archived and forgotten: {archived}");
    let mut verify = lockstream(&folder);
    verify.arg("verify");
    let ended = run(verify);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
