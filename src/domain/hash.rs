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
                let digits = hex(&self.0);
                f.write_str(std::str::from_utf8(&digits).expect("hex digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
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
    std::array::from_fn(|at| {
        let byte = bytes[at / 2];
        DIGITS[usize::from(if at % 2 == 0 { byte >> 4 } else { byte & 15 })]
    })
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

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
