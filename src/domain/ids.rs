//! Identifiers and the sequence: small values that are valid by construction.
//!
//! Lockers, compartments and reservations are named by the operator's own text, compared exactly:
//! no case folding, no Unicode normalisation, no trimming. Events are named by a UUID.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use smol_str::SmolStr;
use uuid::Uuid;

/// The longest identifier that is accepted, in characters (Unicode scalar values).
pub const MAX_ID_CHARS: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("must not be empty: an identifier has 1 to {MAX_ID_CHARS} characters")]
    Empty,
    #[error("is too long: an identifier has 1 to {MAX_ID_CHARS} characters")]
    TooLong,
    #[error("must not contain control characters")]
    ControlCharacter,
}

fn check_text(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    // A character has at most four bytes, so only texts in between need counting.
    if text.len() > MAX_ID_CHARS && text.chars().nth(MAX_ID_CHARS).is_some() {
        return Err(IdError::TooLong);
    }
    // Most are ASCII, where the control characters are few.
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
    if !text.as_bytes().iter().all(is_plain) && text.chars().any(char::is_control) {
        return Err(IdError::ControlCharacter);
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 128 characters, no control characters, compared exactly. Cheap to clone, and cheap to
        /// compare: up to 23 bytes lie here, and not behind a pointer.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks the text; the error says what is wrong with it.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_text(text).map(|()| Self(SmolStr::new(text)))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text by itself; a long one is shared and not copied.
            #[must_use]
            pub fn to_shared(&self) -> Arc<str> {
                self.0.clone().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

text_id! {
    /// Names a locker: one whole cabinet.
    LockerId
}
text_id! {
    /// Names a compartment: one door, within its locker.
    CompartmentId
}
text_id! {
    /// Names a reservation, across all lockers and for ever.
    ReservationId
}

/// Names an event; chosen by the device, so that a repeated delivery is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct EventId(Uuid);

impl EventId {
    /// Accepts the hyphenated form of RFC 9562 only, in either case; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const HYPHENATED_BYTES: usize = 36;
        if text.len() != HYPHENATED_BYTES {
            return None;
        }
        Uuid::try_parse(text).ok().map(Self)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a record in the log: 1 for the first, without gaps. Zero stands before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Sequence(u64);

impl Sequence {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters_not_bytes() {
        assert!(LockerId::parse(&"🦀".repeat(128)).is_ok());
        assert_eq!(LockerId::parse(&"🦀".repeat(129)), Err(IdError::TooLong));
        assert_eq!(LockerId::parse(&"x".repeat(129)), Err(IdError::TooLong));
        assert_eq!(LockerId::parse(""), Err(IdError::Empty));
    }

    #[test]
    fn control_characters_are_refused_wherever_unicode_has_them() {
        for control in ["\0", "a\nb", "\u{7f}", "\u{85}"] {
            assert_eq!(CompartmentId::parse(control), Err(IdError::ControlCharacter));
        }
    }

    #[test]
    fn comparison_is_exact() {
        assert_ne!(LockerId::parse("a"), LockerId::parse("A"));
        assert_ne!(LockerId::parse("a"), LockerId::parse("a "));
        assert_ne!(LockerId::parse("\u{e9}"), LockerId::parse("e\u{301}"));
    }

    #[test]
    fn an_event_id_is_a_hyphenated_uuid_in_either_case() {
        let lower = EventId::parse("01890a5d-ac96-774b-bcce-b302099a8057");
        assert!(lower.is_some());
        assert_eq!(lower, EventId::parse("01890A5D-AC96-774B-BCCE-B302099A8057"));
        for wrong in ["", "01890a5dac96774bbcceb302099a8057", "{01890a5d-ac96-774b-bcce-b302099a8057}"] {
            assert_eq!(EventId::parse(wrong), None, "{wrong}");
        }
    }
}
