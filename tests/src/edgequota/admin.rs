//! What tests ask the admin port.

use std::time::Duration;

use serde_json::Value;

use super::Edgequota;
use crate::{
    client::{Answer, get, post},
    eventually::eventually,
    metrics::Metrics,
};

impl Edgequota {
    /// GET on the admin port.
    pub async fn admin_get(&self, path: &str) -> Answer {
        get(self.admin(), path, &[]).await
    }

    /// GET on the admin port, which must answer 200 with JSON.
    pub async fn admin_json(&self, path: &str) -> Value {
        let answer = self.admin_get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// POST of JSON on the admin port.
    pub async fn admin_post(&self, path: &str, body: &Value) -> Answer {
        post(self.admin(), path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// A scrape.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin_get("/metrics").await.text())
    }

    /// Whether `/readyz` answers 200.
    pub async fn is_ready(&self) -> bool {
        self.admin_get("/readyz").await.status == 200
    }

    /// Waits for `/readyz` 200.
    pub async fn until_ready(&self, limit: Duration) {
        eventually("ready", limit, || async { self.is_ready().await.then_some(()) }).await;
    }

    /// Waits until a metric (summed over label sets that contain all of `labels`) is at least `least`.
    pub async fn until_metric(&self, name: &str, labels: &[&str], least: f64) {
        eventually(&format!("{name}{labels:?} >= {least}"), Duration::from_secs(15), || async {
            (self.metrics().await.sum(name, labels) >= least).then_some(())
        })
        .await;
    }

    /// GET on the proxy.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        get(self.proxy(), path, headers).await
    }

    /// Waits until GET `path` gets an answer that `wanted` accepts.
    pub async fn until_answer(
        &self,
        what: &str,
        path: &str,
        headers: &[(&str, &str)],
        limit: Duration,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Answer {
        eventually(what, limit, || async {
            let answer = self.get(path, headers).await;
            wanted(&answer).then_some(answer)
        })
        .await
    }
}
