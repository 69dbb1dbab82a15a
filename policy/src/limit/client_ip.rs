//! The client's address: the peer's, unless the peer is a proxy whose forwarding headers are believed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::RequestView;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The client's address by the rules of `clientIP` (also for logs and forwarding headers).
///
/// `depth` counts in `X-Forwarded-For`, all its lines joined: 0 is the rightmost entry that is not itself in `trusted`
/// (the leftmost when all are), N the Nth from the right (the leftmost when there are fewer), -1 the leftmost, which
/// any client can write. An entry that is no address falls back to the peer. IPv4-mapped addresses are IPv4.
pub fn client_ip(request: &RequestView<'_>, trusted: &[IpNet], depth: i32) -> IpAddr {
    let peer = request.caller.peer.to_canonical();
    if !is_trusted(trusted, peer) {
        return peer;
    }
    let headers = request.headers;
    if headers.line(&FORWARDED_FOR, 0).is_some() {
        return forwarded_for(request, trusted, depth).unwrap_or(peer);
    }
    headers.only_line(&REAL_IP).and_then(text).and_then(address).unwrap_or(peer)
}

/// Visible characters, spaces and tabs: what an address is written with.
fn text(line: &[u8]) -> Option<&str> {
    let plain = line.iter().all(|byte| *byte == b'\t' || (0x20..0x7f).contains(byte));
    std::str::from_utf8(line).ok().filter(|_| plain)
}

fn is_trusted(trusted: &[IpNet], ip: IpAddr) -> bool {
    trusted.iter().any(|net| net.contains(&ip))
}

/// None when the entry that counts, or one that must be read on the way to it, is no address.
fn forwarded_for(request: &RequestView<'_>, trusted: &[IpNet], depth: i32) -> Option<IpAddr> {
    let line = |nth| request.headers.line(&FORWARDED_FOR, nth);
    if depth < 0 {
        let first = text(line(0)?)?;
        return address(first.split(',').next()?);
    }
    let mut left = usize::try_from(depth).ok()?;
    let mut last = None;
    let lines = (0..).take_while(|nth| line(*nth).is_some()).count();
    for nth in (0..lines).rev() {
        // A line that is no text hides how many entries it holds.
        let text = text(line(nth)?)?;
        for entry in text.rsplit(',') {
            if depth == 0 {
                let ip = address(entry)?;
                if !is_trusted(trusted, ip) {
                    return Some(ip);
                }
                last = Some(ip);
            } else {
                last = address(entry);
                left -= 1;
                if left == 0 {
                    return last;
                }
            }
        }
    }
    last
}

/// One entry: an address, in brackets or with a port as some proxies write it.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    if let Ok(ip) = entry.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match bare {
        Some(inner) => inner.parse().ok()?,
        None => entry.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(ip.to_canonical())
}

/// A CIDR; a bare address is a net of one host. An IPv4-mapped net is the IPv4 net. Host bits are cleared.
pub(crate) fn parse_net(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    Some(
        match net {
            IpNet::V6(v6) => unmapped(v6).map_or(IpNet::V6(v6), IpNet::V4),
            v4 => v4,
        }
        .trunc(),
    )
}

fn unmapped(net: Ipv6Net) -> Option<Ipv4Net> {
    let length = net.prefix_len().checked_sub(96)?;
    Ipv4Net::new(net.addr().to_ipv4_mapped()?, length).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::Caller;

    fn seen(peer: &str, forwarded: &[&str], real: &[&str], depth: i32) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        for line in real {
            headers.append("x-real-ip", HeaderValue::from_str(line).unwrap());
        }
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "::ffff:192.168.0.0/112", "fd00::/8"].map(|t| parse_net(t).unwrap()).into();
        let caller = Caller { peer: peer.parse().unwrap(), trusted_proxies: &[] };
        let request = RequestView { method: &Method::GET, host: "", path: "/", headers: &headers, caller };
        client_ip(&request, &trusted, depth).to_string()
    }

    #[test]
    fn forwarding_headers_of_a_stranger_are_not_believed() {
        assert_eq!(seen("1.2.3.4", &["9.9.9.9"], &["9.9.9.9"], 0), "1.2.3.4");
        assert_eq!(seen("1.2.3.4", &["9.9.9.9"], &[], -1), "1.2.3.4");
    }

    #[test]
    fn the_rightmost_entry_that_is_no_proxy_counts() {
        assert_eq!(seen("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.1.1.1"], &[], 0), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &["6.6.6.6", "1.1.1.1", "192.168.0.7"], &[], 0), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &[], 0), "10.0.0.3");
        assert_eq!(seen("fd00::1", &["2001:db8::1"], &[], 0), "2001:db8::1");
    }

    #[test]
    fn a_depth_counts_from_the_right_over_all_lines() {
        assert_eq!(seen("10.0.0.1", &["3.3.3.3, 2.2.2.2", "1.1.1.1"], &[], 1), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &["3.3.3.3, 2.2.2.2", "1.1.1.1"], &[], 2), "2.2.2.2");
        assert_eq!(seen("10.0.0.1", &["3.3.3.3, 2.2.2.2", "1.1.1.1"], &[], 9), "3.3.3.3");
        assert_eq!(seen("10.0.0.1", &["3.3.3.3, 2.2.2.2", "1.1.1.1"], &[], -1), "3.3.3.3");
    }

    #[test]
    fn an_entry_that_is_no_address_falls_back_to_the_peer() {
        for entry in ["garbage", "", "unknown", "1.2.3", "1.1.1.1,", "\u{e9}"] {
            assert_eq!(seen("10.0.0.1", &[entry], &["9.9.9.9"], 0), "10.0.0.1", "{entry}");
        }
        assert_eq!(seen("10.0.0.1", &["8.8.8.8, garbage, 10.0.0.9"], &[], 0), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["garbage, 1.1.1.1"], &[], 0), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &["garbage, 1.1.1.1"], &[], 2), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["garbage, 1.1.1.1"], &[], -1), "10.0.0.1");
    }

    #[test]
    fn x_real_ip_counts_only_alone() {
        assert_eq!(seen("10.0.0.1", &[], &["9.9.9.9"], 0), "9.9.9.9");
        assert_eq!(seen("10.0.0.1", &[], &["9.9.9.9", "8.8.8.8"], 0), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["1.1.1.1"], &["9.9.9.9"], 0), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &[], &["x"], 0), "10.0.0.1");
    }

    #[test]
    fn mapped_addresses_are_ipv4_and_ports_are_dropped() {
        assert_eq!(seen("::ffff:10.0.0.1", &["::ffff:1.1.1.1"], &[], 0), "1.1.1.1");
        assert_eq!(seen("::ffff:192.168.0.1", &["1.1.1.1:4711"], &[], 0), "1.1.1.1");
        assert_eq!(seen("10.0.0.1", &["[2001:db8::1]:4711"], &[], 0), "2001:db8::1");
        assert_eq!(seen("10.0.0.1", &["[2001:db8::1]"], &[], 0), "2001:db8::1");
    }

    #[test]
    fn a_bare_address_is_a_net_of_one_host() {
        for (text, net) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("fd00::1", "fd00::1/128"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(parse_net(text).unwrap().to_string(), net);
        }
        for text in ["", "10.0.0.0/33", "10.0.0", "example.com", "10.0.0.1/"] {
            assert_eq!(parse_net(text), None, "{text}");
        }
    }
}
