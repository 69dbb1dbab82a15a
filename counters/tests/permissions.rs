//! ACLs: the one that the docs name suffices, and a missing rule is named.

use edgequota_counters::{
    Refusal, Verdict,
    store::redis::{ACL_CLUSTER, ACL_FOUND, ACL_RULES, ACL_SENTINEL},
};
use edgequota_policy::limit::FailurePolicy;
use secrecy::SecretString;

use crate::support::{
    asks::{Rule, ask, limit},
    at_last, eventually,
    server::RedisServer,
    topology::{Replicated, Sharded, Watched},
    world::{World, by_store, settings},
};

fn needed() -> Vec<&'static str> {
    ACL_RULES.split(' ').collect()
}

fn needed_but(missing: &str) -> Vec<&'static str> {
    let rules: Vec<&str> = needed().into_iter().filter(|rule| *rule != missing).collect();
    assert_eq!(rules.len() + 1, needed().len(), "{missing} is one of the rules");
    rules
}

fn strict(name: &'static str) -> Rule {
    limit(name, 1000, FailurePolicy::FailClosed)
}

async fn world_as(server: &RedisServer, rules: &[&str]) -> World {
    server.run(&[&["ACL", "SETUSER", "edge", "reset", "on", ">pass"], rules].concat());
    let mut set = settings(server);
    set.username = "edge".to_owned();
    set.password = SecretString::from("pass");
    World::new(set).await
}

#[tokio::test]
async fn the_documented_rules_suffice() {
    let server = RedisServer::start();
    let world = world_as(&server, &needed()).await;
    assert_eq!(world.counters.problem(), None);
    let asks = [ask(strict("default"), "acme"), ask(strict("search"), "acme")];
    assert!(by_store(&world.verdict(&asks).await));
    server.run(&["SCRIPT", "FLUSH"]);
    assert!(by_store(&world.verdict(&asks).await));
    server.run(&["SET", "rl:edgequota:acme", "garbage"]);
    world.verdict(&asks).await;
    assert_eq!(world.metric("edgequota_counters_corrupt_total"), 1.0);
    assert!(world.counters.ping().await);
    assert_eq!(world.counters.stats().0, 0);
}

#[tokio::test]
async fn each_missing_rule_is_named_at_the_start() {
    let server = RedisServer::start();
    let commands: Vec<&str> =
        needed().iter().filter_map(|rule| rule.strip_prefix('+')).filter(|c| *c != "ping").collect();
    for missing in commands {
        let rules = needed_but(&format!("+{missing}"));
        let world = world_as(&server, &rules).await;
        let problem = world.counters.problem().unwrap_or_else(|| panic!("nothing is said about {missing}"));
        assert!(problem.contains(&format!("+{missing} ")) || problem.contains(&format!("'{missing}'")), "{problem}");
        assert!(world.metric("edgequota_redis_permission_errors_total") >= 1.0);
    }
}

#[tokio::test]
async fn a_call_without_permission_goes_by_failure_policy() {
    let server = RedisServer::start();
    let rules = needed_but("+pexpire");
    let world = world_as(&server, &rules).await;
    let closed = Verdict::Refused(Refusal::Unavailable { code: 503 });
    assert_eq!(world.verdict(&[ask(strict("default"), "acme")]).await, closed);
    assert!(world.counters.stats().0 > 0);
    // Keys outside the ACL's patterns, the commands all allowed.
    let rules = needed_but("~{rl:*");
    let world = world_as(&server, &rules).await;
    assert_eq!(world.counters.problem(), None, "other limits may not be in use");
    assert!(by_store(&world.verdict(&[ask(strict("default"), "acme")]).await));
    assert_eq!(world.verdict(&[ask(strict("search"), "acme")]).await, closed);
    assert!(world.counters.problem().expect("named").contains("key"));
}

#[tokio::test]
async fn a_rule_that_is_added_ends_the_problem() {
    let server = RedisServer::start();
    let rules = needed_but("+hset");
    let world = world_as(&server, &rules).await;
    assert!(world.counters.problem().is_some());
    server.run(&["ACL", "SETUSER", "edge", "+hset"]);
    eventually("the problem is over", || async {
        assert!(by_store(&world.verdict(&[ask(strict("default"), "acme")]).await));
        world.counters.problem().is_none()
    })
    .await;
}

