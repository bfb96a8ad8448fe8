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
mod tests;
