//! What the machine gives: cores by cgroup quota, descriptors, dual-stack listeners.
/// min over cgroup v2/v1 quota (rounded up) and the affinity mask; at least 1.
pub fn usable_cores() -> usize {
    todo!()
}
/// Raises the soft descriptor limit to the hard one; answers the limit in force.
pub fn raise_descriptor_limit() -> u64 {
    todo!()
}
/// `:8080` listens on `[::]` with V6ONLY off, else `0.0.0.0`; `reuse_port` for per-worker listeners. Non-blocking, backlog 4096.
pub fn listen(_address: &str, _reuse_port: bool) -> std::io::Result<std::net::TcpListener> {
    todo!()
}
/// IPv4-mapped IPv6 becomes IPv4.
pub fn canonical_ip(ip: std::net::IpAddr) -> std::net::IpAddr {
    ip.to_canonical()
}
