//! An edit of a file is enforced without a restart, everywhere; a bad one changes nothing and is seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::{
    fs,
    time::{Duration, Instant},
};

use edgequota_tests::{
    Answer, ConfigMap, Edgequota, Fleet, H1, Origin, Redis, body, client::request, eventually,
    eventually::scripted_delay, load::Load,
};
use http_body_util::BodyExt;

const EMBEDDED: &str = "redis: { mode: embedded }\n";
/// An edit is enforced after the debounce of 300 ms; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Policy whose every answer tells its number: `X-RateLimit-Limit` is `1000000 + n`, the backend's path is `/v<n>`.
fn numbered(origin: &Origin, n: usize) -> String {
    format!(
        "backend: {{ url: \"{}/v{n}\" }}\nrate_limit: {{ average: 1000000, burst: {}, period: 1s }}\n",
        origin.url(),
        1_000_000 + n
    )
}

/// The number that an answer tells; an error when it tells two.
fn number(answer: &Answer) -> Result<usize, String> {
    if answer.status != 200 {
        return Err(format!("status {}: {}", answer.status, answer.text()));
    }
    let by_limit = answer.header("x-ratelimit-limit").parse::<usize>().map_err(|e| e.to_string())? - 1_000_000;
    let target = answer.json()["target"].as_str().unwrap_or_default().to_owned();
    let by_backend: usize =
        target.trim_start_matches("/v").split('/').next().unwrap().parse().map_err(|_| target.clone())?;
    if by_limit == by_backend { Ok(by_limit) } else { Err(format!("limit of {by_limit}, backend of {by_backend}")) }
}

async fn until_number(eq: &Edgequota, n: usize) {
    eq.until_answer(&format!("policy {n} is enforced"), "/", &[], SOON, |a| number(a).unwrap() == n).await;
}

#[tokio::test]
async fn standalone_enforces_an_edit() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(numbered(&origin, 1)).ready().await;
    until_number(&eq, 1).await;
    for n in 2..6 {
        eq.write_config(&format!("{EMBEDDED}{}", numbered(&origin, n)));
        until_number(&eq, n).await;
    }
}

#[tokio::test]
async fn an_edit_that_leaves_a_limit_alone_leaves_its_counters_alone() {
    let origin = Origin::start().await;
    let policy = |extra: &str| {
        format!("{EMBEDDED}{}rate_limit: {{ average: 1, burst: 3, period: 1h }}\n{extra}", origin.yaml(&[]))
    };
    let eq = Edgequota::standalone().config(policy("")).ready().await;
    for left in ["2", "1"] {
        assert_eq!(eq.get("/", &[]).await.header("x-ratelimit-remaining"), left);
    }
    eq.write_config(&policy("routes: [{ name: new, match: { path_prefix: /new }, rate_limit: { mode: disabled } }]\n"));
    eq.until_answer("the new route", "/new", &[], SOON, |a| a.header("x-ratelimit-limit").is_empty()).await;
    // The default limit was asked by the answers that waited, at most until its bucket was empty: it was not refilled.
    let answer = eq.get("/", &[]).await;
    assert!(answer.status == 429 || answer.header("x-ratelimit-remaining") == "0", "{answer:?}");
}

#[tokio::test]
async fn a_bad_edit_keeps_the_last_good_policy_and_is_seen() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(numbered(&origin, 1)).ready().await;
    assert_eq!(eq.metrics().await.get("edgequota_config_reload_success"), Some(1.0));
    eq.write_config(&format!("{EMBEDDED}{}  averige: 5\n", numbered(&origin, 2)));
    eq.until_metric("edgequota_policy_rejected_total", &[], 1.0).await;
    assert_eq!(eq.metrics().await.get("edgequota_config_reload_success"), Some(0.0));
    // Lines are written beside the work that they tell of.
    eq.log().until("config.yaml:", SOON).await;
    let readyz = eq.admin_get("/readyz").await;
    assert_eq!(readyz.status, 200, "a bad edit does not take the process out");
    assert!(readyz.text().contains("detail"), "{}", readyz.text());
    assert_eq!(number(&eq.get("/", &[]).await), Ok(1));

    eq.write_config(&format!("{EMBEDDED}{}", numbered(&origin, 3)));
    until_number(&eq, 3).await;
    assert_eq!(eq.metrics().await.get("edgequota_config_reload_success"), Some(1.0));
}

