//! What is JSON, and how it is spelled.

use super::*;

fn compacted(text: &str) -> String {
    compact(text.as_bytes()).expect("valid").as_str().to_owned()
}

fn pointers(text: &str) -> Vec<String> {
    compact(text.as_bytes()).expect_err("a problem").into_iter().map(|problem| problem.pointer).collect()
}

#[test]
fn only_white_space_outside_strings_goes() {
    let text = " { \"b\" : [ 1 , 2.50e+1 , { } , \" a \\\" b \" ] ,\r\n\t\"a\":null, \"\\u0061b\" : -0 } ";
    assert_eq!(compacted(text), r#"{"b":[1,2.50e+1,{}," a \" b "],"a":null,"\u0061b":-0}"#);
    assert_eq!(compacted("\"x\""), "\"x\"");
    assert_eq!(compacted(" 1e999 "), "1e999", "numbers beyond any type keep their spelling");
}

#[test]
fn repeated_keys_are_found_at_any_depth_and_however_spelled() {
    assert_eq!(pointers(r#"{"a":1,"\u0061":2}"#), ["/a"]);
    assert_eq!(pointers(r#"{"x":[0,{"a/b":1,"a/b":2,"a/b":3}]}"#), ["/x/1/a~1b"]);
    assert_eq!(pointers(r#"{"o":{"k":1,"k":1},"p":1,"p":2}"#), ["/o/k", "/p"]);
    assert_eq!(compacted(r#"{"a":{"a":1},"b":{"a":1}}"#), r#"{"a":{"a":1},"b":{"a":1}}"#);
}

#[test]
fn many_keys_cost_no_more_than_few() {
    let members = |count: usize| (0..count).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",");
    assert!(compact(format!("{{{}}}", members(20_000)).as_bytes()).is_ok());
    assert_eq!(pointers(&format!("{{{},\"k7\":1,\"k7\":2}}", members(20_000))), ["/k7"]);
}

#[test]
fn the_list_of_problems_ends_somewhere() {
    let members = (0..5_000).map(|n| format!("\"k{n}\":0,\"k{n}\":0")).collect::<Vec<_>>().join(",");
    assert_eq!(pointers(&format!("{{{members}}}")).len(), MAX_PROBLEMS);
}

#[test]
fn long_keys_do_not_make_long_lists() {
    let surrogates = [r#""\ud800""#; 110].join(",");
    let found = pointers(&format!(r#"{{"{}":[{surrogates}]}}"#, "~".repeat(20_000)));
    assert_eq!(found, [""], "one pointer of 40 kB is enough, and is told by what is around it");
    let inner = format!(r#"{{"a/b":{{"{}":["\ud800"]}}}}"#, "x".repeat(20_000));
    assert_eq!(pointers(&inner), ["/a~1b"]);
    let found = pointers(&format!(r#"{{"{}":[{surrogates}]}}"#, "~".repeat(100)));
    assert!((60..MAX_PROBLEMS).contains(&found.len()), "{}", found.len());
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(compact(nested(MAX_DEPTH).as_bytes()).is_ok());
    let problems = compact(nested(MAX_DEPTH + 1).as_bytes()).expect_err("too deep");
    assert_eq!(problems[0].pointer, "/0".repeat(MAX_DEPTH));
    assert!(compact(nested(30_000).as_bytes()).is_err());
    let behind = format!(r#"{{"x":{},"k":1,"y":["]"],"k":2}}"#, nested(MAX_DEPTH).replacen("[]", r#"["]\""]"#, 1));
    let deep = format!("/x{}", "/0".repeat(MAX_DEPTH - 1));
    assert_eq!(pointers(&behind), [deep.as_str(), "/k"], "what comes behind is seen");
}

#[test]
fn what_is_not_unicode_is_refused() {
    assert_eq!(pointers(r#"{"a":["\ud800"]}"#), ["/a/0"]);
    assert_eq!(pointers(r#"{"\udc00x":1}"#), [r"/\udc00x"]);
    assert_eq!(compacted(r#""\ud83e\udd80""#), r#""\ud83e\udd80""#);
    assert!(compact(b"\"\xff\"").is_err());
}

#[test]
fn what_is_not_json_says_where() {
    let problems = compact(b"{\"a\":}").expect_err("not JSON");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].detail.contains("line 1 column 6"), "{}", problems[0].detail);
    for wrong in [&b""[..], b"{} {}", b"\xef\xbb\xbf{}", b"{'a':1}", b"[1,]", b"nul", b"01"] {
        assert!(compact(wrong).is_err(), "{wrong:?}");
    }
}
