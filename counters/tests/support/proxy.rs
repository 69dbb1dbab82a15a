//! A TCP proxy in front of a server that does to the bytes what networks do.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It arrives.
    Fair,
    /// Nothing arrives any more, and nobody is told; new connections are not accepted either.
    BlackHole,
    /// The server's side is gone, which the client never learns.
    HalfOpen,
    /// Answers come so much later.
    Slow(Duration),
    /// Of an answer the first bytes come, and then nothing.
    Partial,
    /// Answers are no answers.
    Garbage,
    /// What is asked arrives; the answer does not, and the connection is gone.
    Cut,
    /// Every connection is reset.
    Reset,
}

/// Ends with its handle.
pub struct Proxy {
    pub port: u16,
    weather: watch::Sender<Weather>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn before(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let weather = watch::Sender::new(Weather::Fair);
        let mut tasks = JoinSet::new();
        let watched = weather.subscribe();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                connections.spawn(carry(client, server, watched.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Proxy { port, weather, _tasks: tasks }
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn carry(mut client: TcpStream, server: u16, mut weather: watch::Receiver<Weather>) {
    let now = *weather.borrow();
    if now == Weather::Reset {
        let _ = client.set_zero_linger();
        return;
    }
    // A connection that is made in a black hole is never answered, not even when it clears.
    if matches!(now, Weather::BlackHole | Weather::HalfOpen) {
        return swallow(client).await;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(n @ 1..) = read else { return };
                let now = *weather.borrow();
                match now {
                    Weather::BlackHole | Weather::HalfOpen => {}
                    Weather::Reset => { let _ = client.set_zero_linger(); return }
                    _ => if server.write_all(&up[..n]).await.is_err() { return },
                }
            }
            read = server.read(&mut down) => {
                let Ok(n @ 1..) = read else { return };
                let now = *weather.borrow();
                let written = match now {
                    Weather::Fair => client.write_all(&down[..n]).await,
                    Weather::Slow(delay) => {
                        super::pause(u64::try_from(delay.as_millis()).expect("a short one")).await;
                        client.write_all(&down[..n]).await
                    }
                    Weather::Partial => {
                        let written = client.write_all(&down[..n.min(3)]).await;
                        if written.is_ok() {
                            return swallow(client).await;
                        }
                        written
                    }
                    Weather::Garbage => client.write_all(b"\x00\xff$-7\r\nwhat?\r\n").await,
                    Weather::BlackHole => Ok(()),
                    Weather::HalfOpen => {
                        drop(server);
                        return swallow(client).await;
                    }
                    Weather::Cut | Weather::Reset => { let _ = client.set_zero_linger(); return }
                };
                if written.is_err() {
                    return;
                }
            }
            changed = weather.changed() => {
                if changed.is_err() || *weather.borrow() == Weather::Reset {
                    let _ = client.set_zero_linger();
                    return;
                }
            }
        }
    }
}

/// Until the client has had enough.
async fn swallow(mut client: TcpStream) {
    let mut bytes = vec![0; 65_536];
    while client.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
}
