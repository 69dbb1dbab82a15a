//! Several redis-servers that stand together: replicas, Sentinels, a cluster.

use std::time::Duration;

use edgequota_config::settings::{Redis, RedisMode};
use edgequota_policy::GoDuration;

use super::{
    at_last,
    server::{RedisServer, free_port},
};

/// The name of the primary at the Sentinels.
pub const MASTER: &str = "mymaster";

/// Settings for these servers, with a deadline that a loaded machine keeps.
fn settings(mode: RedisMode, servers: &[&RedisServer]) -> Redis {
    Redis {
        mode,
        endpoints: servers.iter().map(|server| server.known_address()).collect(),
        pool_size: 3,
        deadline: GoDuration::new(Duration::from_millis(1000)),
        ..Redis::default()
    }
}

/// A primary and replicas of it. Who is who changes.
pub struct Replicated {
    pub servers: Vec<RedisServer>,
}

impl Replicated {
    /// The first one is the primary.
    pub async fn start() -> Replicated {
        Replicated::start_with(&[]).await
    }

    pub async fn start_with(extra: &[&str]) -> Replicated {
        let extra = [&["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"], extra].concat();
        let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start_with(&extra)).collect();
        for replica in &servers[1..] {
            replica.run(&["REPLICAOF", "127.0.0.1", &servers[0].known_port().to_string()]);
        }
        let set = Replicated { servers };
        set.in_step(0).await;
        set
    }

    /// Waits until this one has replicas that follow, all others.
    pub async fn in_step(&self, primary: usize) {
        let others = self.servers.len() - 1;
        at_last("the replicas follow", || async {
            self.servers[primary].text(&["INFO", "replication"]).matches("state=online").count() == others
        })
        .await;
    }

    /// An operator makes another one the primary.
    pub fn promote(&self, primary: usize) {
        self.servers[primary].run(&["REPLICAOF", "NO", "ONE"]);
        let port = self.servers[primary].known_port().to_string();
        for (_, replica) in self.servers.iter().enumerate().filter(|(i, _)| *i != primary) {
            let _ = replica.try_run(&["REPLICAOF", "127.0.0.1", &port]);
        }
    }

    /// All endpoints, the replicas first.
    pub fn settings(&self) -> Redis {
        settings(RedisMode::Replication, &self.servers.iter().rev().collect::<Vec<_>>())
    }
}

/// The same under three Sentinels.
pub struct Watched {
    pub set: Replicated,
    pub sentinels: Vec<RedisServer>,
}

impl Watched {
    pub async fn start() -> Watched {
        Watched::start_with("").await
    }

    /// With more lines in the files of the Sentinels.
    pub async fn start_with(lines: &str) -> Watched {
        Watched::before(Replicated::start().await, lines)
    }

    pub fn before(set: Replicated, lines: &str) -> Watched {
        let file = format!(
            "{lines}\nsentinel monitor {MASTER} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 3000\n",
            set.servers[0].known_port()
        );
        let sentinels = (0..3).map(|_| RedisServer::sentinel(&file)).collect();
        Watched { set, sentinels }
    }

    /// Waits until the Sentinels know each other and the replicas, so that they can do their work.
    pub async fn settled(&self) {
        at_last("the sentinels know each other and the replicas", || async {
            self.sentinels.iter().all(|sentinel| {
                let info = sentinel.text(&["INFO", "sentinel"]);
                info.contains("status=ok") && info.contains("slaves=2") && info.contains("sentinels=3")
            })
        })
        .await;
    }

    pub fn settings(&self) -> Redis {
        Redis {
            master_name: MASTER.to_owned(),
            ..settings(RedisMode::Sentinel, &self.sentinels.iter().collect::<Vec<_>>())
        }
    }

    /// The place among the servers of the one that the Sentinels name.
    pub fn named(&self) -> Option<usize> {
        let sentinel = self.sentinels.iter().find_map(|sentinel| {
            let named = sentinel.try_run(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).ok()?;
            redis::from_redis_value::<(String, u16)>(named).ok()
        });
        let (_, port) = sentinel?;
        self.set.servers.iter().position(|server| server.known_port() == port)
    }
}

/// A cluster: three primaries (the first three) with a replica each (in the same order).
pub struct Sharded {
    pub nodes: Vec<RedisServer>,
}

/// Hash slots, shared out among three.
const RANGES: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

impl Sharded {
    pub async fn start() -> Sharded {
        Sharded::start_with(&[]).await
    }

    pub async fn start_with(extra: &[&str]) -> Sharded {
        let nodes: Vec<RedisServer> = (0..6)
            .map(|_| {
                let bus = free_port().to_string();
                let cluster = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-config-file",
                    "nodes.conf",
                    "--cluster-node-timeout",
                    "1000",
                    "--cluster-port",
                    &bus,
                    "--repl-diskless-sync-delay",
                    "0",
                ];
                RedisServer::start_with(&[&cluster, extra].concat())
            })
            .collect();
        for (epoch, node) in nodes.iter().enumerate() {
            node.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()]);
        }
        for (node, (first, last)) in nodes.iter().zip(RANGES) {
            node.run(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        let cluster = Sharded { nodes };
        let bus = |node: &RedisServer| {
            let port: Vec<String> =
                redis::from_redis_value(node.run(&["CONFIG", "GET", "cluster-port"])).expect("a list");
            port[1].clone()
        };
        let (first, rest) = cluster.nodes.split_first().expect("there are nodes");
        for node in rest {
            node.run(&["CLUSTER", "MEET", "127.0.0.1", &first.port.to_string(), &bus(first)]);
        }
        at_last("all nodes know each other", || async {
            cluster.nodes.iter().all(|node| node.text(&["CLUSTER", "INFO"]).contains("cluster_known_nodes:6"))
        })
        .await;
        for (i, replica) in cluster.nodes[3..].iter().enumerate() {
            let primary = cluster.id(i);
            at_last("a node follows", || async { replica.try_run(&["CLUSTER", "REPLICATE", &primary]).is_ok() }).await;
        }
        cluster.whole().await;
        cluster
    }

    pub fn id(&self, node: usize) -> String {
        self.nodes[node].text(&["CLUSTER", "MYID"])
    }

    /// Waits until the cluster is in order for every node that lives, and each primary has a replica.
    pub async fn whole(&self) {
        at_last("the cluster is in order", || async {
            self.nodes.iter().all(|node| {
                let role = node.text(&["INFO", "replication"]);
                let follows = role.contains("role:master") && role.contains("state=online")
                    || role.contains("role:slave") && role.contains("master_link_status:up");
                node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok") && follows
            })
        })
        .await;
    }

    /// Who has the slot of this key, as most see it.
    pub fn home(&self, key: &str) -> usize {
        let slot = self.nodes.iter().map(|node| node.try_run(&["CLUSTER", "KEYSLOT", key])).find_map(Result::ok);
        let slot: i64 = redis::from_redis_value(slot.expect("a node answers")).expect("a number");
        match slot {
            0..=5460 => 0,
            5461..=10_922 => 1,
            _ => 2,
        }
    }

    pub fn settings(&self) -> Redis {
        settings(RedisMode::Cluster, &self.nodes.iter().collect::<Vec<_>>())
    }
}