#[tokio::test]
async fn ping_may_be_forbidden() {
    let server = RedisServer::start();
    let rules = needed_but("+ping");
    let world = world_as(&server, &rules).await;
    assert!(world.counters.ping().await);
    let asks = [ask(strict("default"), "acme")];
    server.freeze();
    futures_util::future::join_all((0..5).map(|_| world.worker.spend(&asks))).await;
    assert!(!world.counters.healthy());
    server.thaw();
    world.recovered(&asks[0]).await;
}

#[tokio::test]
async fn a_server_without_hello_is_spoken_to_in_the_old_protocol() {
    let server = RedisServer::start_with(&["--requirepass", "pass", "--rename-command", "HELLO", "\"\""]);
    let mut set = settings(&server);
    set.password = SecretString::from("pass");
    let world = World::new(set).await;
    assert!(by_store(&world.verdict(&[ask(strict("default"), "acme")]).await));
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.client_with("pass")).expect("text");
    assert!(clients.lines().any(|l| l.contains("name=edgequota-") && l.contains("resp=2")), "{clients}");
}

#[tokio::test]
async fn an_evicting_server_is_shown() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let world = World::with(&server).await;
    assert_eq!(world.metric("edgequota_redis_may_evict"), 1.0);
    let good = RedisServer::start();
    let world = World::with(&good).await;
    assert_eq!(world.metric("edgequota_redis_may_evict"), 0.0);
}

/// Makes the user on all these servers.
fn allow(servers: &[RedisServer], rules: &str) {
    for server in servers {
        let user = ["ACL", "SETUSER", "edge", "reset", "on", ">pass"];
        server.run(&[&user[..], &rules.split(' ').collect::<Vec<_>>()].concat());
    }
}

fn as_edge(mut set: edgequota_config::settings::Redis) -> edgequota_config::settings::Redis {
    set.username = "edge".to_owned();
    set.password = SecretString::from("pass");
    set
}

/// Counts with these rules. Without one of them it says which.
async fn counts_until(
    set: edgequota_config::settings::Redis,
    missing: &str,
    take_away: impl FnOnce(),
    give_back: impl FnOnce(),
) {
    let asks = [ask(strict("default"), "acme"), ask(strict("search"), "b")];
    let world = World::new(set.clone()).await;
    world.recovered(&asks[0]).await;
    eventually("all is well", || async { world.counters.healthy() && by_store(&world.verdict(&asks).await) }).await;
    assert_eq!(world.counters.problem(), None);
    drop(world);
    take_away();
    let world = World::new(set).await;
    eventually("the missing rule is named", || async {
        world.counters.problem().is_some_and(|problem| problem.contains(missing))
    })
    .await;
    assert!(!world.counters.healthy() && world.metric("edgequota_redis_permission_errors_total") > 0.0);
    give_back();
    at_last("the problem is over", || async {
        world.decider.look(&asks).await;
        world.counters.healthy() && world.counters.problem().is_none()
    })
    .await;
    assert!(by_store(&world.verdict(&asks).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_replication() {
    let set = Replicated::start().await;
    let all = format!("{ACL_RULES} {ACL_FOUND}");
    allow(&set.servers, &all);
    let (less, more) = (|| allow(&set.servers, ACL_RULES), || allow(&set.servers, &all));
    counts_until(as_edge(set.settings()), "+role", less, more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_sentinel() {
    let stand = Watched::start().await;
    allow(&stand.set.servers, &format!("{ACL_RULES} {ACL_FOUND}"));
    allow(&stand.sentinels, ACL_SENTINEL);
    let mut set = as_edge(stand.settings());
    (set.sentinel_username, set.sentinel_password) = ("edge".to_owned(), SecretString::from("pass"));
    let rest = ACL_SENTINEL.replace("+sentinel|get-master-addr-by-name ", "");
    let (less, more) = (|| allow(&stand.sentinels, &rest), || allow(&stand.sentinels, ACL_SENTINEL));
    counts_until(set, "+sentinel|get-master-addr-by-name", less, more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_a_cluster() {
    let cluster = Sharded::start().await;
    let all = format!("{ACL_RULES} {ACL_CLUSTER}");
    for missing in ["+cluster|slots", "+asking"] {
        allow(&cluster.nodes, &all);
        let rest = all.replace(&format!(" {missing}"), "");
        let (less, more) = (|| allow(&cluster.nodes, &rest), || allow(&cluster.nodes, &all));
        counts_until(as_edge(cluster.settings()), missing, less, more).await;
    }
}
