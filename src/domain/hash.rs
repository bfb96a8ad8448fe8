//! The two hashes that the service states: of a history and of a locker's state.
//!
//! Both are SHA-256 digests, written as 64 lower-case hex digits; two types, so that one is never
//! taken for the other.

use std::borrow::Cow;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name([u8; 32]);

        impl $name {
            #[must_use]
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Reads 64 lower-case hex digits; `None` for anything else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                parse_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(as_text(&hex(&self.0)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(as_text(&hex(&self.0)))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| D::Error::custom("a hash has 64 lower-case hex digits"))
            }
        }
    };
}

hash_type! {
    /// The hash of a record's line, which commits to every record before it. All zero before the
    /// first.
    ChainHash
}
hash_type! {
    /// The hash of everything that can be said about a locker; see
    /// [`state_hash`](crate::domain::state_hash).
    StateHash
}

/// 64 lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

fn as_text(digits: &[u8; 64]) -> &str {
    std::str::from_utf8(digits).expect("hex digits are ASCII")
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let (mut bytes, mut all) = ([0; 32], 0);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| HEX_VALUES[usize::from(digit)]);
        *byte = high << 4 | low & 15;
        all |= high | low;
    }
    (all < 16).then_some(bytes)
}

/// What each byte is worth as a lower-case hex digit; more than any digit for those that are none.
const HEX_VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_what_it_writes_and_nothing_else() {
        let hash = ChainHash::new(std::array::from_fn(|n| u8::try_from(n * 7 + 3).expect("below 256")));
        let text = hash.to_string();
        assert!(text.starts_with("030a11181f"), "{text}");
        assert_eq!(ChainHash::parse(&text), Some(hash));
        assert_eq!(ChainHash::parse(&text.to_uppercase()), None);
        assert_eq!(ChainHash::parse(&text[..62]), None);
        assert_eq!(ChainHash::parse(&text.replace("0a", "0g")), None);
    }

    #[test]
    fn in_json_a_hash_is_its_digits() {
        let hash = StateHash::new([10; 32]);
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json, format!("\"{}\"", "0a".repeat(32)));
        assert_eq!(serde_json::from_str::<StateHash>(&json).unwrap(), hash);
        let error = serde_json::from_str::<StateHash>(&json.to_uppercase()).unwrap_err().to_string();
        assert!(error.contains("64 lower-case hex digits"), "{error}");
    }
}
