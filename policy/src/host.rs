//! Host names as routing compares them.

use std::borrow::Cow;

/// Lower case, without port, brackets and trailing dot. Borrows when nothing but the ends changes.
pub fn normalise(host: &str) -> Cow<'_, str> {
    let name = bare(host.trim());
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// [`normalise`], owned.
pub fn normalise_host(host: &str) -> String {
    normalise(host).into_owned()
}

fn bare(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split(']').next().unwrap_or(inner);
    }
    let name = match host.split_once(':') {
        // More than one colon without brackets is an IPv6 address.
        Some((_, rest)) if rest.contains(':') => host,
        Some((name, _)) => name,
        None => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_one_host() {
        for (host, normal) in [
            ("API.Example.com:8080", "api.example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("[2001:DB8::1]:443", "2001:db8::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("", ""),
            (":80", ""),
        ] {
            assert_eq!(normalise_host(host), normal, "{host}");
        }
        assert!(matches!(normalise("example.com:80"), Cow::Borrowed("example.com")));
    }
}
