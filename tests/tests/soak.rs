//! Full load with edits, Redis restarts, faults and churn: no wrong answer, and everything is given back. Twenty seconds
//! here; `make soak` runs ten minutes of the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures)]

use edgequota_tests::soak::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_and_no_answer_is_wrong() {
    run(Plan::from_environment()).await;
}
