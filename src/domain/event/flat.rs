//! Other forms in which events are kept: the predecessor's, and a line of our own log.
//!
//! The predecessor wrote one flat object for each event, the members of the payload beside those of
//! the envelope. What an import reads is brought into the one form of an event here; whether it is
//! one is judged afterwards, in the same way as ever.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::domain::event::json::{end_of_nested, end_of_string};

/// The members that a flat event has outside its payload.
const ENVELOPE: [&str; 4] = ["event_id", "occurred_at", "locker_id", "type"];

/// The event that a text holds, in whichever form. A text that is none of them stays as it is.
///
/// A flat event keeps its members, their order and their spelling: all that are not the envelope's
/// become members of its payload, at its end.
#[must_use]
pub fn event_of(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(members) = serde_json::from_slice::<&RawValue>(text).ok().and_then(|json| members_of(json.get())) else {
        return Cow::Borrowed(text);
    };
    let value_of = |name| members.iter().find(|member| member.is(name)).map(|member| member.value);
    if value_of("payload").is_some() {
        return Cow::Borrowed(text);
    }
    if let (Some(_), Some(_), Some(event)) = (value_of("v"), value_of("seq"), value_of("event")) {
        return Cow::Borrowed(event.as_bytes());
    }
    let (envelope, payload): (Vec<_>, Vec<_>) =
        members.iter().partition(|member| ENVELOPE.iter().any(|name| member.is(name)));
    let mut event = String::with_capacity(text.len() + 16);
    event.push('{');
    for member in envelope {
        event.extend([member.key, ":", member.value, ","]);
    }
    event.push_str("\"payload\":{");
    for (at, member) in payload.into_iter().enumerate() {
        event.extend([if at == 0 { "" } else { "," }, member.key, ":", member.value]);
    }
    event.push_str("}}");
    Cow::Owned(event.into_bytes())
}

/// A member as it is spelled, the key with its quotes.
struct Member<'a> {
    key: &'a str,
    value: &'a str,
}

impl Member<'_> {
    fn is(&self, name: &str) -> bool {
        if self.key.contains('\\') {
            return serde_json::from_str::<String>(self.key).is_ok_and(|key| key == name);
        }
        &self.key[1..self.key.len() - 1] == name
    }
}

/// The members of an object; `None` for any other value. The text is valid JSON.
fn members_of(json: &str) -> Option<Vec<Member<'_>>> {
    let bytes = json.as_bytes();
    if bytes.first() != Some(&b'{') {
        return None;
    }
    let mut members = Vec::with_capacity(8);
    let mut at = 1;
    loop {
        match bytes[at] {
            b'}' => return Some(members),
            b'"' => {
                let (key_end, _) = end_of_string(bytes, at);
                let is_before = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
                let value = key_end + bytes[key_end..].iter().position(|byte| !is_before(byte))?;
                let value_end = match bytes[value] {
                    b'"' => end_of_string(bytes, value).0,
                    b'{' | b'[' => end_of_nested(bytes, value),
                    _ => value + bytes[value..].iter().position(|byte| b",} \t\r\n".contains(byte))?,
                };
                members.push(Member { key: &json[at..key_end], value: &json[value..value_end] });
                at = value_end;
            }
            // White space and commas.
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> String {
        String::from_utf8(event_of(text.as_bytes()).into_owned()).expect("it was UTF-8")
    }

    #[test]
    fn a_flat_event_gets_its_payload_in_order_and_spelling() {
        let flat = r#" {"type":"FaultReported", "severity" : 3e0,"event_id":"1", "x":{"a": [1 ,"}"]},
            "locker_id":"L","compartment_id":"A\u0031","occurred_at":"now","n":null} "#;
        assert_eq!(
            event(flat),
            r#"{"type":"FaultReported","event_id":"1","locker_id":"L","occurred_at":"now","payload":{"severity":3e0,"x":{"a": [1 ,"}"]},"compartment_id":"A\u0031","n":null}}"#
        );
        assert_eq!(event(r#"{"type":"T"}"#), r#"{"type":"T","payload":{}}"#);
        assert_eq!(event("{}"), r#"{"payload":{}}"#);
        assert_eq!(event(r#"{"\u0074ype":"T","a":1,"a":2}"#), r#"{"\u0074ype":"T","payload":{"a":1,"a":2}}"#);
    }

    #[test]
    fn an_event_and_what_is_none_stay_as_they_are() {
        for text in [
            r#"{"event_id":"1","payload":{},"severity":3}"#,
            r#"{"severity":3,"\u0070ayload":0}"#,
            "[{}]",
            "{\"a\":",
            "",
            "null",
            "{} {}",
        ] {
            assert_eq!(event(text), text);
        }
    }

    #[test]
    fn of_a_line_of_the_log_the_event_is_taken() {
        let line =
            r#"{"v":1,"seq":1,"batch":1,"recorded_at":"t","event":{"event_id":"1","payload":{"x":[]}},"hash":"0"}"#;
        assert_eq!(event(line), r#"{"event_id":"1","payload":{"x":[]}}"#);
    }
}
