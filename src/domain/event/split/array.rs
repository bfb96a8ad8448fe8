//! Where the elements of a JSON array begin and end.

use super::Broken;

/// Where in the array the stream stands.
#[derive(Debug, Default)]
pub(super) struct Array {
    place: Place,
    /// The brackets that the element has open.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
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
    pub(super) fn element(&mut self, input: &[u8], max_open: usize) -> Result<(usize, Option<usize>), Broken> {
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

    /// Whether the stream may end here.
    pub(super) const fn finish(&self) -> Result<(), Broken> {
        match self.place {
            Place::After => Ok(()),
            Place::Before => Err(Broken::NoArray),
            Place::First | Place::Next | Place::Inside => Err(Broken::NoEnd),
        }
    }

    pub(super) const fn kept_bytes(&self) -> usize {
        self.open.capacity()
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
