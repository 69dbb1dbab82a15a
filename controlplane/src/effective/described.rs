//! A request as somebody describes it: in a query, in JSON, on a command line.

use std::{collections::BTreeMap, net::IpAddr};

use edgequota_policy::host::normalise_host;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Request;

const MOST_HEADERS: usize = 200;
const KNOWN: [&str; 7] = ["method", "host", "path", "peer", "client_ip", "header", "trusted_proxies"];
/// Of those, which may stand several times.
const REPEATABLE: [&str; 2] = ["header", "trusted_proxies"];

/// A request to be explained. Everything has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Described {
    /// Method; GET.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Host, with or without a port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Path, with or without a query; `/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Address that the connection comes from; `client_ip`, else 127.0.0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub peer: Option<IpAddr>,
    /// Address of the client. With another `peer` it is what that one says in `X-Forwarded-For`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub client_ip: Option<IpAddr>,
    /// Headers; a name with several values stands on several lines.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Values>,
    /// Proxies whose forwarding headers are believed, instead of this process's `server.trusted_proxies`: addresses
    /// or CIDRs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_proxies: Option<Vec<String>>,
}

/// One value or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Values {
    /// One line.
    One(String),
    /// Several lines.
    Many(Vec<String>),
}

/// What is wrong with a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDescription {
    /// A parameter that is none.
    #[error("unknown parameter \"{0}\": known are {known}", known = KNOWN.join(", "))]
    Unknown(String),
    /// A value that does not fit.
    #[error("invalid {name} \"{value}\": {wanted}")]
    Value {
        /// Parameter.
        name: &'static str,
        /// As given, cut.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A parameter that may stand once only.
    #[error("{0} is given more than once: keep one (only header and trusted_proxies may repeat)")]
    Repeated(&'static str),
    /// Too many headers.
    #[error("at most {MOST_HEADERS} headers")]
    TooManyHeaders,
}

fn bad(name: &'static str, value: &str, wanted: &'static str) -> BadDescription {
    BadDescription::Value { name, value: value.chars().take(64).collect(), wanted }
}

impl Described {
    /// From the pairs of a query or a command line; `header` (`Name: value`) and `trusted_proxies` may repeat.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Described, BadDescription> {
        let mut described = Described::default();
        let address = |name, value: &str| value.parse().map(Some).map_err(|_| bad(name, value, "an IP address"));
        let mut once = Vec::new();
        for (name, value) in pairs {
            if let Some(known) = KNOWN.iter().find(|known| **known == name && !REPEATABLE.contains(known)) {
                if once.contains(known) {
                    return Err(BadDescription::Repeated(known));
                }
                once.push(*known);
            }
            match name {
                "method" => described.method = value.to_owned(),
                "host" => described.host = value.to_owned(),
                "path" => described.path = value.to_owned(),
                "peer" => described.peer = address("peer", value)?,
                "client_ip" => described.client_ip = address("client_ip", value)?,
                "header" => described.header(value)?,
                "trusted_proxies" => {
                    let list = described.trusted_proxies.get_or_insert_default();
                    list.extend(value.split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned));
                }
                other => return Err(BadDescription::Unknown(other.chars().take(64).collect())),
            }
        }
        Ok(described)
    }

    /// Adds `Name: value`.
    pub fn header(&mut self, line: &str) -> Result<(), BadDescription> {
        // The value may be a credential: it is not repeated.
        let (name, value) = line.split_once(':').ok_or_else(|| bad("header", "...", "Name:value"))?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        let values = self.headers.entry(name).or_insert_with(|| Values::Many(Vec::new()));
        match values {
            Values::Many(values) => values.push(value),
            Values::One(one) => *values = Values::Many(vec![std::mem::take(one), value]),
        }
        Ok(())
    }

    /// Checks it and fills in what is not said. `trusted` is what this process believes by itself.
    pub fn request(&self, trusted: &[IpNet]) -> Result<Request, BadDescription> {
        let method = if self.method.is_empty() { "GET" } else { &self.method };
        if method.bytes().any(|b| b.is_ascii_lowercase()) {
            // Data planes take methods as they are sent: `get` is another one than `GET`.
            return Err(bad("method", method, "methods are written in upper case, as clients send them (GET)"));
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("method", method, "an HTTP method"))?;
        let path = self.path.split(['?', '#']).next().unwrap_or_default();
        let path = if path.is_empty() { "/" } else { path };
        if !path.starts_with('/') {
            return Err(bad("path", path, "it begins with a slash"));
        }
        let trusted = match &self.trusted_proxies {
            None => trusted.to_vec(),
            Some(list) => list.iter().map(|text| network(text)).collect::<Result<_, _>>()?,
        };
        let mut headers = self.header_map()?;
        let mut notes = Vec::new();
        let peer = match (self.peer, self.client_ip) {
            (None, None) => {
                notes.push("neither peer nor client_ip is given: 127.0.0.1 is assumed".to_owned());
                IpAddr::from([127, 0, 0, 1])
            }
            (None, Some(client)) => client,
            (Some(peer), None) => peer,
            (Some(peer), Some(client)) if peer == client => peer,
            (Some(peer), Some(client)) => {
                forwarded(&mut headers, client);
                let believed = trusted.iter().any(|net| net.contains(&peer.to_canonical()));
                notes.push(if believed {
                    format!("{peer} is trusted: client_ip is taken from its X-Forwarded-For")
                } else {
                    format!("{peer} is not in trusted_proxies: what it says of client_ip is not believed")
                });
                peer
            }
        };
        Ok(Request {
            method,
            host: normalise_host(&self.host),
            path: path.to_owned(),
            headers,
            peer: peer.to_canonical(),
            trusted,
            notes,
        })
    }

    fn header_map(&self) -> Result<HeaderMap, BadDescription> {
        let mut map = HeaderMap::new();
        for (name, values) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| bad("header", name, "Name:value"))?;
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Many(values) => values,
            };
            for value in values {
                if map.len() == MOST_HEADERS {
                    return Err(BadDescription::TooManyHeaders);
                }
                let value = HeaderValue::from_str(value)
                    .map_err(|_| bad("header", name.as_str(), "a value without control characters"))?;
                map.append(name.clone(), value);
            }
        }
        Ok(map)
    }
}

