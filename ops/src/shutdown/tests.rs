#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use tokio::time::Instant;

use super::*;

struct Driven {
    shutdown: Shutdown,
    signals: mpsc::Sender<Caught>,
    hups: Arc<AtomicU32>,
    exits: Arc<AtomicU32>,
}

fn driven(delay: Duration) -> Driven {
    let shutdown = Shutdown::new();
    let (signals, caught) = mpsc::channel(8);
    let (hups, exits) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (hup, exit) = (hups.clone(), exits.clone());
    let driven = shutdown.clone();
    tokio::spawn(async move {
        let hup = move || {
            let _ = hup.fetch_add(1, SeqCst);
        };
        let exit = move || {
            let _ = exit.fetch_add(1, SeqCst);
        };
        drive(driven, caught, delay, hup, exit).await;
    });
    Driven { shutdown, signals, hups, exits }
}

#[tokio::test(start_paused = true)]
async fn terminate_leaves_and_drains_after_the_delay() {
    let begin = Instant::now();
    let driven = driven(Duration::from_secs(5));
    driven.signals.try_send(Caught::Terminate).unwrap();
    driven.shutdown.reached(Stage::Leaving).await;
    assert_eq!((driven.shutdown.stage(), begin.elapsed()), (Stage::Leaving, Duration::ZERO));
    driven.shutdown.reached(Stage::Draining).await;
    assert_eq!(begin.elapsed().as_secs(), 5);
    assert_eq!(driven.exits.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn interrupt_skips_the_delay_and_a_second_signal_exits() {
    let begin = Instant::now();
    let driven = driven(Duration::from_secs(5));
    driven.signals.try_send(Caught::Hangup).unwrap();
    driven.signals.try_send(Caught::Interrupt).unwrap();
    driven.shutdown.reached(Stage::Draining).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!((driven.hups.load(SeqCst), driven.exits.load(SeqCst)), (1, 0));
    driven.signals.try_send(Caught::Terminate).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(driven.exits.load(SeqCst), 1);
}

#[tokio::test]
async fn stages_never_go_back_and_waiting_for_a_passed_one_returns() {
    let shutdown = Shutdown::new();
    shutdown.advance(Stage::Draining);
    shutdown.advance(Stage::Leaving);
    assert_eq!(shutdown.stage(), Stage::Draining);
    shutdown.reached(Stage::Leaving).await;
}

#[test]
fn real_signals_are_caught() {
    let shutdown = Shutdown::new();
    let (sent, hups) = std::sync::mpsc::sync_channel(8);
    shutdown.listen_to_signals(Duration::ZERO, move || {
        let _ = sent.send(());
    });
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::HUP).unwrap();
    hups.recv_timeout(Duration::from_secs(10)).expect("SIGHUP reaches the callback");
    assert_eq!(shutdown.stage(), Stage::Running);
}
