//! `occurred_at`: an RFC 3339 date-time with an offset, and nothing that only looks like one.

use serde_json::json;

use super::pointers;
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;

#[tokio::test]
async fn every_rfc_3339_date_time_with_an_offset_is_accepted_and_kept_as_sent() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let times = [
        "2026-11-21T08:00:00Z",
        "2026-11-21t08:00:00z",
        "2026-11-21T08:00:00+00:00",
        "2026-11-21T08:00:00-00:00",
        "2026-11-21T08:00:00+05:45",
        "2026-11-21T08:00:00-23:59",
        "2026-11-21T08:00:00.5Z",
        "2026-11-21T08:00:00.123456789Z",
        "2026-11-21T08:00:00.123456789012345Z",
        "2016-12-31T23:59:60Z",
        "2024-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999Z",
    ];
    for time in times {
        let mut event = registered("L", time);
        event["occurred_at"] = json!(time);
        let answer = server.post(&event).await;
        assert_eq!(answer.status, 202, "{time}: {answer:?}");
    }
    let kept: Vec<_> = folder.records().iter().map(|record| record["event"]["occurred_at"].clone()).collect();
    assert_eq!(kept, times);
}

#[tokio::test]
async fn whatever_else_is_refused() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    for time in [
        "",
        "now",
        "2026-11-21",
        "08:00:00Z",
        "2026-11-21T08:00:00",
        "2026-11-21T08:00Z",
        "2026-11-21T08Z",
        "2026-11-21 08:00:00Z",
        "2026-11-21_08:00:00Z",
        "2026-11-21T08:00:00 Z",
        " 2026-11-21T08:00:00Z",
        "2026-11-21T08:00:00Z ",
        "2026-11-21T08:00:00Z\n",
        "20261121T080000Z",
        "2026-W47-6T08:00:00Z",
        "2026-325T08:00:00Z",
        "26-11-21T08:00:00Z",
        "+2026-11-21T08:00:00Z",
        "-0001-11-21T08:00:00Z",
        "12026-11-21T08:00:00Z",
        "2026-13-01T08:00:00Z",
        "2026-00-01T08:00:00Z",
        "2026-02-29T08:00:00Z",
        "2026-11-31T08:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T08:60:00Z",
        "2026-11-21T08:00:61Z",
        "2026-11-21T08:00:00.Z",
        "2026-11-21T08:00:00,5Z",
        "2026-11-21T08:00:00+02",
        "2026-11-21T08:00:00+0200",
        "2026-11-21T08:00:00+2:00",
        "2026-11-21T08:00:00+24:00",
        "2026-11-21T08:00:00+02:60",
        "2026-11-21T08:00:00\u{2212}02:00",
        "2026-11-21T08:00:00 CET",
        "2026-11-21T08:00:00Z[Europe/Berlin]",
        "２026-11-21T08:00:00Z",
        "Sat, 21 Nov 2026 08:00:00 GMT",
        "1795248000",
    ] {
        let mut event = registered("L", "A1");
        event["occurred_at"] = json!(time);
        assert_eq!(pointers(&server.post(&event).await), ["/occurred_at"], "{time:?}");
    }
    for no_text in [json!(1_795_248_000), json!(null), json!(true), json!([]), json!({})] {
        let mut event = registered("L", "A1");
        event["occurred_at"] = no_text.clone();
        assert_eq!(pointers(&server.post(&event).await), ["/occurred_at"], "{no_text}");
    }
}
