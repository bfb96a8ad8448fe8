//! Cuts a stream of bytes into the texts of events: the lines of NDJSON, or the elements of one JSON
//! array.
//!
//! Sees only where a text ends, not what is in it, so that one that is wrong spoils only itself. It
//! keeps at most the beginning of one text; of one that is too long it keeps nothing.

mod array;

use crate::domain::event::split::array::Array;

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
        Self { form, max_bytes, kept: Vec::new(), told: false, too_long: false, number: 0, array: Array::default() }
    }

    /// The number of the text that was cut off last, from 1 on: its line, or its place in the array.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The memory that the beginning of a text has, and what has to be known of it.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.capacity() + self.array.kept_bytes()
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
        match self.form {
            Form::Array => self.array.finish().map(|()| None),
            Form::Lines if !self.too_long && self.kept.iter().all(u8::is_ascii_whitespace) => Ok(None),
            Form::Lines => {
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

#[cfg(test)]
mod tests;
