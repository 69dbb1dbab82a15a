//! The stream between the planes, as a data plane meets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::time::{Duration, Instant};

use edgequota_policy::PolicySpec;
use edgequota_proto::control::{Snapshot, Version, from_data_plane::Message as Answered, nack::Class};
use edgequota_tests::{
    Answer, Certificates, Edgequota, FakeControl, Origin, Redis, body,
    client::request,
    eventually,
    fake_control::{of_bytes, snapshot},
    holds_for,
    load::Load,
};

/// Every answer under policy `n` tells `n` twice: by its limit and by its backend's path.
fn numbered(origin: &Origin, n: u32) -> PolicySpec {
    let mut spec = PolicySpec::default();
    spec.backend.url = format!("{}/v{n}", origin.url());
    spec.rate_limit.average = 1_000_000;
    spec.rate_limit.burst = (1_000_000 + n).into();
    spec
}

fn number(answer: &Answer) -> Result<u32, String> {
    if answer.status != 200 {
        return Err(format!("status {}: {}", answer.status, answer.text()));
    }
    let by_limit: u32 = answer.header("x-ratelimit-limit").parse().map_err(|_| format!("no limit: {answer:?}"))?;
    let target = answer.json()["target"].as_str().unwrap_or_default().to_owned();
    let by_backend: u32 =
        target.trim_start_matches("/v").split('/').next().unwrap().parse().map_err(|_| target.clone())?;
    let by_limit = by_limit - 1_000_000;
    if by_limit == by_backend { Ok(by_limit) } else { Err(format!("limit of {by_limit}, backend of {by_backend}")) }
}

fn is_ack(answered: &Answered) -> bool {
    matches!(answered, Answered::Ack(_))
}

