#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::fmt::Write;

use super::*;

fn fails(text: &str) -> String {
    match parse("x.yaml", text) {
        Ok(_) => panic!("must not parse: {text:.100}"),
        Err(problems) => problems.to_string(),
    }
}

fn parses(text: &str) -> Node {
    parse("x.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn place(node: &Node) -> (u32, u32) {
    match node.at {
        At::File(line, column) => (line, column),
        At::Env(_) => panic!("from the environment"),
    }
}

#[test]
fn every_key_and_value_has_its_place() {
    let root = parses("a: 1\nb:\n  - x\n  - { c: \"y\" }\n# comment\nü: é\n");
    let b = root.get("b").unwrap();
    assert_eq!(b.at, At::File(2, 1));
    let Tree::List(items) = &b.value.tree else { panic!("a list") };
    assert_eq!(place(&items[0]), (3, 5));
    let c = items[1].get("c").unwrap();
    assert_eq!(c.at, At::File(4, 7));
    assert_eq!(place(&c.value), (4, 10));
    assert!(matches!(&c.value.tree, Tree::Scalar(text, Style::Quoted) if text == "y"));
    assert_eq!(place(&root.get("ü").unwrap().value), (6, 4));
}

#[test]
fn empty_texts_are_null() {
    for text in ["", "\n\n", "# only a comment\n", "---\n", "~", "null"] {
        assert!(parses(text).is_null(), "{text:?}");
    }
}

#[test]
fn byte_order_mark_and_crlf_are_read() {
    let root = parses("\u{feff}a: 1\r\nb: two\r\n");
    assert!(matches!(&root.get("b").unwrap().value.tree, Tree::Scalar(text, Style::Plain) if text == "two"));
    assert_eq!(root.get("a").unwrap().at, At::File(1, 1));
    assert_eq!(root.get("b").unwrap().at, At::File(2, 1));
}

#[test]
fn aliases_are_copies() {
    let root = parses("a: &x { k: 1 }\nb: *x\n");
    assert!(root.get("b").unwrap().value.get("k").is_some());
}

#[test]
fn all_duplicates_are_named_with_both_lines() {
    assert_eq!(
        fails("a: 1\nb: { c: 1, c: 2 }\na: 2\na: 3\n"),
        "x.yaml:2:12: the key c stands twice in one block, first on line 2\n\
         x.yaml:3:1: the key a stands twice in one block, first on line 1\n\
         x.yaml:4:1: the key a stands twice in one block, first on line 1"
    );
}

#[test]
fn what_is_not_supported_is_said() {
    for (text, message) in [
        ("a: &x {}\nb:\n  <<: *x\n", "x.yaml:3:3: merge keys (<<) are not supported: write the keys out"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2:1: only one document is allowed in a file; a second one starts here"),
        ("? [a]\n: 1\n", "x.yaml:1:3: a key must be text, not a list or a block"),
        (": 1\n", "x.yaml:1:1: a key is missing before the colon"),
        ("a: !ruby x\n", "x.yaml:1:4: tags (!name) are not supported"),
        ("a: &x [*x]\n", "x.yaml:1:8: an alias must not stand inside of what it names"),
    ] {
        assert_eq!(fails(text), message);
    }
}

#[test]
fn syntax_errors_have_a_place_and_no_text_of_the_file() {
    for text in [
        "a: hunter2\n\tb: hunter2\n",
        "password: 'hunter2\n",
        "password: \"hunter2\\q\"\n",
        "password: [hunter2\n",
        "password: {hunter2\n",
        "password: @hunter2\n",
        "password: %hunter2\n",
        "a: hunter2: hunter2\n",
        "- hunter2\nhunter2: 1\n",
        "a: *hunter2\n",
        "a: |\n  hunter2\n hunter2\n",
        "a: hunter2\u{0}\n",
        "a: \u{1}hunter2\n",
    ] {
        let message = fails(text);
        assert!(message.starts_with("x.yaml:"), "{message}");
        assert!(message.split(':').nth(2).unwrap().parse::<usize>().unwrap() > 0, "{message}");
        assert!(!message.contains("hunter"), "{message}");
    }
}

#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
        writeln!(laughs, "a{i}: &a{i} [{aliases}]").unwrap();
    }
    assert!(fails(&laughs).contains("too large: more than 1000000 values"), "{}", fails(&laughs));

    let mut long = format!("a: &a \"{}\"\nb:\n", "x".repeat(1 << 20));
    (0..100).for_each(|_| long.push_str("  - *a\n"));
    assert!(fails(&long).contains("MiB of text once aliases are expanded"));

    // Anchors inside of anchors are copies too.
    let anchors: String = (0..60).map(|i| format!("&n{i} [")).collect();
    let nested = format!("{anchors}{}{}", "x, ".repeat(100_000), "]".repeat(60));
    assert!(fails(&nested).contains("too large"));

    assert_eq!(fails(&"[".repeat(1_000_000)), "x.yaml:1:256: nested deeper than 64 levels");
    assert_eq!(fails(&"- ".repeat(1_000)), "x.yaml:1:129: nested deeper than 64 levels");
    assert_eq!(fails(&"a: {".repeat(100)).split(": ").nth(1).unwrap(), "nested deeper than 64 levels");
    assert_eq!(fails(&" ".repeat(MAX_TEXT + 1)), "x.yaml: the file is larger than 16 MiB");
    assert!(fails(&"- \n".repeat(1_000_001)).contains("too large"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-z0-9:{}\\[\\]&*!|>'\"%@`#,?~\\-\\t \\n\u{0}\u{feff}é]{0,200}") {
        if let Err(problems) = parse("x.yaml", &text) {
            proptest::prop_assert!(!problems.0.is_empty());
            proptest::prop_assert!(problems.0.iter().all(|p| !matches!(p.place, crate::Place::Env(_))));
        }
    }
}
