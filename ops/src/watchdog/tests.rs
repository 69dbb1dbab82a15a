#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::mpsc;

use super::*;

const LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(5);

fn watched() -> (Watchdog, mpsc::Receiver<Alarm>) {
    let (tell, alarms) = mpsc::sync_channel(100);
    let watchdog = Watchdog::idle(LIMIT, move |alarm| tell.send(alarm.clone()).unwrap());
    (watchdog, alarms)
}

#[test]
fn a_worker_without_a_turn_is_named() {
    let (watchdog, alarms) = watched();
    let _alive = watchdog.pulse("worker-1".to_owned());
    let later = Instant::now() + LIMIT - Duration::from_secs(1);
    watchdog.inner.check(later, TICK);
    assert_eq!(alarms.try_recv().ok(), None);
    watchdog.inner.check(later + Duration::from_secs(2), TICK);
    let Ok(Alarm::Stuck { worker, since }) = alarms.try_recv() else { panic!("no alarm") };
    assert_eq!(worker, "worker-1");
    assert!(since >= LIMIT && since < LIMIT + Duration::from_secs(5));
}

#[test]
fn a_stopped_process_is_nobodys_fault_and_counts_anew() {
    let (watchdog, alarms) = watched();
    let _pulse = watchdog.pulse("worker-1".to_owned());
    let woken = Instant::now() + Duration::from_secs(3600);
    watchdog.inner.check(woken, Duration::from_secs(3600));
    watchdog.inner.check(woken + TICK, TICK);
    assert_eq!(alarms.try_recv().ok(), None);
    watchdog.inner.check(woken + LIMIT, TICK);
    assert!(matches!(alarms.try_recv(), Ok(Alarm::Stuck { .. })));
}

#[test]
fn a_worker_that_ended_is_not_watched() {
    let (watchdog, alarms) = watched();
    drop(watchdog.pulse("worker-1".to_owned()));
    watchdog.inner.check(Instant::now() + 2 * LIMIT, TICK);
    assert_eq!(alarms.try_recv().ok(), None);
}

#[test]
fn a_panic_is_an_alarm() {
    let (watchdog, alarms) = watched();
    let panicked = std::thread::spawn(move || {
        let _pulse = watchdog.pulse("worker-2".to_owned());
        panic!("as the test wants it");
    });
    assert!(panicked.join().is_err());
    assert_eq!(alarms.try_recv().ok(), Some(Alarm::Panicked { worker: "worker-2".to_owned() }));
}

#[test]
fn the_thread_notices_on_its_own() {
    let (tell, alarms) = mpsc::sync_channel(100);
    let watchdog = Watchdog::start_with(Duration::from_millis(200), move |alarm| drop(tell.send(alarm.clone())));
    let _pulse = watchdog.pulse("worker-3".to_owned());
    let alarm = alarms.recv_timeout(Duration::from_secs(20)).expect("an alarm");
    assert!(matches!(alarm, Alarm::Stuck { worker, .. } if worker == "worker-3"));
}
