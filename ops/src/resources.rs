//! What the machine gives: cores by cgroup quota, descriptors, dual-stack listeners.

mod cores;
mod listen;

pub use cores::usable_cores;
pub use listen::{ListenError, listen, listen_for};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft descriptor limit to the hard one; answers the limit in force (`u64::MAX`: none).
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, soft = limit.current, hard = limit.maximum, "descriptor limit cannot be raised");
            limit.current
        }
    };
    current.unwrap_or(u64::MAX)
}

/// IPv4-mapped IPv6 becomes IPv4.
pub fn canonical_ip(ip: std::net::IpAddr) -> std::net::IpAddr {
    ip.to_canonical()
}

/// `control_plane.node_id`, else the host's name: how a process is called in the fleet and in Redis.
pub fn node_name(configured: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    if host.is_empty() { "unknown".to_owned() } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_descriptor_limit_is_the_hard_one_afterwards() {
        let limit = raise_descriptor_limit();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(limit, now.current.unwrap_or(u64::MAX));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(canonical_ip("::ffff:10.0.0.1".parse().unwrap_or_else(|_| unreachable!())).to_string(), "10.0.0.1");
    }
}
