#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use serde_json::json;

use super::*;

#[test]
fn a_process_starts_gets_ready_and_drains() {
    let probes = Probes::new();
    assert_eq!(probes.startz(), Answer { ok: false, body: json!({"status": "not_started"}) });
    assert_eq!(probes.healthz(), Answer { ok: true, body: json!({"status": "alive"}) });
    assert_eq!(probes.readyz(), Answer { ok: false, body: json!({"status": "not_ready", "detail": "starting"}) });
    probes.started();
    assert_eq!(probes.startz(), Answer { ok: true, body: json!({"status": "started"}) });
    assert_eq!(probes.readyz(), Answer { ok: true, body: json!({"status": "ready"}) });
    probes.drain();
    assert!(!probes.ready());
    assert_eq!(probes.readyz(), Answer { ok: false, body: json!({"status": "not_ready", "detail": "draining"}) });
    assert!(probes.healthz().ok, "a draining process is alive");
}

#[test]
fn closed_guards_are_named_and_may_close_again() {
    let probes = Probes::new();
    let policy = probes.guard("policy", "policy from https://cp:9091");
    let workers = probes.guard("workers", "waiting for 2 workers");
    probes.started();
    assert_eq!(
        probes.readyz().body,
        json!({"status": "not_ready", "detail": "waiting for policy from https://cp:9091; waiting for 2 workers"})
    );
    policy.open();
    assert!(!probes.ready());
    workers.open();
    assert!(probes.ready());
    workers.close("worker 1");
    assert_eq!(probes.readyz().body["detail"], "waiting for worker 1");
    workers.open();
    assert!(probes.ready());
}

#[test]
fn a_dropped_guard_stays_closed() {
    let probes = Probes::new();
    probes.started();
    drop(probes.guard("policy", "a policy"));
    assert!(!probes.ready());
}

#[test]
fn notes_show_but_do_not_make_it_unready() {
    let probes = Probes::new();
    probes.started();
    probes.note("policy", Some("version 7 was rejected".to_owned()));
    let shown = Answer { ok: true, body: json!({"status": "ready", "detail": "policy: version 7 was rejected"}) };
    assert_eq!(probes.readyz(), shown);
    probes.note("policy", None);
    assert_eq!(probes.readyz().body, json!({"status": "ready"}));
}

#[tokio::test]
async fn waiting_ends_with_the_last_guard() {
    let probes = Probes::new();
    let guard = probes.guard("policy", "a policy");
    let waiting = probes.clone();
    let waiter = tokio::spawn(async move { waiting.until_ready().await });
    tokio::task::yield_now().await;
    probes.started();
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    guard.open();
    waiter.await.unwrap();
}
