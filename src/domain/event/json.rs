//! One pass over valid JSON text: takes out the insignificant white space, finds repeated keys,
//! text that is not Unicode, and nesting without end.
//!
//! Nothing else is changed: members keep their order, strings and numbers their spelling. So a
//! record of the log is what the device sent, and stands on one line.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// How deep arrays and objects may nest, the event itself included. Common readers of the log
/// (`jq`, serde, PostgreSQL) all go deeper.
pub const MAX_DEPTH: usize = 64;
/// How many problems one answer lists at most.
pub const MAX_PROBLEMS: usize = 100;
/// After how many bytes of JSON Pointers the list of problems ends.
const MAX_POINTER_BYTES: usize = 16 << 10;

/// One thing that is wrong with a JSON document, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A JSON Pointer (RFC 6901); empty for the document as a whole.
    pub pointer: String,
    /// A sentence for a person.
    pub detail: String,
}

impl Problem {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// A JSON document without insignificant white space: one line, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactJson(Box<str>);

impl CompactJson {
    /// Takes text of which somebody knows that [`compact`] would leave it as it is, such as a log line's
    /// event.
    #[must_use]
    pub fn known(text: &str) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells contents apart: the first 128 bits of the text's SHA-256.
    #[must_use]
    pub fn digest(&self) -> ContentDigest {
        let full = Sha256::digest(self.0.as_bytes());
        ContentDigest(full[..16].try_into().expect("a SHA-256 has 32 bytes"))
    }
}

/// See [`CompactJson::digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentDigest([u8; 16]);

/// 32 hex digits.
impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads the bytes of a body as one JSON document and compacts it.
///
/// The problems are either one that says that this is no JSON at all, or all that the pass finds.
pub fn compact(body: &[u8]) -> Result<CompactJson, Vec<Problem>> {
    let text: &RawValue =
        serde_json::from_slice(body).map_err(|error| vec![Problem::new("", format!("is not valid JSON: {error}"))])?;
    let mut pass = Pass::new(text.get());
    pass.run();
    if pass.problems.is_empty() { Ok(CompactJson(pass.out.into_boxed_str())) } else { Err(pass.problems) }
}

/// What the pass is inside of.
enum Frame<'a> {
    Object { keys: Vec<Cow<'a, str>> },
    Array { index: usize },
}

/// The state of the pass. Invariant: `text` is valid JSON, so brackets match and strings end.
struct Pass<'a> {
    text: &'a str,
    out: String,
    frames: Vec<Frame<'a>>,
    key_expected: bool,
    problems: Vec<Problem>,
    pointer_bytes: usize,
}

