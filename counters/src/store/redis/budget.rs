//! How many connections this process may have to one server: `redis.pool_size`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::endpoint::Endpoint;

/// Room for connections, by server.
#[derive(Debug)]
pub(super) struct Budget {
    per_endpoint: usize,
    endpoints: Mutex<HashMap<Endpoint, Arc<Semaphore>>>,
}

/// Leave to have one connection, until it is dropped.
pub(super) type Permit = OwnedSemaphorePermit;

impl Budget {
    pub(super) fn new(per_endpoint: usize) -> Budget {
        Budget { per_endpoint, endpoints: Mutex::default() }
    }

    /// Waits for room.
    pub(super) async fn one(&self, endpoint: &Endpoint) -> Permit {
        loop {
            // It is never closed, so this is the first turn's answer.
            if let Ok(permit) = self.of(endpoint).acquire_owned().await {
                return permit;
            }
        }
    }

    /// `None`: there is no room now.
    pub(super) fn one_now(&self, endpoint: &Endpoint) -> Option<Permit> {
        self.of(endpoint).try_acquire_owned().ok()
    }

    fn of(&self, endpoint: &Endpoint) -> Arc<Semaphore> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        // Servers that nobody is connected to any more: pods come back at other addresses.
        endpoints.retain(|known, room| known == endpoint || room.available_permits() < self.per_endpoint);
        let room = endpoints.entry(endpoint.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.per_endpoint)));
        Arc::clone(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_server_has_its_own_room_and_those_left_are_forgotten() {
        let budget = Budget::new(2);
        let (a, b) = (Endpoint::new("a", 1), Endpoint::new("b", 1));
        let first = budget.one(&a).await;
        let second = budget.one_now(&a);
        assert!(second.is_some() && budget.one_now(&a).is_none());
        drop(first);
        assert!(budget.one_now(&a).is_some());
        drop(second);
        let _b = budget.one(&b).await;
        assert_eq!(budget.endpoints.lock().unwrap_or_else(PoisonError::into_inner).len(), 1);
    }
}
