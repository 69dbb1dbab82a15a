#![allow(clippy::unwrap_used)]
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

fn fields(text: &str) -> Fields {
    let head = Bytes::copy_from_slice(text.as_bytes());
    let mut lines = [httparse::EMPTY_HEADER; 32];
    let (_, lines) = httparse::parse_headers(&head, &mut lines).unwrap().unwrap();
    let mut fields = Fields::parsed(head.clone());
    for line in lines {
        fields.came(line.name.as_bytes(), line.value);
    }
    fields
}

fn written(fields: &Fields, without: Names) -> String {
    let mut out = Vec::new();
    fields.write_to(&mut out, without);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_not_touched_goes_out_as_it_came() {
    let text = "Host: a\r\nX-oDD: 1\r\ncontent-type: x; y=\"z\"\r\nEmpty: \r\n";
    assert_eq!(written(&fields(&format!("{text}\r\n")), Names::NONE), text);
}

#[test]
fn white_space_around_values_is_made_regular() {
    assert_eq!(
        written(&fields("A:b\r\nB:   c  \r\nC: d\r\nD:\r\n\r\n"), Names::NONE),
        "A: b\r\nB: c\r\nC: d\r\nD: \r\n"
    );
}

#[test]
fn lines_are_removed_added_and_replaced() {
    let mut fields = fields("Host: a\r\nTE: x\r\nX-A: 1\r\nte: y\r\nx-a: 2\r\nDate: now\r\n\r\n");
    assert_eq!(fields.all(Known::Te).collect::<Vec<_>>(), [b"x", b"y"]);
    fields.remove(HOP_BY_HOP);
    assert!(!fields.has(Known::Te));
    fields.remove_named(b"X-a");
    fields.put(Known::Date, b"then");
    fields.put_number(Known::RetryAfter, 7);
    fields.put_number(Known::RetryAfter, 8);
    assert_eq!(written(&fields, Names::NONE), "Host: a\r\nDate: then\r\nRetry-After: 8\r\n");
    assert_eq!(written(&fields, Names::of(&[Known::Host])), "Date: then\r\nRetry-After: 8\r\n");
    assert_eq!(fields.keep(Known::Host).unwrap(), "a");
    assert_eq!(fields.keep(Known::Date).unwrap(), "then");
    fields.remove_named(b"hOST");
    assert_eq!((fields.len(), fields.get(Known::Host)), (2, None));
}

#[test]
fn every_known_name_is_known_in_any_case() {
    for name in ["Host", "TE", "X-RateLimit-Remaining", "grpc-status", "Proxy-Authenticate", "X-Forwarded-Proto"] {
        assert_eq!(Known::of(name.as_bytes()).text(), name);
        assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()).text(), name);
    }
    for name in ["", "Hos", "Hosts", "X-Anything-That-Is-Longer-Than-All", "T\u{17f}"] {
        assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
    }
}

proptest! {
    /// The same questions have the same answers in both forms.
    #[test]
    fn it_is_a_map(lines in proptest::collection::vec((0usize..6, "[a-z]{0,5}"), 0..12), removed in 0usize..6) {
        const NAMES: [&str; 6] = ["host", "x-forwarded-for", "x-other", "te", "connection", "x-y"];
        let mut map = HeaderMap::new();
        let mut text = String::new();
        for (name, value) in &lines {
            map.append(NAMES[*name], HeaderValue::from_str(value).unwrap());
            text.push_str(&format!("{}: {value}\r\n", NAMES[*name].to_ascii_uppercase()));
        }
        let mut ours = fields(&format!("{text}\r\n"));
        for round in 0..2 {
            for name in NAMES {
                let name = HeaderName::from_static(name);
                for nth in 0..4 {
                    prop_assert_eq!(ours.line(&name, nth), map.line(&name, nth), "{} {}", round, name);
                }
            }
            prop_assert_eq!(&ours.to_map(), &map);
            prop_assert_eq!(&Fields::from_map(&map).to_map(), &map);
            map.remove(NAMES[removed]);
            ours.remove_named(NAMES[removed].to_ascii_uppercase().as_bytes());
        }
    }
}
