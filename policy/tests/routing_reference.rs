//! The fast router answers as the plain reading of the rules does: of all routes that match, the most specific one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Reverse;

use edgequota_policy::{
    Caller, Policy, PolicySpec, RequestView,
    spec::{HeaderMatchSpec, MatchSpec, RouteSpec},
};
use http::{HeaderMap, HeaderValue, Method};
use proptest::{prelude::*, sample::select};

#[derive(Debug)]
struct Asked {
    method: Method,
    host: String,
    path: String,
    headers: HeaderMap,
}

/// Larger is more specific: host class, host length, path class, path length, conditions.
type Rank = (u8, usize, u8, usize, usize);

fn host_rank(hosts: &[String], host: &str) -> Option<(u8, usize)> {
    if hosts.is_empty() {
        return Some((0, 0));
    }
    hosts
        .iter()
        .filter_map(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => host.ends_with(&format!(".{suffix}")).then_some((1, suffix.len())),
            None => (pattern == host).then_some((2, 0)),
        })
        .max()
}

fn path_rank(m: &MatchSpec, path: &str) -> Option<(u8, usize)> {
    if !m.path_exact.is_empty() {
        return (m.path_exact == path).then_some((3, 0));
    }
    if !m.path_prefix.is_empty() {
        let wanted: Vec<&str> = m.path_prefix.split('/').filter(|s| !s.is_empty()).collect();
        let given: Vec<&str> = path.split('/').skip(1).collect();
        return given.starts_with(&wanted).then_some((2, m.path_prefix.trim_end_matches('/').len()));
    }
    if !m.path_regex.is_empty() {
        let regex = regex_automata::meta::Regex::new(&format!("^(?:{})$", m.path_regex)).unwrap();
        return regex.is_match(path).then_some((1, m.path_regex.len()));
    }
    Some((0, 0))
}

fn conditions(m: &MatchSpec, asked: &Asked) -> Option<usize> {
    let method = m.methods.is_empty() || m.methods.iter().any(|x| x == asked.method.as_str());
    let headers = m.headers.iter().all(|h| {
        let lines: Vec<&HeaderValue> = asked.headers.get_all(h.name.as_str()).iter().collect();
        match (&h.exact, h.present) {
            (Some(value), _) => lines.len() == 1 && lines[0] == value,
            (None, present) => lines.is_empty() != present.unwrap(),
        }
    });
    (method && headers).then_some(usize::from(!m.methods.is_empty()) + m.headers.len())
}

