//! Redis servers that stand together.

use std::time::Duration;

use crate::{eventually::eventually, ports::free_port, redis_server::Redis};

/// What servers do among themselves takes its time on a loaded machine.
const SETTLED: Duration = Duration::from_secs(90);
const MASTER: &str = "mymaster";

/// A primary (at first the first one), two replicas, and three Sentinels.
#[derive(Debug)]
pub struct Sentinels {
    /// Servers with data.
    pub servers: Vec<Redis>,
    /// Sentinels.
    pub sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts all and waits until the Sentinels know each other and the replicas.
    pub async fn start() -> Sentinels {
        let mut servers = vec![Redis::with(&["--repl-diskless-sync-delay", "0"]).await];
        let primary = format!("127.0.0.1 {}", servers[0].port());
        for _ in 0..2 {
            servers.push(Redis::with(&["--repl-diskless-sync-delay", "0", "--replicaof", &primary]).await);
        }
        let lines = format!(
            "sentinel monitor {MASTER} {primary} 2\nsentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 3000\n"
        );
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Redis::sentinel(&lines).await);
        }
        let set = Sentinels { servers, sentinels };
        for sentinel in &set.sentinels {
            eventually("a Sentinel knows the others and the replicas", SETTLED, || async {
                let info: String = sentinel.ask(&["INFO", "sentinel"]).await?;
                ["status=ok", "slaves=2", "sentinels=3"].iter().all(|word| info.contains(word)).then_some(())
            })
            .await;
        }
        set
    }

    /// The `redis:` block, with more lines of it.
    pub fn yaml(&self, more: &[&str]) -> String {
        let lines = [&["mode: sentinel", "master_name: mymaster"], more].concat();
        block(self.sentinels.iter(), &lines)
    }

    /// Whom a Sentinel names, by its place among the servers.
    pub async fn primary(&self) -> Option<usize> {
        let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
        let (_, port) = self.sentinels[0].ask::<(String, u16)>(&question).await?;
        self.servers.iter().position(|server| server.port() == port)
    }
}

/// A cluster of three primaries (the first three) with a replica each (in the same order).
#[derive(Debug)]
pub struct Shards {
    /// Its nodes.
    pub nodes: Vec<Redis>,
}

impl Shards {
    /// Starts it and waits until it is in order. A dead shard does not make the others refuse.
    pub async fn start() -> Shards {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let bus = free_port().to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus];
            let rest = ["--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"];
            nodes.push(Redis::with(&[&cluster[..], &rest].concat()).await);
        }
        let set = Shards { nodes };
        for (i, node) in set.nodes.iter().enumerate() {
            let epoch = (i + 1).to_string();
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await.expect("SET-CONFIG-EPOCH");
        }
        for (node, (first, last)) in set.nodes.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await.expect("ADDSLOTSRANGE");
        }
        let (first, rest) = set.nodes.split_first().unwrap();
        let bus: (String, String) = first.ask(&["CONFIG", "GET", "cluster-port"]).await.expect("CONFIG GET");
        for node in rest {
            let port = first.port().to_string();
            node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus.1]).await.expect("MEET");
        }
        for (i, replica) in set.nodes[3..].iter().enumerate() {
            let id: String = set.nodes[i].ask(&["CLUSTER", "MYID"]).await.expect("MYID");
            let words = ["CLUSTER", "REPLICATE", &id];
            eventually("a node follows", SETTLED, || replica.ask::<()>(&words)).await;
        }
        for node in &set.nodes {
            eventually("the cluster is in order", SETTLED, || async {
                let info: String = node.ask(&["CLUSTER", "INFO"]).await?;
                let role: String = node.ask(&["INFO", "replication"]).await?;
                let follows = role.contains("state=online") || role.contains("master_link_status:up");
                (info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6") && follows).then_some(())
            })
            .await;
        }
        set
    }

    /// The `redis:` block, with more lines of it.
    pub fn yaml(&self, more: &[&str]) -> String {
        block(self.nodes.iter(), &[&["mode: cluster"], more].concat())
    }

    /// The place of the node that has the slot of this key at the start.
    pub async fn home(&self, key: &str) -> usize {
        let mut slot = None;
        for node in &self.nodes {
            slot = slot.or(node.ask::<u16>(&["CLUSTER", "KEYSLOT", key]).await);
        }
        match slot.expect("a node lives") {
            0..=5460 => 0,
            5461..=10_922 => 1,
            _ => 2,
        }
    }
}

fn block<'a>(servers: impl Iterator<Item = &'a Redis>, lines: &[&str]) -> String {
    let endpoints: Vec<String> = servers.map(|server| format!("\"{}\"", server.address())).collect();
    let mut text = format!("redis:\n  endpoints: [{}]\n", endpoints.join(", "));
    lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    text
}
