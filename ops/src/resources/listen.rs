//! Listeners that serve IPv6 and IPv4 on one socket.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Neither `:port`, `host:port` nor `[v6]:port`.
    #[error("cannot listen on \"{0}\": expected \":port\", \"host:port\" or \"[ipv6]:port\"")]
    Form(String),
    /// The name has no address.
    #[error("cannot listen on \"{address}\": the name cannot be resolved: {source}")]
    Resolve {
        /// As it was written.
        address: String,
        /// Of the resolver.
        source: io::Error,
    },
    /// In use, not permitted, not an address of this machine.
    #[error("cannot listen on \"{address}\": {source}")]
    Bind {
        /// As it was written.
        address: String,
        /// Of the kernel.
        source: io::Error,
    },
}

impl ListenError {
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Form(_) => io::ErrorKind::InvalidInput,
            Self::Resolve { source, .. } | Self::Bind { source, .. } => source.kind(),
        }
    }
}

/// `:8080` listens on `[::]` with V6ONLY off, else `0.0.0.0`; `reuse_port` for per-worker listeners. Non-blocking, backlog 4096.
///
/// The error's text names the address; its source is a [`ListenError`]. Resolves names, so not for a worker.
pub fn listen(address: &str, reuse_port: bool) -> io::Result<TcpListener> {
    try_listen(address, reuse_port).map_err(|error| io::Error::new(error.kind(), error))
}

/// As [`listen`]; the error begins with `setting` (`server.address`).
pub fn listen_for(setting: &str, address: &str, reuse_port: bool) -> io::Result<TcpListener> {
    try_listen(address, reuse_port).map_err(|error| io::Error::new(error.kind(), format!("{setting}: {error}")))
}

fn try_listen(address: &str, reuse_port: bool) -> Result<TcpListener, ListenError> {
    let form = || ListenError::Form(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
    let port: u16 = port.parse().map_err(|_| form())?;
    let failed = |source| ListenError::Bind { address: address.to_owned(), source };
    if host.is_empty() {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        return match bind(everywhere, reuse_port) {
            Err(error) if no_ipv6(&error) => bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), reuse_port),
            bound => bound,
        }
        .map_err(failed);
    }
    // an IPv6 address without brackets would be cut at the wrong colon
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(form());
    }
    let resolve = |source| ListenError::Resolve { address: address.to_owned(), source };
    let candidates = address.to_socket_addrs().map_err(resolve)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for candidate in candidates {
        match bind(candidate, reuse_port) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// The machine or the container has IPv6 switched off.
fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT];
    error.raw_os_error().is_some_and(|code| absent.iter().any(|errno| errno.raw_os_error() == code))
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let SocketAddr::V6(v6) = address
        && v6.ip().is_unspecified()
    {
        socket.set_only_v6(false)?;
    }
    // a restart must not wait for the old connections' TIME_WAIT
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn an_address_without_a_host_serves_ipv4_too() {
        let listener = listen(":0", false).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4 reaches it");
        if listener.local_addr().unwrap().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("IPv6 reaches it");
        }
    }

    #[test]
    fn hosts_names_and_literals_are_understood() {
        for address in ["127.0.0.1:0", "localhost:0", "0.0.0.0:0"] {
            assert_ne!(listen(address, false).unwrap().local_addr().unwrap().port(), 0, "{address}");
        }
    }

    #[test]
    fn several_workers_share_a_port_only_with_reuse_port() {
        let first = listen("127.0.0.1:0", true).unwrap();
        let address = first.local_addr().unwrap().to_string();
        listen(&address, true).unwrap();
        let refused = listen_for("server.address", &address, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let text = refused.to_string();
        assert!(text.starts_with(&format!("server.address: cannot listen on \"{address}\": ")), "{text}");
    }

    #[test]
    fn wrong_forms_are_named() {
        for address in ["8080", "::1:80", "host:", ":99999", ""] {
            let error = listen(address, false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address}");
            assert!(error.to_string().contains(&format!("\"{address}\"")), "{error}");
        }
    }
}