fn reference<'s>(spec: &'s PolicySpec, asked: &Asked) -> Option<&'s str> {
    let rank = |m: &MatchSpec| -> Option<Rank> {
        let (host, host_length) = host_rank(&m.hosts, &asked.host)?;
        let (path, path_length) = path_rank(m, &asked.path)?;
        Some((host, host_length, path, path_length, conditions(m, asked)?))
    };
    let mut matching: Vec<(Rank, &str)> =
        spec.routes.iter().filter_map(|r| Some((rank(&r.r#match)?, r.name.as_str()))).collect();
    matching.sort_by_key(|(rank, _)| Reverse(*rank));
    if let [first, second, ..] = matching.as_slice() {
        assert_ne!(first.0, second.0, "{} and {} should have been refused", first.1, second.1);
    }
    matching.first().map(|(_, name)| *name)
}

fn routed(policy: &Policy, asked: &Asked) -> Option<String> {
    let caller = Caller { peer: "10.0.0.1".parse().unwrap(), trusted_proxies: &[] };
    let request =
        RequestView { method: &asked.method, host: &asked.host, path: &asked.path, headers: &asked.headers, caller };
    policy.route(&request).unwrap().route.map(|name| name.to_string())
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(select(vec!["a", "b", "ab", "1", ""]), 0..4).prop_map(|segments| {
        let text = format!("/{}", segments.into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("/"));
        text
    })
}

fn any_match() -> impl Strategy<Value = MatchSpec> {
    let hosts = prop::collection::vec(select(vec!["x.y.z", "y.z", "*.y.z", "*.z", "w"]), 0..3);
    let regexes = vec!["/a/.*", "/[ab]+", "/[ab]+/1", "/(a|b)/.+", ".*/1", "/a.{2}/?[ab1]*", "/.*"];
    let path = prop_oneof![
        Just((0, String::new())),
        any_path().prop_map(|p| (1, p)),
        any_path().prop_map(|p| (2, p)),
        select(regexes).prop_map(|p| (3, p.to_owned())),
    ];
    let methods = prop::collection::vec(select(vec!["GET", "POST", "PUT"]), 0..2);
    let header = (select(vec!["x-a", "x-b"]), 0..4u8).prop_map(|(name, kind)| HeaderMatchSpec {
        name: name.into(),
        exact: (kind < 2).then(|| kind.to_string()),
        present: (kind >= 2).then_some(kind == 2),
    });
    (hosts, path, methods, prop::collection::vec(header, 0..2)).prop_map(|(hosts, (kind, path), methods, headers)| {
        let path_of = |k| {
            if kind == k { path.clone() } else { String::new() }
        };
        MatchSpec {
            hosts: hosts.into_iter().map(String::from).collect(),
            path_exact: path_of(1),
            path_prefix: path_of(2),
            path_regex: path_of(3),
            methods: methods.into_iter().map(String::from).collect(),
            headers,
        }
    })
}

fn any_request() -> impl Strategy<Value = Asked> {
    let host = select(vec!["x.y.z", "y.z", "q.y.z", "a.b.y.z", "r.z", "z", "w", ""]);
    let slash = any::<bool>();
    let headers = prop::collection::vec((select(vec!["x-a", "x-b"]), select(vec!["0", "1", "2"])), 0..3);
    let method = select(vec![Method::GET, Method::POST, Method::PUT, Method::DELETE]);
    (host, any_path(), slash, headers, method).prop_map(|(host, path, slash, lines, method)| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        let path = if slash && path != "/" { format!("{path}/") } else { path };
        Asked { method, host: host.into(), path, headers }
    })
}

/// Leaves out every route that is refused beside the ones before it.
fn accepted(matches: Vec<MatchSpec>) -> PolicySpec {
    let mut spec = PolicySpec::default();
    spec.backend.url = "http://backend".into();
    for (i, m) in matches.into_iter().enumerate() {
        spec.routes.push(RouteSpec { name: format!("r{i}"), r#match: m, ..RouteSpec::default() });
        let problems = spec.problems();
        if !problems.is_empty() {
            assert!(problems[0].message.contains("equally specific"), "{problems:?}");
            spec.routes.pop();
        }
    }
    spec
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_router_finds_the_most_specific_route(
        matches in prop::collection::vec(any_match(), 1..14),
        requests in prop::collection::vec(any_request(), 30)
    ) {
        let spec = accepted(matches);
        let policy = Policy::compile(&spec).unwrap();
        for asked in &requests {
            let found = routed(&policy, asked);
            prop_assert_eq!(
                found.as_deref(), reference(&spec, asked),
                "{} {} {} {:?} in {:#?}", asked.method, asked.host, asked.path, asked.headers, spec.routes
            );
        }
    }

    #[test]
    fn many_routes_that_conditions_tell_apart_are_found(
        matches in prop::collection::vec(any_match(), 30..60),
        requests in prop::collection::vec(any_request(), 30)
    ) {
        // All on one path, so that the conditions decide.
        let on_one_path = matches.into_iter().map(|m| MatchSpec {
            hosts: Vec::new(), path_exact: String::new(), path_regex: String::new(), path_prefix: "/".into(), ..m
        });
        let spec = accepted(on_one_path.collect());
        let policy = Policy::compile(&spec).unwrap();
        for asked in &requests {
            let found = routed(&policy, asked);
            prop_assert_eq!(found.as_deref(), reference(&spec, asked), "{:?} in {:#?}", asked, spec.routes);
        }
    }

    #[test]
    fn the_order_of_routes_does_not_matter(
        matches in prop::collection::vec(any_match(), 1..10),
        requests in prop::collection::vec(any_request(), 20)
    ) {
        let spec = accepted(matches);
        let mut turned = spec.clone();
        turned.routes.reverse();
        let (policy, turned) = (Policy::compile(&spec).unwrap(), Policy::compile(&turned).unwrap());
        for asked in &requests {
            prop_assert_eq!(routed(&policy, asked), routed(&turned, asked));
        }
    }
}