impl<'a> Pass<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            out: String::with_capacity(text.len()),
            frames: Vec::new(),
            key_expected: false,
            problems: Vec::new(),
            pointer_bytes: 0,
        }
    }

    /// Whether the list of problems is long enough.
    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS || self.pointer_bytes >= MAX_POINTER_BYTES
    }

    fn problem(&mut self, pointer: String, detail: impl Into<String>) {
        if !self.is_full() {
            self.pointer_bytes += pointer.len();
            self.problems.push(Problem::new(shortened(pointer), detail));
        }
    }

    fn run(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        // What is kept and not copied yet begins here: as a rule that is all of it, copied at once.
        let mut kept = 0;
        while at < bytes.len() && !self.is_full() {
            let end = match bytes[at] {
                b' ' | b'\t' | b'\n' | b'\r' => {
                    self.out.push_str(&self.text[kept..at]);
                    at += 1;
                    kept = at;
                    continue;
                }
                b'"' => self.string(at),
                b'{' | b'[' if self.frames.len() == MAX_DEPTH => {
                    let detail = format!("is nested too deeply: at most {MAX_DEPTH} levels are accepted");
                    self.problem(self.pointer(), detail);
                    self.key_expected = false;
                    // What comes after it still has to be seen.
                    end_of_nested(bytes, at)
                }
                b'{' => {
                    self.frames.push(Frame::Object { keys: Vec::new() });
                    self.key_expected = true;
                    at + 1
                }
                b'[' => {
                    self.frames.push(Frame::Array { index: 0 });
                    self.key_expected = false;
                    at + 1
                }
                b'}' | b']' => {
                    self.close();
                    at + 1
                }
                b',' => {
                    self.key_expected = match self.frames.last_mut() {
                        Some(Frame::Array { index }) => {
                            *index += 1;
                            false
                        }
                        _ => true,
                    };
                    at + 1
                }
                b':' => {
                    self.key_expected = false;
                    at + 1
                }
                _ => {
                    let rest = &bytes[at..];
                    let is_scalar = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
                    at + rest.iter().position(|b| !is_scalar(b)).unwrap_or(rest.len())
                }
            };
            at = end;
        }
        self.out.push_str(&self.text[kept..at]);
    }

    /// Reads the string that starts at `start`, as a key where one is due; returns its end.
    fn string(&mut self, start: usize) -> usize {
        let (end, is_escaped) = end_of_string(self.text.as_bytes(), start);
        let inside = &self.text[start + 1..end - 1];
        let content = if is_escaped {
            // JSON's grammar lets a lone surrogate pass as an escape; no Unicode text can hold one.
            serde_json::from_str(&self.text[start..end]).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(inside))
        };
        let is_key = self.key_expected;
        match (content, self.frames.last_mut()) {
            (Ok(key), Some(Frame::Object { keys })) if is_key => keys.push(key),
            (Ok(_), _) => {}
            (Err(_), frame) => {
                if let (true, Some(Frame::Object { keys })) = (is_key, frame) {
                    keys.push(Cow::Borrowed(inside));
                }
                let detail = "contains an unpaired surrogate (\\uD800 to \\uDFFF), which is no Unicode text";
                self.problem(self.pointer(), detail);
            }
        }
        end
    }

    /// Leaves an array or object; an object is checked for repeated keys.
    fn close(&mut self) {
        self.key_expected = false;
        let Some(Frame::Object { keys }) = self.frames.pop() else { return };
        for key in repeated(&keys) {
            let mut pointer = self.pointer();
            push_token(&mut pointer, key);
            self.problem(pointer, "is given more than once");
        }
    }

    /// Where the pass stands now.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for frame in &self.frames {
            match frame {
                Frame::Object { keys } => {
                    if let Some(key) = keys.last() {
                        push_token(&mut pointer, key);
                    }
                }
                Frame::Array { index } => push_token(&mut pointer, &index.to_string()),
            }
        }
        pointer
    }
}

/// The pointer, or that of the nearest place around it whose pointer has an acceptable length: an
/// answer must not be longer than the body that caused it.
fn shortened(mut pointer: String) -> String {
    if pointer.len() > MAX_POINTER_BYTES {
        let end = pointer.as_bytes()[..=MAX_POINTER_BYTES].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        pointer.truncate(end);
    }
    pointer
}

