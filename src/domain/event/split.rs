//! Cuts a stream of bytes into the texts of events: the lines of NDJSON, or the elements of one JSON
//! array.
//!
//! Sees only where a text ends, not what is in it, so that one that is wrong spoils only itself. It
//! keeps at most the beginning of one text; of one that is too long it keeps nothing.

/// How the texts of a stream are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One text a line. Lines of white space alone are counted and otherwise skipped.
    Lines,
    /// The elements of one JSON array, and nothing around it.
    Array,
}

/// What was cut off.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'s> {
    Text(&'s [u8]),
    TooLong,
}

/// Why it cannot be told where the next text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the body is not a JSON array")]
    NoArray,
    #[error("an element of the array is missing")]
    NoElement,
    #[error("an element of the array closes what it did not open")]
    Closes,
    #[error("an element of the array is nested too deeply to find its end")]
    TooDeep,
    #[error("the array does not end")]
    NoEnd,
    #[error("something follows the array")]
    Follows,
}

/// Cuts a stream that comes in pieces of any size.
#[derive(Debug)]
pub struct Splitter {
    form: Form,
    max_bytes: usize,
    /// The beginning of a text whose end is still to come.
    kept: Vec<u8>,
    /// Whether `kept` was handed out and has to go.
    told: bool,
    too_long: bool,
    number: u64,
    array: Array,
}

impl Splitter {
    /// Takes texts of up to so many bytes.
    #[must_use]
    pub fn new(form: Form, max_bytes: usize) -> Self {
        let array = Array { place: Place::Before, open: Vec::new(), in_string: false, escaped: false };
        Self { form, max_bytes, kept: Vec::new(), told: false, too_long: false, number: 0, array }
    }

    /// The number of the text that was cut off last, from 1 on: its line, or its place in the array.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The memory that the beginning of a text has, and what has to be known of it.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.capacity() + self.array.open.capacity()
    }

    /// Cuts the next text off; `None` when `input` is used up before that text ends.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Piece<'s>>, Broken> {
        loop {
            self.forget_told();
            let (begin, end) = match self.form {
                Form::Lines => (0, input.iter().position(|byte| *byte == b'\n')),
                Form::Array => self.array.element(input, self.max_bytes)?,
            };
            let Some(end) = end else {
                self.keep(&input[begin..]);
                *input = &[];
                return Ok(None);
            };
            let text = &input[begin..end];
            // The line feed, or what ends an element: that was looked at.
            *input = &input[end + 1..];
            self.number += 1;
            let is_blank = |text: &[u8]| text.iter().all(u8::is_ascii_whitespace);
            if self.form == Form::Lines && !self.too_long && is_blank(text) && is_blank(&self.kept) {
                self.told = true;
                continue;
            }
            return Ok(Some(self.join(text)));
        }
    }

    /// The text that ends with the stream, if there is one.
    pub fn finish(&mut self) -> Result<Option<Piece<'_>>, Broken> {
        self.forget_told();
        match (self.form, self.array.place) {
            (Form::Array, Place::After) => Ok(None),
            (Form::Array, Place::Before) => Err(Broken::NoArray),
            (Form::Array, _) => Err(Broken::NoEnd),
            (Form::Lines, _) if !self.too_long && self.kept.iter().all(u8::is_ascii_whitespace) => Ok(None),
            (Form::Lines, _) => {
                self.number += 1;
                Ok(Some(self.join(&[])))
            }
        }
    }

    fn forget_told(&mut self) {
        if std::mem::take(&mut self.told) {
            self.kept.clear();
        }
    }

    /// The whole of a text whose last part is here.
    fn join<'s, 'i: 's>(&'s mut self, last: &'i [u8]) -> Piece<'s> {
        if std::mem::take(&mut self.too_long) || self.kept.len() + last.len() > self.max_bytes {
            self.kept = Vec::new();
            return Piece::TooLong;
        }
        if self.kept.is_empty() {
            return Piece::Text(last);
        }
        self.kept.extend_from_slice(last);
        self.told = true;
        Piece::Text(&self.kept)
    }

    fn keep(&mut self, part: &[u8]) {
        if self.too_long || self.kept.len() + part.len() > self.max_bytes {
            self.too_long = true;
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(part);
        }
    }
}

/// Where in the array the stream stands.
#[derive(Debug)]
struct Array {
    place: Place,
    /// The brackets that the element has open.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    /// Behind the opening bracket: an element, or the end.
    First,
    /// Behind a comma: an element.
    Next,
    Inside,
    After,
}

impl Array {
    /// Where in `input` the next element, or what there is of it, begins and ends. Without an end all
    /// of the input was looked at.
    fn element(&mut self, input: &[u8], max_open: usize) -> Result<(usize, Option<usize>), Broken> {
        let mut begin = 0;
        for (at, &byte) in input.iter().enumerate() {
            if self.place != Place::Inside {
                match (self.place, byte) {
                    (_, b' ' | b'\t' | b'\r' | b'\n') => continue,
                    (Place::Before, b'[') => self.place = Place::First,
                    (Place::Before, _) => return Err(Broken::NoArray),
                    (Place::First, b']') => self.place = Place::After,
                    (Place::After, _) => return Err(Broken::Follows),
                    (_, b',' | b']') => return Err(Broken::NoElement),
                    _ => {
                        self.place = Place::Inside;
                        begin = at;
                    }
                }
            }
            if self.place == Place::Inside && self.ends_at(byte, max_open)? {
                self.place = if byte == b',' { Place::Next } else { Place::After };
                return Ok((begin, Some(at)));
            }
        }
        Ok((if self.place == Place::Inside { begin } else { input.len() }, None))
    }

