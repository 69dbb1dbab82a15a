//! One plane fails, the other serves on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use std::{fs, time::Duration};

use edgequota_tests::{Edgequota, Fleet, Origin, Redis, body, client::request, eventually, holds_for, load::Load};

/// A control plane that comes back is followed again within this time.
const IN_STEP: Duration = Duration::from_secs(35);

fn policy(origin: &Origin, burst: usize) -> String {
    format!("{}rate_limit: {{ average: 1000000, burst: {burst}, period: 1s }}\n", origin.yaml(&[]))
}

async fn enforces(plane: &Edgequota, burst: usize, limit: Duration) {
    let what = format!("a burst of {burst} is enforced");
    plane.until_answer(&what, "/", &[], limit, |a| a.header("x-ratelimit-limit") == burst.to_string()).await;
}

fn generation(version: &str) -> u64 {
    version.split('-').next().unwrap().parse().unwrap_or_else(|_| panic!("version {version:?} has no generation"))
}

#[tokio::test]
async fn killing_the_control_plane_fails_no_request() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::start(2, &redis.yaml(&["deadline: 5s"]), &policy(&origin, 5_000_000)).await;
    let before = fleet.version().await;
    let targets: Vec<_> = fleet.planes.iter().map(Edgequota::proxy).collect();
    let load = Load::start(
        &targets,
        8,
        |_| request("GET", "h", "/", &[], body::empty()),
        |a| {
            let limit = a.header("x-ratelimit-limit");
            if limit == "5000000" || limit == "6000000" { Ok(()) } else { Err(format!("limit {limit:?}")) }
        },
    );
    fleet.kill_control();
    holds_for("data planes stay ready", Duration::from_secs(6), || async {
        fleet.planes[0].is_ready().await && fleet.planes[1].is_ready().await
    })
    .await;
    fs::write(fleet.policy_path(), policy(&origin, 6_000_000)).unwrap();
    fleet.start_control().await;
    fleet.in_step(IN_STEP).await;
    for plane in &fleet.planes {
        enforces(plane, 6_000_000, Duration::from_secs(5)).await;
    }
    let after = fleet.version().await;
    assert!(generation(&after) > generation(&before), "{before} then {after}");
    load.stop().await.expect_only(&[200]);
}

#[tokio::test]
async fn killing_a_data_plane_fails_only_what_it_had_in_flight() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::start(2, &redis.yaml(&["deadline: 5s"]), &policy(&origin, 5_000_000)).await;
    let other =
        Load::start(&[fleet.planes[1].proxy()], 4, |_| request("GET", "h", "/", &[], body::empty()), |_| Ok(()));
    fleet.planes[0].kill();
    eventually("the control plane sees one data plane", Duration::from_secs(20), || async {
        let text = fleet.listed().await.to_string();
        (text.contains("dp-1") && (!text.contains("dp-0") || text.contains("false"))).then_some(())
    })
    .await;
    fleet.edit(&policy(&origin, 6_000_000));
    enforces(&fleet.planes[1], 6_000_000, Duration::from_secs(10)).await;
    other.stop().await.expect_only(&[200]);
}

#[tokio::test]
async fn a_data_plane_starts_from_its_state_dir() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::start(1, &redis.yaml(&[]), &policy(&origin, 7)).await;
    let version = fleet.version().await;
    fleet.kept(0).await;
    fleet.kill_control();
    fleet.planes.clear();
    // Its own file has another policy: the state directory comes first.
    let plane = fleet.builder(0, &policy(&origin, 8)).ready().await;
    enforces(&plane, 7, Duration::from_secs(5)).await;
    assert_eq!(Fleet::enforced(&plane).await, Some(version));
    let text = plane.admin_get("/metrics").await.text();
    assert!(text.contains("state_dir"), "the metrics do not say where the policy is from");
}

#[tokio::test]
async fn a_data_plane_without_state_starts_from_its_own_file() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::control_only(&redis.yaml(&[]), &policy(&origin, 7)).await;
    fleet.kill_control();
    fleet.add(0, &policy(&origin, 8)).await;
    fleet.planes[0].until_ready(Duration::from_secs(15)).await;
    enforces(&fleet.planes[0], 8, Duration::from_secs(5)).await;
    fleet.start_control().await;
    enforces(&fleet.planes[0], 7, IN_STEP).await;
}

