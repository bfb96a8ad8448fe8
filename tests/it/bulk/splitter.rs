//! What is cut out of an array is what JSON says, for any text and however it arrives.

use lockstream::domain::event::flat::event_of;
use lockstream::domain::event::split::{Broken, Form, Piece, Splitter};
use lockstream::random::Random;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The elements of a text that arrives in pieces, or why there is an end of them.
fn cut(text: &[u8], random: &mut Random) -> Result<Vec<Vec<u8>>, Broken> {
    let mut splitter = Splitter::new(Form::Array, 1 << 20);
    let mut found = Vec::new();
    let text_of = |piece: Piece<'_>| {
        let Piece::Text(text) = piece else { panic!("nothing here is long") };
        text.trim_ascii().to_vec()
    };
    let mut rest = text;
    while !rest.is_empty() {
        let length = 1 + random.index(rest.len().min(40));
        let (mut now, later) = rest.split_at(length);
        while let Some(piece) = splitter.next(&mut now)? {
            found.push(text_of(piece));
        }
        rest = later;
    }
    if let Some(piece) = splitter.finish()? {
        found.push(text_of(piece));
    }
    Ok(found)
}

/// What serde makes of the whole text.
fn elements(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let elements: Vec<Box<RawValue>> = serde_json::from_slice(text).ok()?;
    Some(elements.iter().map(|element| element.get().as_bytes().to_vec()).collect())
}

fn value(random: &mut Random, depth: u64) -> Value {
    match random.below(if depth > 3 { 4 } else { 6 }) {
        0 => random.number().into(),
        1 => Value::Null,
        2 | 3 => (*random.pick(&["", "a", "]", "},{", "\\", "\"", "\\\"", "[", "🚪,", "\n"])).into(),
        4 => (0..random.below(4)).map(|_| value(random, depth + 1)).collect(),
        _ => Value::Object(
            (0..random.below(4)).map(|n| (format!("{n}\"]}}"), value(random, depth + 1))).collect::<Map<_, _>>(),
        ),
    }
}

#[test]
fn every_array_is_cut_where_json_says() {
    for number in 0..2_000 {
        let mut random = Random::of_part(1, "arrays", number);
        let values: Vec<_> = (0..random.below(6)).map(|_| value(&mut random, 0)).collect();
        let text = if random.percent(50) { serde_json::to_vec(&values) } else { serde_json::to_vec_pretty(&values) };
        let text = text.unwrap();
        assert_eq!(cut(&text, &mut random), Ok(elements(&text).unwrap()), "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_text_that_is_no_array_is_never_taken_for_one() {
    const HURTS: &[u8] = b"[]{},\"\\: \n0a";
    let (mut whole, mut broken, mut spoiled) = (0, 0, 0);
    for number in 0..20_000 {
        let mut random = Random::of_part(2, "hurt", number);
        let values: Vec<_> = (0..random.below(4)).map(|_| value(&mut random, 1)).collect();
        let mut text = serde_json::to_vec(&values).unwrap();
        for _ in 0..random.between(1, 3) {
            let at = random.index(text.len());
            match random.below(3) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, *random.pick(HURTS)),
                _ => text[at] = *random.pick(HURTS),
            }
            if text.is_empty() {
                text.push(b'[');
            }
        }
        let shown = String::from_utf8_lossy(&text).into_owned();
        match (elements(&text), cut(&text, &mut random)) {
            (Some(elements), found) => {
                assert_eq!(found, Ok(elements), "{shown}");
                whole += 1;
            }
            (None, Ok(found)) => {
                // Then the fault is within an element, and that one is told to be none.
                let is_json = |element: &Vec<u8>| serde_json::from_slice::<&RawValue>(element).is_ok();
                assert!(!found.iter().all(is_json), "{shown}");
                spoiled += 1;
            }
            (None, Err(_)) => broken += 1,
        }
    }
    assert!(whole > 1_000 && broken > 1_000 && spoiled > 1_000, "{whole} {broken} {spoiled}");
}

#[test]
fn any_flat_object_becomes_the_event_that_it_means() {
    for number in 0..5_000 {
        let mut random = Random::of_part(3, "flat", number);
        let mut flat = Map::new();
        for name in ["type", "a", "event_id", "b\"c", "locker_id", "", "occurred_at", "severity"] {
            if random.percent(60) {
                flat.insert(name.to_owned(), value(&mut random, 1));
            }
        }
        let text =
            if random.percent(50) { serde_json::to_vec(&flat) } else { serde_json::to_vec_pretty(&flat) }.unwrap();
        let is_envelope = |name: &str| ["type", "event_id", "locker_id", "occurred_at"].contains(&name);
        let (mut event, payload): (Map<_, _>, Map<_, _>) = flat.into_iter().partition(|(name, _)| is_envelope(name));
        event.insert("payload".to_owned(), payload.into());
        let made: Value = serde_json::from_slice(&event_of(&text)).unwrap();
        assert_eq!(made, json!(event), "{}", String::from_utf8_lossy(&text));
    }
}
