//! The sizes of DESIGN 4: 10,000 routes (7,000 host + prefix, 2,900 exact, 100 regex) and 100,000 overrides must compile
//! in less than a second and match in less than a microsecond.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::cast_possible_wrap)]

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use edgequota_policy::{
    Caller, Policy, PolicySpec, RequestView,
    spec::{KeyType, LimitSpec, MatchSpec, NamedBackendSpec, OverrideSpec, RouteSpec},
};
use http::{HeaderMap, HeaderValue, Method};

const HOSTS: usize = 700;
const PREFIXES: usize = 10;
const EXACT: usize = 2_900;
const REGEXES: usize = 100;
const OVERRIDES: usize = 100_000;

fn route(name: String, r#match: MatchSpec, own_limit: bool) -> RouteSpec {
    let rate_limit = own_limit.then(|| LimitSpec { average: Some(100), ..LimitSpec::default() });
    RouteSpec { name, r#match, rate_limit, backend: "b7".into(), ..RouteSpec::default() }
}

fn spec() -> PolicySpec {
    let mut spec = PolicySpec::default();
    spec.backend.url = "http://default".into();
    spec.rate_limit.average = 1_000;
    spec.rate_limit.key_strategy.r#type = KeyType::Header;
    spec.rate_limit.key_strategy.header_name = "X-Tenant-Id".into();
    spec.backends = (0..50)
        .map(|i| NamedBackendSpec { name: format!("b{i}"), url: format!("http://b{i}"), ..Default::default() })
        .collect();
    for i in 0..HOSTS * PREFIXES {
        let host = format!("tenant-{}.example.com", i / PREFIXES);
        let prefix = format!("/v1/service-{}", i % PREFIXES);
        let r#match = MatchSpec { hosts: vec![host], path_prefix: prefix, ..MatchSpec::default() };
        spec.routes.push(route(format!("host-{i}"), r#match, i % 2 == 0));
    }
    for i in 0..EXACT {
        let r#match = MatchSpec { path_exact: format!("/pages/section-{}/page-{i}", i % 40), ..MatchSpec::default() };
        spec.routes.push(route(format!("exact-{i}"), r#match, false));
    }
    for i in 0..REGEXES {
        let pattern = format!("/users/[0-9]+/(orders|invoices)/[a-z0-9-]+/item-{i:03}");
        let r#match = MatchSpec { path_regex: pattern, ..MatchSpec::default() };
        spec.routes.push(route(format!("regex-{i}"), r#match, false));
    }
    spec.overrides = (0..OVERRIDES / 10)
        .map(|i| OverrideSpec {
            keys: (0..10).map(|j| format!("tenant-{}", i * 10 + j)).collect(),
            limit: if i % 2 == 0 { "default".into() } else { format!("host-{}", (i * 2) % (HOSTS * PREFIXES)) },
            average: Some(50 + i as i64 % 100),
            ..OverrideSpec::default()
        })
        .collect();
    spec.resolved()
}

fn compile(c: &mut Criterion) {
    let spec = spec();
    let bytes = spec.canonical();
    println!("canonical form: {} bytes", bytes.len());
    let mut group = c.benchmark_group("10,000 routes and 100,000 overrides");
    group.sample_size(10).measurement_time(Duration::from_secs(4));
    group.bench_function("compile", |b| {
        b.iter_batched(|| (), |()| Policy::compile(black_box(&spec)).unwrap(), BatchSize::PerIteration);
    });
    group.bench_function("write canonical", |b| b.iter(|| spec.canonical()));
    group.bench_function("read canonical", |b| b.iter(|| PolicySpec::from_canonical(black_box(&bytes)).unwrap()));
    group.finish();
}

fn matching(c: &mut Criterion) {
    let policy = Policy::compile(&spec()).unwrap();
    let mut headers = HeaderMap::new();
    for name in ["host", "accept", "user-agent", "x-request-id"] {
        headers.insert(name, HeaderValue::from_static("x"));
    }
    headers.insert("x-tenant-id", HeaderValue::from_static("tenant-77770"));
    let mut group = c.benchmark_group("match");
    for (name, host, path, expected) in [
        ("host + prefix", "tenant-421.example.com", "/v1/service-3/items/42", Some("host-4213")),
        ("exact", "www.example.com", "/pages/section-1/page-1201", Some("exact-1201")),
        ("exact below a host table", "tenant-421.example.com", "/pages/section-1/page-1201", Some("exact-1201")),
        ("regex", "www.example.com", "/users/12345/orders/2026-11-x/item-077", Some("regex-77")),
        ("nothing", "www.example.com", "/users/12345/orders/2026-11-x/other/deep/path", None),
    ] {
        let caller = Caller { peer: [10, 0, 0, 1].into(), trusted_proxies: &[] };
        let request = RequestView { method: &Method::GET, host, path, headers: &headers, caller };
        assert_eq!(policy.route(&request).unwrap().route.map(|name| &**name), expected);
        group.bench_function(name, |b| b.iter(|| policy.route(black_box(&request))));
    }
    let caller = Caller { peer: [10, 0, 0, 1].into(), trusted_proxies: &[] };
    let request = RequestView { method: &Method::GET, host: "www.example.com", path: "/", headers: &headers, caller };
    let limit = policy.default_limit().unwrap();
    let mut key = String::new();
    group.bench_function("subject, numbers and key", |b| {
        b.iter(|| {
            let subject = limit.subject(black_box(&request)).unwrap().unwrap();
            key.clear();
            limit.counter_key(&subject, &mut key);
            limit.effective(&subject).blocked
        });
    });
    group.finish();
}

criterion_group!(benches, compile, matching);
criterion_main!(benches);