/// The end of the string that starts at `start`, and whether anything in it is escaped.
pub(super) fn end_of_string(bytes: &[u8], start: usize) -> (usize, bool) {
    let mut at = start + 1;
    let mut is_escaped = false;
    loop {
        match bytes[at] {
            b'"' => return (at + 1, is_escaped),
            b'\\' => {
                is_escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// The end of the array or object that starts at `start`.
pub(super) fn end_of_nested(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    loop {
        match bytes[at] {
            b'"' => {
                (at, _) = end_of_string(bytes, at);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
}

/// The keys that stand more than once, each named once, in the order of their repetition.
fn repeated<'k>(keys: &'k [Cow<'_, str>]) -> Vec<&'k str> {
    const FEW: usize = 16;
    let mut found: Vec<&str> = Vec::new();
    if keys.len() <= FEW {
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].contains(key) && !found.contains(&key.as_ref()) {
                found.push(key);
            }
        }
    } else {
        let mut seen = HashSet::with_capacity(keys.len());
        let mut reported = HashSet::new();
        found.extend(keys.iter().map(AsRef::as_ref).filter(|key| !seen.insert(*key) && reported.insert(*key)));
    }
    found.truncate(MAX_PROBLEMS);
    found
}

/// Appends one reference token, escaped as RFC 6901 asks.
fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    for character in token.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(text: &str) -> String {
        compact(text.as_bytes()).expect("valid").as_str().to_owned()
    }

    fn pointers(text: &str) -> Vec<String> {
        compact(text.as_bytes()).expect_err("a problem").into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn only_white_space_outside_strings_goes() {
        let text = " { \"b\" : [ 1 , 2.50e+1 , { } , \" a \\\" b \" ] ,\r\n\t\"a\":null, \"\\u0061b\" : -0 } ";
        assert_eq!(compacted(text), r#"{"b":[1,2.50e+1,{}," a \" b "],"a":null,"\u0061b":-0}"#);
        assert_eq!(compacted("\"x\""), "\"x\"");
        assert_eq!(compacted(" 1e999 "), "1e999", "numbers beyond any type keep their spelling");
    }

    #[test]
    fn repeated_keys_are_found_at_any_depth_and_however_spelled() {
        assert_eq!(pointers(r#"{"a":1,"\u0061":2}"#), ["/a"]);
        assert_eq!(pointers(r#"{"x":[0,{"a/b":1,"a/b":2,"a/b":3}]}"#), ["/x/1/a~1b"]);
        assert_eq!(pointers(r#"{"o":{"k":1,"k":1},"p":1,"p":2}"#), ["/o/k", "/p"]);
        assert_eq!(compacted(r#"{"a":{"a":1},"b":{"a":1}}"#), r#"{"a":{"a":1},"b":{"a":1}}"#);
    }

    #[test]
    fn many_keys_cost_no_more_than_few() {
        let members = |count: usize| (0..count).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",");
        assert!(compact(format!("{{{}}}", members(20_000)).as_bytes()).is_ok());
        assert_eq!(pointers(&format!("{{{},\"k7\":1,\"k7\":2}}", members(20_000))), ["/k7"]);
    }

    #[test]
    fn the_list_of_problems_ends_somewhere() {
        let members = (0..5_000).map(|n| format!("\"k{n}\":0,\"k{n}\":0")).collect::<Vec<_>>().join(",");
        assert_eq!(pointers(&format!("{{{members}}}")).len(), MAX_PROBLEMS);
    }

    #[test]
    fn long_keys_do_not_make_long_lists() {
        let surrogates = [r#""\ud800""#; 110].join(",");
        let found = pointers(&format!(r#"{{"{}":[{surrogates}]}}"#, "~".repeat(20_000)));
        assert_eq!(found, [""], "one pointer of 40 kB is enough, and is told by what is around it");
        let inner = format!(r#"{{"a/b":{{"{}":["\ud800"]}}}}"#, "x".repeat(20_000));
        assert_eq!(pointers(&inner), ["/a~1b"]);
        let found = pointers(&format!(r#"{{"{}":[{surrogates}]}}"#, "~".repeat(100)));
        assert!((60..MAX_PROBLEMS).contains(&found.len()), "{}", found.len());
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(compact(nested(MAX_DEPTH).as_bytes()).is_ok());
        let problems = compact(nested(MAX_DEPTH + 1).as_bytes()).expect_err("too deep");
        assert_eq!(problems[0].pointer, "/0".repeat(MAX_DEPTH));
        assert!(compact(nested(30_000).as_bytes()).is_err());
        let behind = format!(r#"{{"x":{},"k":1,"y":["]"],"k":2}}"#, nested(MAX_DEPTH).replacen("[]", r#"["]\""]"#, 1));
        let deep = format!("/x{}", "/0".repeat(MAX_DEPTH - 1));
        assert_eq!(pointers(&behind), [deep.as_str(), "/k"], "what comes behind is seen");
    }

    #[test]
    fn what_is_not_unicode_is_refused() {
        assert_eq!(pointers(r#"{"a":["\ud800"]}"#), ["/a/0"]);
        assert_eq!(pointers(r#"{"\udc00x":1}"#), [r"/\udc00x"]);
        assert_eq!(compacted(r#""\ud83e\udd80""#), r#""\ud83e\udd80""#);
        assert!(compact(b"\"\xff\"").is_err());
    }

    #[test]
    fn what_is_not_json_says_where() {
        let problems = compact(b"{\"a\":}").expect_err("not JSON");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].detail.contains("line 1 column 6"), "{}", problems[0].detail);
        for wrong in [&b""[..], b"{} {}", b"\xef\xbb\xbf{}", b"{'a':1}", b"[1,]", b"nul", b"01"] {
            assert!(compact(wrong).is_err(), "{wrong:?}");
        }
    }
}