fn forwarded(headers: &mut HeaderMap, client: IpAddr) {
    let before = headers.get("x-forwarded-for").and_then(|v| v.to_str().ok());
    let chain = before.map_or_else(|| client.to_string(), |before| format!("{before}, {client}"));
    if let Ok(value) = HeaderValue::from_str(&chain) {
        headers.insert("x-forwarded-for", value);
    }
}

fn network(text: &str) -> Result<IpNet, BadDescription> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| bad("trusted_proxies", text, "an address or a CIDR"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_query_is_read_with_repeated_headers() {
        let pairs = [
            ("host", "A.b:80"),
            ("path", "/x?y=1"),
            ("header", "X-A: 1"),
            ("header", "X-A:2"),
            ("client_ip", "::ffff:1.2.3.4"),
        ];
        let request = Described::from_pairs(pairs).unwrap().request(&[]).unwrap();
        assert_eq!((request.host.as_str(), request.path.as_str(), request.method.as_str()), ("a.b", "/x", "GET"));
        assert_eq!(request.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(request.peer.to_string(), "1.2.3.4");
    }

    #[test]
    fn mistakes_are_named_and_credentials_are_not_repeated() {
        let error = |name, value| Described::from_pairs([(name, value)]).unwrap_err().to_string();
        assert!(error("hots", "a").contains("known are method, host, path"));
        let twice = Described::from_pairs([("path", "/a"), ("path", "/b")]).unwrap_err().to_string();
        assert!(twice.contains("path is given more than once"), "{twice}");
        let lower = Described { method: "get".into(), ..Described::default() }.request(&[]).unwrap_err().to_string();
        assert!(lower.contains("upper case"), "{lower}");
        assert!(error("peer", "x").contains("invalid peer \"x\""));
        assert!(!error("header", "secret").contains("secret"));
        let bad = Described { path: "x".into(), ..Described::default() };
        assert!(bad.request(&[]).is_err());
    }

    #[test]
    fn a_client_behind_a_peer_is_said_in_the_forwarding_header() {
        let described = Described {
            peer: Some([10, 0, 0, 1].into()),
            client_ip: Some([1, 2, 3, 4].into()),
            trusted_proxies: Some(vec!["10.0.0.0/8".into()]),
            ..Described::default()
        };
        let request = described.request(&[]).unwrap();
        assert_eq!(request.headers["x-forwarded-for"], "1.2.3.4");
        assert!(request.notes[0].contains("is trusted"), "{:?}", request.notes);
        let distrusted = Described { trusted_proxies: None, ..described }.request(&[]).unwrap();
        assert!(distrusted.notes[0].contains("not believed"), "{:?}", distrusted.notes);
    }

    #[test]
    fn hosts_lose_port_brackets_case_and_the_root_dot() {
        for (raw, bare) in [("A.B:80", "a.b"), ("[::1]:80", "::1"), ("::1", "::1"), ("a.", "a"), ("", "")] {
            assert_eq!(normalise_host(raw), bare, "{raw}");
        }
    }
}
