//! Clients that come, go, and break off where it hurts.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    kinds::{Kind, Wanted},
    load::judge,
    world::World,
};
use crate::{
    body,
    client::{H1, H2, Raw, frames, request},
    eventually::scripted_delay,
};

/// One misdeed after the other until it is stopped.
pub(super) async fn client(world: Arc<World>, n: usize, stop: CancellationToken) {
    let target = world.proxies[n % world.proxies.len()];
    while !stop.is_cancelled() {
        match fastrand::u8(0..9) {
            0 | 1 => {
                let (wanted, before) = (Wanted::of(Kind::Exact), world.now());
                let answer = H1::connect(target).await.send(wanted.request()).await;
                judge(&world, &wanted, before, answer);
                world.event("short");
            }
            2 => {
                let (wanted, before) = (Wanted::of(Kind::Open), world.now());
                let answer = H2::connect(target).await.send(wanted.request()).await;
                judge(&world, &wanted, before, answer);
                world.event("short");
            }
            3 => half(&world, target, b"GET /free HTTP/1.1\r\nhost: soak.exam").await,
            4 => {
                let head =
                    "POST /free HTTP/1.1\r\nhost: soak.example\r\nx-origin: stream\r\ncontent-length: 100000\r\n\r\n";
                half(&world, target, &[head.as_bytes(), &[b'b'; 30_000]].concat()).await;
            }
            5 => {
                let head = "GET /free HTTP/1.1\r\nhost: soak.example\r\nx-origin: length=2000000\r\n\r\n";
                let mut raw = Raw::connect(target).await;
                if raw.try_send(head).await.is_ok() {
                    let _ = raw.some(Duration::from_secs(5)).await;
                }
                world.event("aborted");
            }
            6 => {
                // Streams of HTTP/2 that are reset, with the rest of their connection.
                let connection = H2::connect(target).await;
                let headers = [("x-origin", "chunks=50; chunk-size=4000; chunk-delay=20")];
                if let Ok(answer) =
                    connection.begin(request("GET", "soak.example", "/free", &headers, body::empty())).await
                {
                    drop(answer);
                    let (wanted, before) = (Wanted::of(Kind::Free), world.now());
                    let answer = connection.send(wanted.request()).await;
                    judge(&world, &wanted, before, answer);
                }
                world.event("aborted");
            }
            7 => {
                let mut raw = Raw::connect(target).await;
                let _ = raw.try_send(frames::START).await;
                let _ =
                    raw.try_send(&frames::headers(1, &[(":method", "POST"), (":scheme", "http")], false)[..20]).await;
                world.event("aborted");
            }
            _ => idle(&world, target, &stop).await,
        }
    }
}

/// Sends the beginning of something, and goes.
async fn half(world: &World, target: std::net::SocketAddr, bytes: &[u8]) {
    let mut raw = Raw::connect(target).await;
    let _ = raw.try_send(bytes).await;
    scripted_delay(Duration::from_millis(fastrand::u64(0..50))).await;
    world.event("aborted");
}

/// A few connections that do nothing for a while.
async fn idle(world: &World, target: std::net::SocketAddr, stop: &CancellationToken) {
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(Raw::connect(target).await);
    }
    stop.run_until_cancelled(scripted_delay(Duration::from_millis(fastrand::u64(100..2_000)))).await;
    world.event("idle");
}