#[tokio::test]
async fn the_rest_of_an_edit_applies_when_a_setting_needs_a_restart() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(numbered(&origin, 1)).ready().await;
    eq.write_config(&format!(
        "{EMBEDDED}{}server: {{ workers: 3 }}\nlogging: {{ level: debug }}\n",
        numbered(&origin, 2)
    ));
    until_number(&eq, 2).await;
    eq.log().until("server.workers", SOON).await;
}

#[tokio::test]
async fn the_kubelets_way_of_writing_is_followed() {
    let origin = Origin::start().await;
    let config = |n| format!("{EMBEDDED}{}", numbered(&origin, n));
    let mut map = ConfigMap::mount(&[("config.yaml", &config(1))]);
    let eq = Edgequota::standalone().config_file(map.file("config.yaml")).ready().await;
    until_number(&eq, 1).await;
    for n in 2..6 {
        map.update(&[("config.yaml", &config(n))]);
        until_number(&eq, n).await;
    }
}

#[tokio::test]
async fn a_directory_of_files_is_one_policy() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let base = one.yaml(&[]);
    let team = |burst: usize| {
        format!(
            "backends: [{{ name: two, url: \"{}\" }}]\nroutes: [{{ name: team, match: {{ path_prefix: /team }}, \
             backend: two, rate_limit: {{ average: 1, burst: {burst}, period: 1h }} }}]\n",
            two.url()
        )
    };
    let mut map = ConfigMap::mount(&[("00-base.yaml", &base), ("team.yaml", &team(5))]);
    let control = Edgequota::controlplane()
        .config(format!("{EMBEDDED}control_plane: {{ policy_path: \"{}\" }}\n", map.path().display()))
        .start()
        .await;
    let redis = Redis::start().await;
    let plane = Edgequota::dataplane()
        .config(redis.yaml(&[]))
        .config(format!("control_plane: {{ address: \"http://{}\" }}\n", control.grpc()))
        .ready()
        .await;
    assert_eq!(plane.get("/team/x", &[]).await.number("x-ratelimit-limit"), 5);
    assert_eq!(plane.get("/", &[]).await.status, 200);
    assert_eq!((one.requests(), two.requests()), (1, 1));

    map.update(&[("00-base.yaml", &base), ("team.yaml", &team(7))]);
    plane.until_answer("the edited file", "/team", &[], SOON, |a| a.number("x-ratelimit-limit") == 7).await;

    // The same name in two files: refused, both places named, the old policy stays.
    map.update(&[("00-base.yaml", &base), ("team.yaml", &team(8)), ("team2.yaml", &team(9))]);
    control.until_metric("edgequota_policy_rejected_total", &[], 1.0).await;
    for name in ["team.yaml:", "team2.yaml:"] {
        control.log().until(name, SOON).await;
    }
    assert_eq!(plane.get("/team", &[]).await.number("x-ratelimit-limit"), 7);
}

#[tokio::test]
async fn the_control_plane_pushes_an_edit_to_every_data_plane() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let fleet = Fleet::start(3, &redis.yaml(&[]), &numbered(&origin, 1)).await;
    for plane in &fleet.planes {
        until_number(plane, 1).await;
    }
    fleet.edit(&numbered(&origin, 2));
    for plane in &fleet.planes {
        until_number(plane, 2).await;
    }
    fleet.in_step(SOON).await;
    let before = fleet.version().await;

    fleet.edit("backend: { url: \"not a url\" }\n");
    fleet.control().until_metric("edgequota_policy_rejected_total", &[], 1.0).await;
    assert_eq!(fleet.version().await, before);
    let policy = fleet.control().admin_json("/v1/policy").await.to_string();
    assert!(policy.contains("invalid backend.url"), "the API does not show the problem: {policy}");
    fleet.control().log().until("policy.yaml:1", SOON).await;
    for plane in &fleet.planes {
        assert_eq!(number(&plane.get("/", &[]).await), Ok(2));
    }

    // An edit that changes nothing (a comment) is no new version.
    fleet.edit(&format!("# the same again\n{}", numbered(&origin, 2)));
    eventually("the good file is read", SOON, || async {
        (fleet.control().metrics().await.get("edgequota_config_reload_success") == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(fleet.version().await, before);
}

#[tokio::test]
async fn quick_writes_end_with_the_last_one_and_steady_ones_are_not_put_off() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(numbered(&origin, 1)).ready().await;
    for n in 2..102 {
        eq.write_config(&format!("{EMBEDDED}{}", numbered(&origin, n)));
    }
    until_number(&eq, 101).await;

    let start = Instant::now();
    let mut n = 200;
    while start.elapsed() < Duration::from_secs(4) {
        eq.write_config(&format!("{EMBEDDED}{}", numbered(&origin, n)));
        n += 1;
        scripted_delay(Duration::from_millis(100)).await;
    }
    let seen = number(&eq.get("/", &[]).await).unwrap();
    assert!(seen >= 200, "steady writes put the reload off for 4 s");
    until_number(&eq, n - 1).await;
}

#[tokio::test]
async fn a_file_that_vanishes_comes_back() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(numbered(&origin, 1)).ready().await;
    fs::remove_file(eq.config_path()).unwrap();
    edgequota_tests::holds_for("the policy stays", Duration::from_millis(1500), || async {
        number(&eq.get("/", &[]).await) == Ok(1)
    })
    .await;
    eq.write_config(&format!("{EMBEDDED}{}", numbered(&origin, 2)));
    until_number(&eq, 2).await;
}

