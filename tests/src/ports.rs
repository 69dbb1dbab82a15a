//! Ports for servers that cannot tell which one the kernel gave them.

use std::net::TcpListener;

/// A free port below the range that outgoing connections take theirs from, so that it stays free while its server
/// restarts. Two processes can still race for it: whoever starts a server tries again.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = fastrand::u16(15_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 15000 and 32000");
}
