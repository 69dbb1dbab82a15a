//! Who has which slots.

use std::{sync::Arc, time::Duration};

use edgequota_config::settings;
use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::{Cluster, Node};
use crate::store::redis::{
    common::Obstacle,
    endpoint::Endpoint,
    failure::Failure,
    locate::{ask_once, patience},
    role::text,
    slots::SLOTS,
};

/// Longest wait for the answer of a node that is connected.
const ANSWER: Duration = Duration::from_secs(1);
/// Nobody has the slot.
const NOBODY: u16 = u16::MAX;

/// Slots by the place of their primary in the list of nodes.
pub(super) struct Map {
    by_slot: Box<[u16]>,
    nodes: Vec<Arc<Node>>,
}

/// What a node says: ranges of slots, both ends included, and who has them.
pub(super) type Layout = Vec<(u16, u16, Endpoint)>;

impl Map {
    pub(super) fn empty() -> Map {
        Map { by_slot: vec![NOBODY; usize::from(SLOTS)].into(), nodes: Vec::new() }
    }

    pub(super) fn new(layout: &Layout, node: impl Fn(&Endpoint, u16) -> Arc<Node>) -> Map {
        let mut map = Map::empty();
        for (first, last, endpoint) in layout {
            let index = map.index(&node(endpoint, *first));
            for slot in *first..=*last {
                map.by_slot[usize::from(slot)] = index;
            }
        }
        map
    }

    pub(super) fn of(&self, slot: u16) -> Option<&Arc<Node>> {
        self.nodes.get(usize::from(*self.by_slot.get(usize::from(slot))?))
    }

    /// The same but for one slot. A node without any slot left is not in it any more.
    pub(super) fn with(&self, slot: u16, node: &Arc<Node>) -> Map {
        let mut map = Map { by_slot: self.by_slot.clone(), nodes: self.nodes.clone() };
        let index = map.index(node);
        if let Some(entry) = map.by_slot.get_mut(usize::from(slot)) {
            *entry = index;
        }
        map
    }

    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    pub(super) fn has(&self, node: &Node) -> bool {
        self.nodes.iter().any(|known| known.endpoint == node.endpoint)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.by_slot.iter().all(|index| *index != NOBODY)
    }

    pub(super) fn differs_from(&self, other: &Map) -> bool {
        self.nodes.len() != other.nodes.len() || !self.nodes.iter().all(|node| other.has(node))
    }

    fn index(&mut self, node: &Arc<Node>) -> u16 {
        let found = self.nodes.iter().position(|known| known.endpoint == node.endpoint);
        let index = found.unwrap_or_else(|| {
            self.nodes.push(Arc::clone(node));
            self.nodes.len() - 1
        });
        // There are fewer nodes than slots: each was named for one.
        u16::try_from(index).unwrap_or(NOBODY)
    }
}

impl Cluster {
    /// Asks who has which slots: a node that is connected or, `anew` or when none answers, those of the settings.
    pub(super) async fn look(&self, settings: &settings::Redis, anew: bool) -> Option<Layout> {
        let mut question = Cmd::new();
        question.arg("CLUSTER").arg("SLOTS");
        if !anew {
            let mut nodes = self.all_nodes();
            nodes.retain(|node| node.primary.is_connected() && node.primary.healthy());
            fastrand::shuffle(&mut nodes);
            for node in nodes {
                let Some(answer) = node.primary.ask(&question, Instant::now() + ANSWER).await else { continue };
                if let Some(layout) = self.told(answer, &node.endpoint) {
                    return Some(layout);
                }
            }
        }
        let mut places: Vec<Endpoint> = settings.endpoints.iter().filter_map(|text| Endpoint::parse(text)).collect();
        for node in self.all_nodes() {
            if !places.contains(&node.endpoint) {
                places.push(node.endpoint.clone());
            }
        }
        let end = Instant::now() + patience(settings);
        let question = &question;
        let mut asked: FuturesUnordered<_> = places
            .iter()
            .map(|place| async move {
                // To whom there is a connection already there may be room for no other.
                let known = self.known(place);
                let answer = match &known {
                    Some(node) => node.primary.ask_at(place, question, end).await,
                    None => None,
                };
                let answer = match answer {
                    Some(answer) => answer,
                    None => ask_once(&self.common, settings, place, question, end).await?,
                };
                self.told(answer, place)
            })
            .collect();
        while let Some(answer) = asked.next().await {
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    fn told(&self, answer: Result<Value, Failure>, by: &Endpoint) -> Option<Layout> {
        match answer {
            Ok(value) => {
                self.common.obstacle_is(Obstacle::Directory, None);
                layout(&value, &by.host)
            }
            Err(failure) => {
                if let Failure::NoPermission(message) = &failure {
                    let obstacle = format!("+cluster|slots is missing ({message})");
                    self.common.obstacle_is(Obstacle::Directory, Some(&obstacle));
                }
                tracing::debug!(endpoint = %by, ?failure, "a node does not tell who has which slots");
                None
            }
        }
    }
}

/// The answer to `CLUSTER SLOTS`. A node without a host is the one that was asked, `of`. `None`: it is no such answer, or
/// names nobody.
fn layout(value: &Value, of: &str) -> Option<Layout> {
    let Value::Array(ranges) = value else { return None };
    let ranges: Option<Layout> = ranges.iter().map(|range| self::range(range, of)).collect();
    ranges.filter(|ranges| !ranges.is_empty())
}

fn range(value: &Value, of: &str) -> Option<(u16, u16, Endpoint)> {
    let Value::Array(items) = value else { return None };
    let number = |item: &Value| match item {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let (first, last) = (number(items.first()?)?, number(items.get(1)?)?);
    let Some(Value::Array(primary)) = items.get(2) else { return None };
    let host = primary.first().and_then(text).filter(|host| !host.is_empty() && host != "?");
    let port = number(primary.get(1)?)?;
    (first <= last && last < SLOTS).then(|| (first, last, Endpoint::new(host.as_deref().unwrap_or(of), port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(resp: &str) -> Option<Layout> {
        layout(&redis::parse_redis_value(resp.as_bytes()).ok()?, "asked")
    }

    #[test]
    fn a_map_is_read_whole_or_not_at_all() {
        let one = "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$8\r\n10.0.0.1\r\n:6379\r\n$2\r\nid\r\n";
        assert_eq!(read(one), Some(vec![(0, 16383, Endpoint::new("10.0.0.1", 6379))]));
        let unnamed = "*1\r\n*3\r\n:0\r\n:5\r\n*3\r\n$-1\r\n:6379\r\n$2\r\nid\r\n";
        assert_eq!(read(unnamed), Some(vec![(0, 5, Endpoint::new("asked", 6379))]));
        for garbage in [
            "*0\r\n",
            "+OK\r\n",
            "*1\r\n*2\r\n:0\r\n:5\r\n",
            "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
            "*1\r\n*3\r\n:9\r\n:5\r\n*2\r\n$1\r\na\r\n:1\r\n",
            "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$1\r\na\r\n:99999\r\n",
        ] {
            assert_eq!(read(garbage), None, "{garbage}");
        }
    }
}