    /// Whether this byte stands behind the element.
    fn ends_at(&mut self, byte: u8, max_open: usize) -> Result<bool, Broken> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' if self.open.len() == max_open => return Err(Broken::TooDeep),
            b'{' | b'[' => self.open.push(byte),
            b']' | b',' if self.open.is_empty() => return Ok(true),
            b'}' | b']' => {
                let opened = if byte == b'}' { b'{' } else { b'[' };
                if self.open.pop() != Some(opened) {
                    return Err(Broken::Closes);
                }
            }
            _ => {}
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is cut off a text that comes in pieces of so many bytes, and how it ends.
    fn cut(form: Form, max_bytes: usize, text: &str, step: usize) -> (Vec<(u64, String)>, Option<Broken>) {
        let mut splitter = Splitter::new(form, max_bytes);
        let mut found = Vec::new();
        let shown = |piece: Piece<'_>| match piece {
            Piece::Text(text) => String::from_utf8_lossy(text).trim().to_owned(),
            Piece::TooLong => "TOO LONG".to_owned(),
        };
        for mut input in text.as_bytes().chunks(step.max(1)) {
            loop {
                match splitter.next(&mut input).map(|piece| piece.map(shown)) {
                    Ok(Some(piece)) => found.push((splitter.number(), piece)),
                    Ok(None) => break,
                    Err(broken) => return (found, Some(broken)),
                }
            }
            assert!(splitter.kept_bytes() <= 4 * max_bytes.max(8), "{}", splitter.kept_bytes());
        }
        match splitter.finish().map(|piece| piece.map(shown)) {
            Ok(last) => found.extend(last.map(|piece| (splitter.number(), piece))),
            Err(broken) => return (found, Some(broken)),
        }
        (found, None)
    }

    /// The same however the text is cut by the transport.
    fn always(form: Form, max_bytes: usize, text: &str) -> (Vec<(u64, String)>, Option<Broken>) {
        let whole = cut(form, max_bytes, text, text.len());
        for step in 1..text.len() {
            assert_eq!(cut(form, max_bytes, text, step), whole, "in pieces of {step}");
        }
        whole
    }

    fn numbered<'t>(texts: impl IntoIterator<Item = (u64, &'t str)>) -> Vec<(u64, String)> {
        texts.into_iter().map(|(number, text)| (number, text.to_owned())).collect()
    }

    #[test]
    fn lines_are_counted_and_blank_ones_skipped() {
        let (found, broken) = always(Form::Lines, 100, "{\"a\":1}\r\n\n  \t\r\n[2]\n\nx");
        assert_eq!(found, numbered([(1, "{\"a\":1}"), (4, "[2]"), (6, "x")]));
        assert_eq!(broken, None);
        assert_eq!(always(Form::Lines, 100, "").0, []);
        assert_eq!(always(Form::Lines, 100, "a\n").0, numbered([(1, "a")]));
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end() {
        let text = format!("a\n{}\nb\n{}", "x".repeat(50), "y".repeat(11));
        let (found, broken) = always(Form::Lines, 10, &text);
        assert_eq!(found, numbered([(1, "a"), (2, "TOO LONG"), (3, "b"), (4, "TOO LONG")]));
        assert_eq!(broken, None);
        assert_eq!(always(Form::Lines, 10, "0123456789\n").0, numbered([(1, "0123456789")]));
    }

    #[test]
    fn elements_end_where_json_says() {
        let text = r#" [ {"a":"},]\"","b":[1,{"c":[]}]} ,2,"x\\", null ,[[]]] "#;
        let (found, broken) = always(Form::Array, 100, text);
        let expected = [r#"{"a":"},]\"","b":[1,{"c":[]}]}"#, "2", r#""x\\""#, "null", "[[]]"];
        assert_eq!(found, numbered((1..).zip(expected)));
        assert_eq!(broken, None);
        for empty in ["[]", " [ ] \r\n"] {
            assert_eq!(always(Form::Array, 100, empty), (Vec::new(), None));
        }
    }

    #[test]
    fn what_cannot_be_skipped_ends_the_array_and_spoils_nothing_before() {
        let one = || numbered([(1, "1")]);
        for (text, found, broken) in [
            ("", Vec::new(), Broken::NoArray),
            ("{}", Vec::new(), Broken::NoArray),
            ("[,1]", Vec::new(), Broken::NoElement),
            ("[1,]", one(), Broken::NoElement),
            ("[1,,2]", one(), Broken::NoElement),
            ("[1,2", one(), Broken::NoEnd),
            ("[", Vec::new(), Broken::NoEnd),
            ("[1,\"]", one(), Broken::NoEnd),
            ("[1,{]},2]", one(), Broken::Closes),
            ("[1,}]", one(), Broken::Closes),
            ("[1]]", one(), Broken::Follows),
            ("[1],[2]", one(), Broken::Follows),
            ("[1,[[[[[[[[[[[", one(), Broken::TooDeep),
        ] {
            assert_eq!(always(Form::Array, 10, text), (found, Some(broken)), "{text}");
        }
    }

    #[test]
    fn what_an_element_has_open_takes_memory_too() {
        let mut splitter = Splitter::new(Form::Array, 1_000);
        let text = "[".repeat(1_000);
        assert_eq!(splitter.next(&mut text.as_bytes()), Ok(None));
        assert!(splitter.kept_bytes() >= 999 + 999, "{}", splitter.kept_bytes());
    }

    #[test]
    fn an_element_that_is_too_long_is_skipped_to_its_end() {
        let text = format!("[1,[\"{}]\"],{{}}]", "x".repeat(50));
        assert_eq!(always(Form::Array, 10, &text), (numbered([(1, "1"), (2, "TOO LONG"), (3, "{}")]), None));
    }
}
