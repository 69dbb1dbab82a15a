//! `replication`: the primary is whichever of the endpoints says that it is one.

use std::{sync::Mutex, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::{BELIEVED, LOOKED, Scout, again_in};
use crate::store::redis::{
    endpoint::Endpoint,
    role::{Role, Standing},
    target::{Target, publish},
};

/// With one primary found, another one may still say so within this time.
const OTHERS: Duration = Duration::from_millis(250);

/// Never ready.
pub(super) async fn follow(scout: &Scout<'_>, target: &watch::Sender<Target>, doubts: &Notify) {
    let endpoints: Vec<Endpoint> = scout.settings.endpoints.iter().filter_map(|text| Endpoint::parse(text)).collect();
    loop {
        let looked = Instant::now();
        let known = target.borrow().place().map(|place| place.endpoint.clone());
        let refused = Mutex::default();
        let seen = look(scout, &endpoints, &refused).await;
        let found = choose(&seen, known.as_ref());
        // It is not what it was. When it only cannot be reached it may yet be.
        let gone = |known| seen.iter().any(|(at, role)| *at == known && *role == Role::Replica);
        if let Some(endpoint) = &found {
            if publish(target, Target::at(endpoint.clone())) {
                tracing::info!(%endpoint, "this is the primary");
            }
        } else if known.is_none_or(gone) && publish(target, Target::Nowhere) {
            tracing::warn!("none of redis.endpoints says that it is the primary");
        }
        scout.looked(found.is_some(), &refused);
        let next = looked + if found.is_some() { again_in(BELIEVED) } else { again_in(Duration::from_secs(1)) };
        tokio::select! {
            () = sleep_until(next) => {}
            () = doubts.notified() => sleep_until(looked + LOOKED).await,
        }
    }
}

/// What the endpoints say.
async fn look(scout: &Scout<'_>, endpoints: &[Endpoint], refused: &Mutex<Option<String>>) -> Vec<(Endpoint, Role)> {
    let asked = endpoints.iter().map(|endpoint| async move { (endpoint, scout.role(endpoint, refused).await) });
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut seen = Vec::new();
    let mut end = None;
    loop {
        let answer = match end {
            None => asked.next().await,
            Some(end) => timeout_at(end, asked.next()).await.ok().flatten(),
        };
        let Some((endpoint, role)) = answer else { return seen };
        let Some(role) = role else { continue };
        if matches!(role, Role::Primary(_)) {
            end.get_or_insert_with(|| Instant::now() + OTHERS);
        }
        seen.push((endpoint.clone(), role));
    }
}

/// Of several that say so (an old one came back and was not told yet) the one that is followed, then the one with the longer
/// history, then the known one.
fn choose(seen: &[(Endpoint, Role)], known: Option<&Endpoint>) -> Option<Endpoint> {
    let primaries = seen.iter().filter_map(|(endpoint, role)| match role {
        Role::Primary(standing) => Some((*standing, Some(endpoint) == known, endpoint)),
        Role::Replica => None,
    });
    let rank = |(standing, known, _): &(Standing, bool, &Endpoint)| (*standing, *known);
    primaries.max_by_key(rank).map(|(_, _, endpoint)| endpoint.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(replicas: usize, offset: i64) -> Role {
        Role::Primary(Standing { replicas, offset })
    }

    #[test]
    fn of_several_primaries_the_one_that_is_followed() {
        let [a, b, c] = ["a", "b", "c"].map(|host| Endpoint::new(host, 1));
        let seen = |a_says, b_says| [(a.clone(), a_says), (b.clone(), b_says), (c.clone(), Role::Replica)];
        assert_eq!(choose(&seen(Role::Replica, Role::Replica), Some(&a)), None);
        assert_eq!(choose(&seen(primary(0, 900), primary(1, 5)), Some(&a)), Some(b.clone()));
        assert_eq!(choose(&seen(primary(0, 9), primary(0, 5)), Some(&b)), Some(a.clone()));
        assert_eq!(choose(&seen(primary(0, 5), primary(0, 5)), Some(&a)), Some(a.clone()));
        assert_eq!(choose(&seen(primary(0, 5), primary(0, 5)), Some(&b)), Some(b));
    }
}
