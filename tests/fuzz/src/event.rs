//! The reader of events, held against a second one.

use lockstream::domain::event::Event;
use lockstream::domain::event::json::{MAX_PROBLEMS, Problem, compact};
use lockstream::domain::event::parse::ReceivedEvent;
use serde_json::value::RawValue;

use super::reference::{self, Judged, Unread, Unsound};

/// Any body of a `POST /events`.
pub fn event(body: &[u8]) {
    let parsed = ReceivedEvent::parse(body);
    let is_json = serde_json::from_slice::<&RawValue>(body).is_ok();
    let json = match reference::read(body) {
        Ok(json) => json,
        Err(Unread::TooDeep) => {
            assert!(!parsed.is_ok_and(|received| received.content.is_ok()), "nested too deeply, and accepted");
            return;
        }
        Err(Unread::NotJson) => {
            assert!(!is_json, "the library takes what the grammar does not");
            let problems = parsed.expect_err("this is no JSON");
            assert_eq!(problems.len(), 1, "{problems:?}");
            return check(&problems);
        }
    };
    assert!(is_json, "the grammar takes what the library does not");
    let unsound = reference::unsound(&json);
    compacted(body, &json, unsound);

    let judged = reference::judge(&json);
    match (parsed, judged) {
        (Err(problems), judged) => {
            check(&problems);
            assert!(judged.is_none() || unsound.envelope, "refused, though nothing is wrong with it: {problems:?}");
        }
        (Ok(received), None) => panic!("taken, though its envelope is wrong: {received:?}"),
        (Ok(received), Some(Judged { event_id, event })) => {
            let is_cut_short = received.content.as_ref().is_err_and(|problems| problems.len() >= MAX_PROBLEMS);
            assert!(!unsound.envelope || is_cut_short, "taken, though its envelope is unsound: {received:?}");
            assert_eq!(received.event_id, event_id);
            match received.content {
                Ok(ref content) => {
                    assert!(!unsound.payload, "taken, though its payload is unsound: {received:?}");
                    assert_eq!(Some(content), event.as_ref());
                    kept(&received);
                }
                Err(problems) => {
                    check(&problems);
                    assert!(problems.iter().all(|problem| problem.pointer.starts_with("/payload/")), "{problems:?}");
                    assert!(event.is_none() || unsound.payload, "refused, though all is well: {problems:?}");
                }
            }
        }
    }
}

/// What was accepted is kept on one line and reads back as the same.
fn kept(received: &ReceivedEvent) {
    let text = received.json.as_str();
    assert!(text.bytes().all(|byte| byte >= b' '), "one line, whatever it holds: {text:?}");
    let again = ReceivedEvent::parse(text.as_bytes()).expect("it was valid");
    assert_eq!(again.json, received.json);
    assert_eq!((again.event_id, again.digest, &again.content), (received.event_id, received.digest, &received.content));
    assert_eq!(Event::from_kept(text), received.content);
}

/// Compacting loses nothing but white space, and refuses exactly what is unsound.
fn compacted(body: &[u8], json: &reference::Json, unsound: Unsound) {
    match compact(body) {
        Ok(compacted) => {
            assert_eq!(unsound, Unsound::default(), "{}", compacted.as_str());
            assert_eq!(reference::read(compacted.as_str().as_bytes()).as_ref(), Ok(json));
            assert_eq!(compact(compacted.as_str().as_bytes()).as_ref(), Ok(&compacted), "there is nothing left to do");
        }
        Err(problems) => {
            check(&problems);
            assert_ne!(unsound, Unsound::default(), "{problems:?}");
        }
    }
}

/// A list of problems is not empty, not endless, and points to places.
fn check(problems: &[Problem]) {
    assert!((1..=MAX_PROBLEMS).contains(&problems.len()), "{problems:?}");
    for Problem { pointer, detail } in problems {
        assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer:?}");
        let unescaped = pointer.replace("~0", "").replace("~1", "");
        assert!(!unescaped.contains('~') && !detail.is_empty(), "{pointer:?}: {detail:?}");
    }
}