async fn plane(control: &FakeControl, redis: &Redis) -> Edgequota {
    Edgequota::dataplane()
        .config(redis.yaml(&["deadline: 5s"]))
        .config(control.yaml())
        .config("logging: { access_log_enabled: false }\n")
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_policies_while_traffic_flows_without_one_wrong_answer() {
    let (origin, redis, control) = (Origin::start().await, Redis::start().await, FakeControl::start().await);
    let plane = plane(&control, &redis).await;
    assert!(is_ack(&control.push(snapshot(&numbered(&origin, 0), 1)).await));
    plane.until_ready(Duration::from_secs(10)).await;
    let load =
        Load::start(&[plane.proxy()], 8, |_| request("GET", "h", "/", &[], body::empty()), |a| number(a).map(drop));
    let start = Instant::now();
    for n in 1..=1000u32 {
        let answered = control.push(snapshot(&numbered(&origin, n), u64::from(n) + 1)).await;
        assert!(is_ack(&answered), "{answered:?}");
        if n % 50 == 0 {
            // What was acknowledged is enforced from the next request on.
            assert_eq!(number(&plane.get("/", &[]).await), Ok(n));
        }
    }
    let took = start.elapsed();
    let tally = load.stop().await;
    println!("1000 policies in {took:?}, {} answers meanwhile", tally.total());
    tally.expect_only(&[200]);
    assert!(tally.total() > 500, "no traffic flowed");
}

#[tokio::test]
async fn what_it_cannot_take_is_refused_and_changes_nothing() {
    let (origin, redis, control) = (Origin::start().await, Redis::start().await, FakeControl::start().await);
    let plane = plane(&control, &redis).await;
    assert!(is_ack(&control.push(snapshot(&numbered(&origin, 7), 100)).await));
    plane.until_ready(Duration::from_secs(10)).await;

    let good = snapshot(&numbered(&origin, 8), 101);
    let mut wrong_hash = good.clone();
    wrong_hash.version = Some(Version { generation: 102, hash: vec![1; 32].into() });
    let no_gzip = Snapshot {
        version: Some(Version { generation: 103, ..good.version.clone().unwrap() }),
        gzip: b"nonsense".as_ref().into(),
        ..good.clone()
    };
    let bomb = of_bytes(&vec![b' '; 10 << 20], 104);
    let lie = Snapshot { plain_size: 10, ..bomb.clone() };
    let lie = Snapshot { version: Some(Version { generation: 105, ..lie.version.clone().unwrap() }), ..lie };
    let invalid = of_bytes(br#"{"backend":{"url":"no url"}}"#, 106);
    for bad in [wrong_hash, no_gzip, bomb, lie, invalid] {
        let generation = bad.version.as_ref().unwrap().generation;
        let answered = control.push(bad).await;
        let Answered::Nack(nack) = answered else { panic!("{generation}: {answered:?}") };
        assert!(!nack.reason.is_empty(), "{generation}");
        assert_eq!(number(&plane.get("/", &[]).await), Ok(7));
    }
    let mut unknown: serde_json::Value = serde_json::from_slice(&numbered(&origin, 9).resolved().canonical()).unwrap();
    unknown["rate_limit"]["from_the_future"] = 1.into();
    let Answered::Nack(nack) = control.push(of_bytes(unknown.to_string().as_bytes(), 107)).await else {
        panic!("taken")
    };
    assert_eq!(nack.class(), Class::Unsupported);
    assert!(nack.reason.contains("from_the_future"), "{nack:?}");
    assert!(plane.metrics().await.sum("edgequota_policy_rejected_total", &[]) >= 6.0);
    assert!(plane.is_ready().await);

    // An older generation, then a good one.
    assert!(!is_ack(&control.push(snapshot(&numbered(&origin, 5), 99)).await));
    assert_eq!(number(&plane.get("/", &[]).await), Ok(7));
    assert!(is_ack(&control.push(snapshot(&numbered(&origin, 10), 110)).await));
    assert_eq!(number(&plane.get("/", &[]).await), Ok(10));
    assert_eq!(control.subscribed(), 1, "it stayed on the same stream");
}

#[tokio::test]
async fn a_hello_says_what_is_held() {
    let (origin, redis, control) = (Origin::start().await, Redis::start().await, FakeControl::start().await);
    let plane = plane(&control, &redis).await;
    let hello = |control: &FakeControl| {
        control.answers().into_iter().rev().find_map(|a| match a {
            Answered::Hello(hello) => Some(hello),
            _ => None,
        })
    };
    let first = eventually("a hello", Duration::from_secs(10), || async { hello(&control) }).await;
    assert!(first.holds.is_none() && !first.instance.is_empty() && !first.binary.is_empty() && first.workers > 0);
    let pushed = snapshot(&numbered(&origin, 1), 5);
    assert!(is_ack(&control.push(pushed.clone()).await));
    drop(control);
    holds_for("it serves on", Duration::from_secs(1), || async { number(&plane.get("/", &[]).await) == Ok(1) }).await;
}

#[tokio::test]
async fn a_silent_control_plane_is_left_and_found_again() {
    let (origin, redis, control) = (Origin::start().await, Redis::start().await, FakeControl::start().await);
    let plane = plane(&control, &redis).await;
    assert!(is_ack(&control.push(snapshot(&numbered(&origin, 1), 5)).await));
    control.be_silent();
    eventually("a new stream after 15 s of silence", Duration::from_secs(35), || async {
        (control.subscribed() >= 2).then_some(())
    })
    .await;
    assert_eq!(number(&plane.get("/", &[]).await), Ok(1));
}

fn policy(origin: &Origin) -> String {
    format!("{}rate_limit: {{ average: 5, burst: 5 }}\n", origin.yaml(&[]))
}

#[tokio::test]
async fn a_shared_token_lets_in_and_keeps_out() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let control = Edgequota::controlplane()
        .config(redis.yaml(&[]))
        .config(policy(&origin))
        .config("control_plane: { token: right-secret }\n")
        .ready()
        .await;
    let plane = |token: &str| {
        let block = format!("control_plane: {{ address: \"http://{}\", token: \"{token}\" }}\n", control.grpc());
        Edgequota::dataplane().config(redis.yaml(&[])).config(block)
    };
    let right = plane("right-secret").ready().await;
    assert_eq!(right.get("/", &[]).await.status, 200);
    for bad in ["wrong-secret", ""] {
        let wrong = plane(bad).start().await;
        holds_for("not ready", Duration::from_secs(2), || async { !wrong.is_ready().await }).await;
        let text = wrong.log().text() + &control.log().text() + &wrong.admin_get("/readyz").await.text();
        assert!(!text.contains("-secret"), "a token is shown");
    }
    let listed = control.admin_json("/v1/dataplanes").await;
    assert_eq!(
        (&listed["connected"], &listed["dataplanes"][0]["authenticated"]),
        (&1.into(), &true.into()),
        "{listed}"
    );
}

#[tokio::test]
async fn tls_and_mutual_tls() {
    let (origin, redis, ca, other) =
        (Origin::start().await, Redis::start().await, Certificates::new(), Certificates::new());
    let tls = |(cert, key): &(std::path::PathBuf, std::path::PathBuf), ca: Option<&Certificates>| {
        let ca = ca.map_or(String::new(), |ca| format!(", ca_file: \"{}\"", ca.ca().display()));
        format!("tls: {{ enabled: true, cert_file: \"{}\", key_file: \"{}\"{ca} }}", cert.display(), key.display())
    };
    let server = ca.sign("server");
    let control = Edgequota::controlplane()
        .config(redis.yaml(&[]))
        .config(policy(&origin))
        .config(format!("control_plane: {{ {} }}\n", tls(&server, Some(&ca))))
        .ready()
        .await;
    let plane = |tls: String| {
        let block = format!("control_plane: {{ address: \"https://{}\", {tls} }}\n", control.grpc());
        Edgequota::dataplane().config(redis.yaml(&[])).config(block)
    };
    let good = plane(tls(&ca.sign("plane"), Some(&ca))).ready().await;
    assert_eq!(good.get("/", &[]).await.status, 200);
    let listed = control.admin_json("/v1/dataplanes").await;
    assert_eq!(
        (&listed["dataplanes"][0]["tls"], &listed["dataplanes"][0]["authenticated"]),
        (&true.into(), &true.into())
    );

    let nameless = plane(format!("tls: {{ enabled: true, ca_file: \"{}\" }}", ca.ca().display())).start().await;
    let stranger = plane(tls(&other.sign("plane"), Some(&ca))).start().await;
    let distrustful = plane(tls(&ca.sign("plane2"), Some(&other))).start().await;
    holds_for("none of them gets a policy", Duration::from_secs(3), || async {
        !nameless.is_ready().await && !stranger.is_ready().await && !distrustful.is_ready().await
    })
    .await;
}