#[tokio::test]
async fn a_data_plane_without_any_policy_waits_and_says_for_what() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::control_only(&redis.yaml(&[]), &policy(&origin, 7)).await;
    fleet.kill_control();
    fleet.add(0, "").await;
    let plane = &fleet.planes[0];
    eventually("started", Duration::from_secs(15), || async {
        (plane.admin_get("/startz").await.status == 200).then_some(())
    })
    .await;
    holds_for("started, alive and not ready", Duration::from_secs(3), || async {
        plane.admin_get("/startz").await.status == 200
            && plane.admin_get("/healthz").await.status == 200
            && plane.admin_get("/readyz").await.status == 503
    })
    .await;
    let detail = plane.admin_get("/readyz").await.text();
    assert!(detail.contains("policy") && detail.contains(&fleet.port.to_string()), "{detail}");
    fleet.start_control().await;
    fleet.planes[0].until_ready(IN_STEP).await;
    enforces(&fleet.planes[0], 7, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_data_plane_is_never_ready_before_its_policy() {
    let redis = Redis::start().await;
    let plane = Edgequota::dataplane()
        .config(redis.yaml(&[]))
        .config("control_plane: { address: \"http://127.0.0.1:1\", initial_wait: 100ms }\n")
        .start()
        .await;
    holds_for("not ready", Duration::from_secs(1), || async { !plane.is_ready().await }).await;
    let changes = plane.log().with_msg("readiness changed");
    assert!(changes.iter().all(|c| c["ready"] == false), "it was ready for a moment, and would have got traffic");
}

#[tokio::test]
async fn a_torn_state_file_is_survived() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::start(1, &redis.yaml(&[]), &policy(&origin, 7)).await;
    fleet.edit(&policy(&origin, 8));
    enforces(&fleet.planes[0], 8, Duration::from_secs(10)).await;
    fleet.kept(0).await;
    fleet.kill_control();
    fleet.planes[0].kill();
    fleet.planes.clear();
    let files = || -> Vec<_> {
        let mut all: Vec<_> = fs::read_dir(fleet.state_dir(0)).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort_by_key(|p| fs::metadata(p).unwrap().modified().unwrap());
        all
    };
    assert!(files().len() >= 2, "the previous copy is kept: {:?}", files());
    for file in files() {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let newest = files().pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let plane = fleet.builder(0, "").ready().await;
    let limit = plane.get("/", &[]).await.number("x-ratelimit-limit");
    assert!(limit == 7 || limit == 8, "{limit}");
    drop(plane);

    for file in files() {
        fs::write(file, b"\0garbage").unwrap();
    }
    let plane = fleet.builder(0, &policy(&origin, 9)).ready().await;
    enforces(&plane, 9, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_control_plane_that_restarts_with_a_broken_file_serves_its_last_good() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::start(1, &redis.yaml(&[]), &policy(&origin, 7)).await;
    fleet.kill_control();
    fs::write(fleet.policy_path(), "backend: [broken\n").unwrap();
    fleet.start_control().await;
    fleet.add(1, "").await;
    fleet.planes[1].until_ready(IN_STEP).await;
    enforces(&fleet.planes[1], 7, Duration::from_secs(5)).await;
    fleet.in_step(IN_STEP).await;
    fleet.control().log().until("policy.yaml:", IN_STEP).await;
    fleet.edit(&policy(&origin, 8));
    for plane in &fleet.planes {
        enforces(plane, 8, IN_STEP).await;
    }
}

#[tokio::test]
async fn a_control_plane_without_state_and_with_a_broken_file_adopts_the_fleets() {
    let (origin, redis) = (Origin::start().await, Redis::start().await);
    let mut fleet = Fleet::start(2, &redis.yaml(&[]), &policy(&origin, 7)).await;
    let before = fleet.version().await;
    fleet.kill_control();
    fs::write(fleet.policy_path(), "backend: [broken\n").unwrap();
    fs::remove_dir_all(fleet.dir.path().join("state-control")).unwrap();
    fleet.start_control().await;
    fleet.add(2, "").await;
    fleet.planes[2].until_ready(IN_STEP).await;
    enforces(&fleet.planes[2], 7, Duration::from_secs(5)).await;
    fleet.in_step(IN_STEP).await;
    assert!(generation(&fleet.version().await) >= generation(&before));
}

#[tokio::test]
async fn the_control_plane_does_not_start_over_without_any_policy() {
    let redis = Redis::start().await;
    let mut fleet = Fleet::control_only(&redis.yaml(&[]), "backend: [broken\n").await;
    eventually("the control plane has started without a policy", Duration::from_secs(10), || async {
        (fleet.control().admin_get("/startz").await.status == 200).then_some(())
    })
    .await;
    let readyz = fleet.control().admin_get("/readyz").await;
    assert_eq!(readyz.status, 503, "{}", readyz.text());
    let origin = Origin::start().await;
    fleet.edit(&policy(&origin, 7));
    fleet.control().until_ready(Duration::from_secs(10)).await;
    fleet.add(0, "").await;
    fleet.planes[0].until_ready(IN_STEP).await;
}

#[tokio::test]
async fn an_embedded_store_is_refused_for_a_fleet() {
    let mut eq = Edgequota::dataplane()
        .config("redis: { mode: embedded }\ncontrol_plane: { address: \"http://127.0.0.1:1\" }\n")
        .spawn();
    assert_eq!(eq.exited(Duration::from_secs(10)).await.code(), Some(1));
    assert!(eq.log().contains("embedded"), "{}", eq.log().text());
}
