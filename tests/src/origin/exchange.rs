//! One request and its scripted answer.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

use super::{REMEMBERED, Script, Seen, State};
use crate::{
    body::{self, AnyBody, Feeder},
    eventually::scripted_delay,
};

/// Answers one request. An error closes the connection without an answer.
pub(super) async fn answer(
    request: Request<Incoming>,
    connection: usize,
    state: Arc<State>,
) -> Result<Response<AnyBody>, io::Error> {
    let (parts, incoming) = request.into_parts();
    let seen = remember(&parts, connection, &state);
    let script = parts.headers.get("x-origin").map_or_else(Script::default, |v| Script::parse(v.to_str().unwrap()));
    if script.drop_head {
        return Err(io::Error::other("scripted: no answer"));
    }
    let mut builder = Response::builder().status(script.status.unwrap_or(200));
    for (name, value) in &script.headers {
        builder = builder.header(name, value);
    }
    let http1 = parts.version < Version::HTTP_2;
    if script.trailers && http1 {
        builder = builder.header(header::TRAILER, "x-trailer");
    }
    if script.sse.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "text/event-stream");
    }
    if script.stream {
        scripted_delay(script.head_delay).await;
        return builder.body(relay(incoming, script.trailers, state)).map_err(io::Error::other);
    }
    let text = if script.unread {
        Bytes::new()
    } else if script.early {
        tokio::spawn(read_body(incoming, Arc::clone(&state)));
        Bytes::new()
    } else {
        read_body(incoming, Arc::clone(&state)).await
    };
    scripted_delay(script.head_delay).await;
    if let Some(n) = script.length {
        // hyper leaves it to its user to send no body to HEAD over h2.
        if parts.method == http::Method::HEAD && !http1 {
            return builder.header(header::CONTENT_LENGTH, n).body(body::empty()).map_err(io::Error::other);
        }
        return builder.body(body::full(vec![b'x'; n])).map_err(io::Error::other);
    }
    if let Some(text) = script.body {
        return builder.body(body::full(text)).map_err(io::Error::other);
    }
    if script.chunks.is_some() || script.sse.is_some() || script.trailers {
        return builder.body(pieces(script)).map_err(io::Error::other);
    }
    if script.status.is_some_and(|s| StatusCode::from_u16(s).is_ok_and(|s| s == 204 || s == 304)) {
        return builder.body(body::empty()).map_err(io::Error::other);
    }
    let builder = builder.header(header::CONTENT_TYPE, "application/json");
    builder.body(body::full(echo(&seen, &text, &state))).map_err(io::Error::other)
}

fn remember(parts: &http::request::Parts, connection: usize, state: &State) -> Seen {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let from_uri = parts.uri.authority().map(|a| a.as_str().to_owned());
    let host = parts.headers.get(header::HOST).map(|h| String::from_utf8_lossy(h.as_bytes()).into_owned());
    let http1 = parts.version < Version::HTTP_2;
    let seen = Seen {
        method: parts.method.to_string(),
        target: if http1 {
            parts.uri.to_string()
        } else {
            parts.uri.path_and_query().map_or_else(String::new, |p| p.as_str().to_owned())
        },
        version: format!("{:?}", parts.version),
        host: host.or(from_uri).unwrap_or_default(),
        headers: parts.headers.clone(),
        connection,
    };
    let mut all = state.seen.lock().unwrap();
    if all.len() < REMEMBERED {
        all.push(seen.clone());
    }
    seen
}

fn echo(seen: &Seen, text: &[u8], state: &State) -> Vec<u8> {
    let fields: Vec<_> =
        seen.headers.iter().map(|(n, v)| json!([n.as_str(), String::from_utf8_lossy(v.as_bytes())])).collect();
    let shown = &text[..text.len().min(64 * 1024)];
    let trailers =
        state.last_trailers.lock().unwrap().as_ref().map(|t| {
            t.iter().map(|(n, v)| json!([n.as_str(), String::from_utf8_lossy(v.as_bytes())])).collect::<Vec<_>>()
        });
    json!({
        "method": seen.method, "target": seen.target, "version": seen.version, "host": seen.host,
        "headers": fields, "connection": seen.connection,
        "body_length": text.len(), "body": String::from_utf8_lossy(shown), "trailers": trailers,
    })
    .to_string()
    .into_bytes()
}

async fn read_body(mut incoming: Incoming, state: Arc<State>) -> Bytes {
    let mut all = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else {
            state.broken_bodies.fetch_add(1, Ordering::SeqCst);
            return all.freeze();
        };
        match frame.into_data() {
            Ok(data) => {
                state.body_bytes.fetch_add(data.len(), Ordering::SeqCst);
                if all.len() < 16 << 20 {
                    all.extend_from_slice(&data);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let all = all.freeze();
    *state.last_trailers.lock().unwrap() = trailers;
    *state.last_body.lock().unwrap() = all.clone();
    all
}

fn relay(mut incoming: Incoming, trailers: bool, state: Arc<State>) -> AnyBody {
    let (feeder, out) = body::channel();
    tokio::spawn(async move {
        while let Some(frame) = incoming.frame().await {
            let Ok(frame) = frame else {
                state.broken_bodies.fetch_add(1, Ordering::SeqCst);
                return;
            };
            if let Ok(data) = frame.into_data() {
                state.body_bytes.fetch_add(data.len(), Ordering::SeqCst);
                if !feeder.send(data).await {
                    return;
                }
            }
        }
        end(feeder, trailers).await;
    });
    out
}

fn pieces(script: Script) -> AnyBody {
    let (feeder, out) = body::channel();
    tokio::spawn(async move {
        let count = script.sse.or(script.chunks).unwrap_or(1);
        for i in 0..count {
            scripted_delay(script.chunk_delay).await;
            let piece = match script.sse {
                Some(_) => Bytes::from(format!("data: {i}\n\n")),
                None => Bytes::from(vec![b'a'; script.chunk_size.unwrap_or(16)]),
            };
            if !feeder.send(piece).await {
                return;
            }
        }
        if script.drop_body {
            feeder.fail().await;
        } else {
            end(feeder, script.trailers).await;
        }
    });
    out
}

async fn end(feeder: Feeder, trailers: bool) {
    if trailers {
        let mut map = HeaderMap::new();
        map.insert("x-trailer", HeaderValue::from_static("end"));
        feeder.trailers(map).await;
    }
}
