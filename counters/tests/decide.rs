//! Decisions while the store answers.

use std::time::{Duration, Instant};

use edgequota_counters::{AllowedBy, Decider, Refusal, Verdict};
use edgequota_policy::limit::{FailurePolicy, Mode};

use crate::support::{
    asks::{Rule, ask, blocked, limit},
    server::RedisServer,
    worker::Worker,
    world::{World, by_store, settings},
};

fn strict(name: &'static str, burst: u64) -> Rule {
    limit(name, burst, FailurePolicy::FailClosed)
}

#[tokio::test]
async fn spends_until_the_limit_and_says_when_to_come_back() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict("default", 3), "acme")];
    for left in (0..3).rev() {
        let decision = world.worker.spend(&asks).await;
        assert_eq!(decision.verdict, Verdict::Allowed(AllowedBy::Store));
        let state = &decision.limits[0];
        assert_eq!((state.remaining, state.passed), (Some(left), Some(true)));
        assert!(state.reset_after.expect("known") <= Duration::from_secs(1200) * (3 - left as u32));
    }
    let decision = world.worker.spend(&asks).await;
    let Verdict::Refused(Refusal::Limited { limit: 0, retry_after }) = decision.verdict else {
        panic!("{:?}", decision.verdict)
    };
    assert!(retry_after > Duration::from_secs(1190) && retry_after <= Duration::from_secs(1200), "{retry_after:?}");
    assert_eq!(decision.limits[0].retry_after, Some(retry_after));
    assert_eq!(decision.limits[0].passed, Some(false));
    assert_eq!(server.hash("rl:edgequota:acme")["tokens"], "0");
    assert_eq!(world.counters.stats(), (0, 0, 0));
}

#[tokio::test]
async fn a_look_decides_alike_and_spends_nothing() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict("default", 1), "acme")];
    let looked = world.decider.look(&asks).await;
    assert_eq!((looked.verdict, looked.limits[0].remaining), (Verdict::Allowed(AllowedBy::Store), Some(1)));
    assert!(server.hash("rl:edgequota:acme").is_empty());
    world.worker.spend(&asks).await;
    let looked = world.counters.decider().look(&asks).await;
    assert!(matches!(looked.verdict, Verdict::Refused(Refusal::Limited { limit: 0, .. })));
}

#[tokio::test]
async fn nothing_to_ask_asks_nobody() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let decision = world.worker.spend(&[]).await;
    assert_eq!(decision.verdict, Verdict::Allowed(AllowedBy::NoLimit));
    assert!(decision.limits.is_empty());
}

#[tokio::test]
async fn a_blocked_subject_is_refused_without_a_call() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict("default", 5), "mallory"), blocked(strict("search", 5), "mallory")];
    let decision = world.worker.spend(&asks).await;
    assert_eq!(decision.verdict, Verdict::Refused(Refusal::Blocked { limit: 1 }));
    assert_eq!(server.int(&["EXISTS", "rl:edgequota:mallory"]), 0);
    let shadow = Rule { mode: Mode::Shadow, ..strict("ghost", 5) };
    let decision = world.worker.spend(&[blocked(shadow, "mallory")]).await;
    assert!(by_store(&decision.verdict), "a shadow limit never refuses");
    assert_eq!(decision.limits[0].passed, Some(false));
}

#[tokio::test]
async fn of_several_refusals_the_longest_wait_is_named() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [
        ask(strict("default", 100), "acme"),
        ask(strict("a", 4), "acme"),
        ask(strict("b", 2), "acme"),
        ask(Rule { mode: Mode::Shadow, ..strict("c", 1) }, "acme"),
    ];
    world.worker.spend(&asks).await;
    world.worker.spend(&asks).await;
    // Empty both: the slower one to refill has the longer wait.
    world.worker.spend(&asks[1..2]).await;
    world.worker.spend(&asks[1..2]).await;
    let decision = world.worker.spend(&asks).await;
    let Verdict::Refused(Refusal::Limited { limit, retry_after }) = decision.verdict else {
        panic!("{:?}", decision.verdict)
    };
    assert_eq!(limit, 2);
    assert!(retry_after > Duration::from_secs(1700));
    let passed: Vec<_> = decision.limits.iter().map(|state| state.passed).collect();
    assert_eq!(passed, [None, Some(false), Some(false), None], "decided without asking about those that may have some");
    let asked = world.decider.look(&asks).await;
    let passed: Vec<_> = asked.limits.iter().map(|state| state.passed).collect();
    assert_eq!(passed, [Some(true), Some(false), Some(false), Some(false)]);
    assert_eq!(asked.limits[0].remaining, Some(98), "the roomy one gave nothing");
}

#[tokio::test]
async fn the_script_is_sent_again_when_the_server_forgot_it() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict("default", 10), "acme")];
    for left in [9, 8, 7] {
        server.run(&["SCRIPT", "FLUSH"]);
        let decision = world.worker.spend(&asks).await;
        assert_eq!((by_store(&decision.verdict), decision.limits[0].remaining), (true, Some(left)));
    }
    assert_eq!(world.counters.stats(), (0, 0, 0));
}