#[tokio::test]
async fn sighup_reads_again() {
    let origin = Origin::start().await;
    let eq = Edgequota::standalone().config(EMBEDDED).config(numbered(&origin, 1)).ready().await;
    eq.write_config(&format!("{EMBEDDED}{}", numbered(&origin, 2)));
    eq.signal(rustix::process::Signal::HUP);
    until_number(&eq, 2).await;
}

#[tokio::test]
async fn twenty_edits_through_the_file_while_traffic_flows() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let settings = format!("{}logging: {{ access_log_enabled: false }}\n", redis.yaml(&["deadline: 5s"]));
    let fleet = Fleet::start(2, &settings, &numbered(&origin, 0)).await;
    let targets: Vec<_> = fleet.planes.iter().map(Edgequota::proxy).collect();
    let load = Load::start(&targets, 8, |_| request("GET", "h", "/", &[], body::empty()), |a| number(a).map(drop));
    for n in 1..=20 {
        fleet.edit(&numbered(&origin, n));
        for plane in &fleet.planes {
            until_number(plane, n).await;
        }
    }
    let tally = load.stop().await;
    tally.expect_only(&[200]);
}

#[tokio::test]
async fn an_edit_reaches_twenty_data_planes() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let settings = format!("{}server: {{ workers: 1 }}\n", redis.yaml(&["deadline: 5s"]));
    let fleet = Fleet::start(20, &settings, &numbered(&origin, 0)).await;
    let mut slowest = Duration::ZERO;
    for n in 1..=3 {
        fleet.edit(&numbered(&origin, n));
        let start = Instant::now();
        for plane in &fleet.planes {
            until_number(plane, n).await;
        }
        slowest = slowest.max(start.elapsed());
        println!("edit {n} was enforced on 20 data planes after {:?}", start.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let listed = fleet.listed().await;
    let shown = listed.as_array().or_else(|| listed["dataplanes"].as_array()).expect("a list").len();
    assert_eq!(shown, 20);
}

#[tokio::test]
async fn two_hundred_edits_with_an_open_stream_each_leave_memory_flat() {
    let origin = Origin::start().await;
    // Enough routes that two hundred policies kept alive would show.
    let policy = |n: usize| {
        let mut text = format!("{EMBEDDED}server: {{ workers: 1 }}\n{}routes:\n", numbered(&origin, n));
        for r in 0..1000 {
            text.push_str(&format!(
                "- {{ name: r{r}, match: {{ path_prefix: /p{r} }}, rate_limit: {{ average: 1, burst: {}, period: 1h }} }}\n",
                n + 1
            ));
        }
        text
    };
    let eq = Edgequota::standalone().config(policy(0)).ready().await;
    let mut streams = Vec::new();
    let mut settled = 0;
    for n in 1..=200 {
        eq.write_config(&policy(n));
        until_number(&eq, n).await;
        let mut client = H1::connect(eq.proxy()).await;
        let script = [("x-origin", "chunks=1000000; chunk-delay=2000")];
        let response = client.begin(request("GET", "h", "/", &script, body::empty())).await.unwrap();
        streams.push((client, response.into_body()));
        if n == 60 {
            settled = eq.memory();
        }
    }
    let grown = eq.memory().saturating_sub(settled);
    println!("after 60 edits {} KiB, after 200 {} KiB more", settled >> 10, grown >> 10);
    assert!(grown < 24 << 20, "140 edits cost {} KiB", grown >> 10);
    for (_, stream) in &mut streams {
        assert!(stream.frame().await.expect("an open stream").is_ok(), "a stream was cut by an edit");
    }
}
