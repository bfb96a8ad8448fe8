//! Makes inputs out of seeds: damages bytes, and knows enough of JSON, of the log and of URLs to
//! come past the first check.

use lockstream::random::Random;

/// Pieces that mean something to a reader.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"true",
    b"false",
    b" ",
    b"\t",
    b"\n",
    b"\r\n",
    b"\0",
    b"-",
    b"0",
    b"-0",
    b"1.5",
    b"1e999",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551615",
    b"99999999999999999999999999",
    b"01",
    b"\"\"",
    b"{}",
    b"[]",
    b"[[[[[[[[",
    b"]]]]]]]]",
    b"{\"a\":1,\"a\":2}",
    b"{\"a\":1,\"\\u0061\":2}",
    b",\"payload\":{}",
    b"\"event_id\":0,",
    b"\"compartment_id\":null,",
    b"\\ud800",
    b"\\udc00",
    b"\\ud83e\\udd80",
    b"\\u0000",
    b"\\u00e9",
    b"\\/",
    b"\\x",
    b"\xf0\x9f\xa6\x80",
    b"\xf0\x9f",
    b"\xed\xa0\x80",
    b"\xff",
    b"\xc2\x85",
    b"\xef\xbb\xbf",
    b"2024-02-29T23:59:60.5-23:59",
    b"CompartmentRegistered",
    b"FaultCleared",
    b"\"v\":1",
    b"\"v\":2",
    b"\"seq\":",
    b"\"batch\":",
    b",\"hash\":\"",
    b"\"recorded_at\":\"",
    b"{\"v\":1,\"seq\":7,\"batch\":7,\"recorded_at\":\"",
    b"{\"v\":1,\"seq\":9,\"batch\":9,\"recorded_at\":\"",
    b"postgres://",
    b"sqlite:",
    b"@",
    b"?",
    b"#",
    b"%",
    b"%2F",
    b"%zz",
    b"%00",
    b"&",
    b"=",
    b"sslmode=require",
    b"host=",
    b"options[",
    b"://",
    b"..",
    b"/",
    b"//",
    b";",
];

/// Single characters that readers often mistake for others.
const NEIGHBOURS: &[u8] = b" \t0129aAeEfFtTzZ+-._,:;/\\'\"[]{}";

pub struct Mutator<'s> {
    seeds: &'s [Vec<u8>],
    seed: u64,
}

impl<'s> Mutator<'s> {
    pub fn new(seeds: &'s [Vec<u8>], seed: u64) -> Self {
        assert!(!seeds.is_empty(), "there is something to begin with");
        Self { seeds, seed }
    }

    /// The input of a number: a seed, changed in one place or several.
    pub fn input(&self, number: u64) -> Vec<u8> {
        let mut random = Random::new(Random::new(self.seed ^ number.rotate_left(32)).number() ^ number);
        let mut input = self.any_seed(&mut random).clone();
        let changes = 1 + random.index(2) * random.index(6);
        for _ in 0..changes {
            self.change(&mut input, &mut random);
        }
        input
    }

    fn any_seed(&self, random: &mut Random) -> &'s Vec<u8> {
        &self.seeds[random.index(self.seeds.len())]
    }

    fn change(&self, input: &mut Vec<u8>, random: &mut Random) {
        let at = random.index(input.len() + 1);
        let longest = 1 + random.index(64);
        let end = at + random.index((input.len() - at).min(longest) + 1);
        match random.index(17) {
            0 if at < input.len() => input[at] ^= 1 << random.index(8),
            1 if at < input.len() => input[at] = u8::try_from(random.index(256)).unwrap(),
            2 if at < input.len() => input[at] = NEIGHBOURS[random.index(NEIGHBOURS.len())],
            15 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => copy(input, at..end, random),
            5 => {
                // The beginning of one seed, the end of another.
                let other = self.any_seed(random);
                input.truncate(at);
                input.extend_from_slice(&other[random.index(other.len() + 1)..]);
            }
            6 => wrap(input, random),
            7 => replace_word(input, random, |byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)),
            8 => replace_word(input, random, |byte| byte.is_ascii_alphanumeric()),
            9 => {
                if let Some(member) = member(input, random) {
                    copy(input, member, random);
                }
            }
            10 => {
                if let Some(member) = member(input, random) {
                    input.drain(member);
                }
            }
            11 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte =
                        if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                }
            }
            _ => insert(input, at, PIECES[random.index(PIECES.len())]),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

/// Copies a part to another place, or behind itself.
fn copy(input: &mut Vec<u8>, part: std::ops::Range<usize>, random: &mut Random) {
    let copied = input[part.clone()].to_vec();
    let at = if random.index(2) == 0 { part.end } else { random.index(input.len() + 1) };
    insert(input, at, &copied);
}

/// Puts a JSON value into arrays or objects, few or too many.
fn wrap(input: &mut Vec<u8>, random: &mut Random) {
    let Some(part) = value(input, random) else { return };
    let levels = [1, 2, 60, 61, 62, 63, 64, 65, 130, 300][random.index(10)];
    let (open, close): (&[u8], &[u8]) = if random.index(2) == 0 { (b"[", b"]") } else { (b"{\"k\":", b"}") };
    let wrapped = [open.repeat(levels), input[part.clone()].to_vec(), close.repeat(levels)].concat();
    input.splice(part, wrapped);
}

/// Puts a piece in the place of a word.
fn replace_word(input: &mut Vec<u8>, random: &mut Random, belongs: impl Fn(u8) -> bool) {
    let from = random.index(input.len() + 1);
    let Some(start) = input[from..].iter().position(|byte| belongs(*byte)).map(|at| from + at) else { return };
    let length = input[start..].iter().position(|byte| !belongs(*byte)).unwrap_or(input.len() - start);
    input.splice(start..start + length, PIECES[random.index(PIECES.len())].iter().copied());
}

/// A member of an object with its comma: from one `"` to the comma that follows it.
fn member(input: &[u8], random: &mut Random) -> Option<std::ops::Range<usize>> {
    let from = random.index(input.len() + 1);
    let start = from + input[from..].iter().position(|byte| *byte == b'"')?;
    let end = start + input[start..].iter().position(|byte| *byte == b',')? + 1;
    Some(start..end)
}

/// What stands behind a colon, up to the next comma or bracket.
fn value(input: &[u8], random: &mut Random) -> Option<std::ops::Range<usize>> {
    let from = random.index(input.len() + 1);
    let start = from + input[from..].iter().position(|byte| *byte == b':')? + 1;
    let length = input[start..].iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
    Some(start..start + length)
}