#[tokio::test]
async fn two_processes_count_together() {
    let server = RedisServer::start();
    let worlds = [World::with(&server).await, World::with(&server).await];
    let asks = [ask(strict("default", 200), "acme")];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..400 {
        let (worker, asks) = (worlds[i % 2].worker.clone(), asks.clone());
        tasks.spawn(async move { worker.spend(&asks).await.verdict });
    }
    let verdicts = tasks.join_all().await;
    assert_eq!(verdicts.iter().filter(|v| by_store(v)).count(), 200);
    assert!(worlds.iter().all(|world| world.counters.stats() == (0, 0, 0)), "no decision was a fallback");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_that_hammer_one_key_keep_the_promise() {
    const BURST: u64 = 200;
    const RATE: u64 = 200;
    let server = RedisServer::start();
    let rule = Rule { average: RATE, period: "1s", ..strict("default", BURST) };
    let asks = [ask(rule, "acme")];
    let mut worlds = Vec::new();
    for _ in 0..3 {
        worlds.push(World::with(&server).await);
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for world in &worlds {
        for _ in 0..4 {
            let (worker, asks) = (world.worker.clone(), asks.clone());
            tasks.spawn(async move {
                let (mut allowed, mut refused_first, mut refused_last) = (0u64, f64::MAX, 0.0f64);
                while began.elapsed() < Duration::from_secs(3) {
                    let sent = began.elapsed().as_secs_f64();
                    let verdict = worker.spend(&asks).await.verdict;
                    match verdict {
                        Verdict::Allowed(AllowedBy::Store) => allowed += 1,
                        Verdict::Refused(Refusal::Limited { .. }) => {
                            refused_first = refused_first.min(began.elapsed().as_secs_f64());
                            refused_last = sent;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                (allowed, refused_first, refused_last)
            });
        }
    }
    let ends = tasks.join_all().await;
    let lasted = began.elapsed().as_secs_f64();
    let allowed = ends.iter().map(|(allowed, ..)| allowed).sum::<u64>() as f64;
    let most = BURST as f64 + RATE as f64 * lasted;
    assert!(allowed <= most, "{allowed}, at most {most}");
    // The bucket was empty at the first refusal and at the last one: all that came in between was spent.
    let first = ends.iter().map(|(_, first, _)| *first).fold(f64::MAX, f64::min);
    let last = ends.iter().map(|(.., last)| *last).fold(0.0, f64::max);
    let least = BURST as f64 + RATE as f64 * (last - first) - 2.0;
    assert!(allowed >= least && last - first > 0.5, "{allowed}, at least {least} until {last}");
    assert!(worlds.iter().all(|world| world.counters.stats() == (0, 0, 0)), "no decision was a fallback");
}

#[tokio::test]
async fn database_and_name_are_as_set() {
    let server = RedisServer::start();
    let mut set = settings(&server);
    set.db = 3;
    let world = World::new(set).await;
    assert!(by_store(&world.verdict(&[ask(strict("default", 5), "acme")]).await));
    assert_eq!(server.int(&["EXISTS", "rl:edgequota:acme"]), 0);
    let clients: String = redis::from_redis_value(server.run(&["CLIENT", "LIST"])).expect("text");
    assert!(clients.contains("name=edgequota-test-node") && clients.contains("db=3 "), "{clients}");
    assert!(clients.contains("resp=3"), "{clients}");
}

#[tokio::test]
async fn workers_have_their_own_connections_up_to_the_pool_size() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let workers: Vec<Worker> = (1..7).map(|index| Worker::start(&world.counters, index)).collect();
    world.counters.tried().await;
    let asks = [ask(strict("default", 100), "acme")];
    for worker in &workers {
        assert!(by_store(&worker.spend(&asks).await.verdict));
    }
    let clients: String = redis::from_redis_value(server.run(&["CLIENT", "LIST"])).expect("text");
    assert_eq!(clients.matches("name=edgequota-").count(), 3, "pool_size is 3: {clients}");
}

#[tokio::test]
async fn a_call_that_was_dropped_adds_nothing() {
    let server = RedisServer::start();
    let world = World::with(&server).await;
    let asks = [ask(strict("default", 50), "acme")];
    for _ in 0..30 {
        let spend = world.worker.spend(&asks);
        let _ = tokio::time::timeout(Duration::ZERO, spend).await;
    }
    let decision = world.worker.spend(&asks).await;
    assert!(decision.limits[0].remaining.expect("known") <= 49);
}

#[test]
fn looks_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    fn check(decider: &Decider) {
        is_send(decider.look(&[]));
        is_send(decider.adjust(&[], edgequota_counters::store::Purpose::Reset));
    }
    let _ = check;
}
