//! Lines and elements, however their bytes arrive.

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
