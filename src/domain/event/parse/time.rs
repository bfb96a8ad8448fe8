//! Whether a text is a time as RFC 3339 spells it.

use chrono::DateTime;

/// RFC 3339 section 5.6, `date-time`: narrower than what chrono reads, which also takes a space
/// for the `T` and signs beyond ASCII.
pub fn is_rfc3339_date_time(text: &str) -> bool {
    is_usual_date_time(text.as_bytes())
        || (text.is_ascii()
            && matches!(text.as_bytes().get(10), Some(b'T' | b't'))
            && DateTime::parse_from_rfc3339(text).is_ok())
}

/// Whether a text is one of the spellings that devices use, which need no library to be understood:
/// whole seconds or a few digits of their fraction, in UTC or with an offset.
fn is_usual_date_time(text: &[u8]) -> bool {
    let Some((date_time, rest)) = text.split_first_chunk::<19>() else { return false };
    let number = |at: usize| two_digits(&date_time[at..]);
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| date_time[*at] != *byte) || number(0).is_none() || number(2).is_none() {
        return false;
    }
    // Days that only some months have are left to the library.
    let is_within = |at: usize, least: u8, most: u8| number(at).is_some_and(|value| (least..=most).contains(&value));
    if !(is_within(5, 1, 12)
        && is_within(8, 1, 28)
        && is_within(11, 0, 23)
        && is_within(14, 0, 59)
        && is_within(17, 0, 59))
    {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    match rest {
        b"Z" => true,
        [b'+' | b'-', hour @ .., b':', _, _] if hour.len() == 2 => {
            two_digits(hour).is_some_and(|hour| hour < 24) && two_digits(&rest[4..]).is_some_and(|minute| minute < 60)
        }
        _ => false,
    }
}

/// The number that two digits at the beginning of a text make.
fn two_digits(text: &[u8]) -> Option<u8> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..] => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_times_are_known_without_the_library_and_no_others() {
        let usual = ["2026-11-21T08:00:00Z", "2026-11-21T23:59:59.123+01:00", "0000-01-01T00:00:00.123456789-23:59"];
        for text in usual {
            assert!(is_usual_date_time(text.as_bytes()), "{text}");
            for at in 0..text.len() {
                for byte in b"0123456789:-+.TtZz /:;\xc3" {
                    let mut other = text.as_bytes().to_vec();
                    other[at] = *byte;
                    let known = |bytes: &[u8]| {
                        std::str::from_utf8(bytes).is_ok_and(|text| DateTime::parse_from_rfc3339(text).is_ok())
                    };
                    assert!(!is_usual_date_time(&other) || known(&other), "{:?}", String::from_utf8_lossy(&other));
                    for shorter in [&other[..at], &other[at..]] {
                        assert!(
                            !is_usual_date_time(shorter) || known(shorter),
                            "{:?}",
                            String::from_utf8_lossy(shorter)
                        );
                    }
                }
            }
        }
        for rare in ["2026-11-31T08:00:00Z", "2024-02-29T08:00:00Z", "2026-11-21t08:00:00z", "2016-12-31T23:59:60Z"] {
            assert!(!is_usual_date_time(rare.as_bytes()), "left to the library: {rare}");
        }
    }
}
