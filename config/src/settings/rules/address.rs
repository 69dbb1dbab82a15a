//! The written forms of addresses.

/// `:8080`, `0.0.0.0:8080`, `[::1]:8080`, `localhost:0`.
pub(super) fn is_listen(text: &str) -> bool {
    split(text).is_some_and(|(host, port)| (host.is_empty() || is_host(host)) && port.parse::<u16>().is_ok())
}

/// `host:port` with both of them there.
pub(super) fn is_endpoint(text: &str) -> bool {
    split(text).is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// An `http` or `https` URL with a host and, if it names one, a port that can be.
pub(super) fn is_http_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known && (is_host(authority) || is_endpoint(authority))
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    digits.then_some((host, port))
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    }
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}
