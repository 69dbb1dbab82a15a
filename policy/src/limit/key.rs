//! Who is counted: key extraction.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv6Addr},
};

use http::{HeaderName, header};
use ipnet::IpNet;

use super::{KeyError, Subject, client_ip, parse_net};
use crate::{
    RequestView,
    spec::{KeyStrategySpec, KeyType, OnMissing},
};

/// A compiled key strategy.
#[derive(Debug)]
pub(super) struct KeyStrategy {
    kind: Kind,
    address: AddressRules,
}

#[derive(Debug)]
enum Kind {
    ClientIp,
    Header(HeaderRules),
    /// With or without the first path segment.
    Composite(HeaderRules, bool),
    Global(String),
}

#[derive(Debug)]
struct AddressRules {
    /// Empty: the caller's.
    trusted: Box<[IpNet]>,
    depth: i32,
    /// 1 to 128.
    ipv6_prefix: u8,
}

#[derive(Debug)]
struct HeaderRules {
    name: HeaderName,
    on_missing: OnMissing,
    missing_code: u16,
    secret: bool,
}

/// Credential headers; their values are hashed wherever people look.
pub(super) fn is_credential(name: &str) -> bool {
    ["authorization", "proxy-authorization", "cookie", "x-api-key"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether subjects of this strategy are shown as hashes.
pub(crate) fn shows_hash(key: &KeyStrategySpec) -> bool {
    matches!(key.r#type, KeyType::Header | KeyType::Composite) && (key.hash || is_credential(&key.header_name))
}

impl KeyStrategy {
    /// `spec` is checked: what could not be read falls to the strictest meaning here, never to "not counted".
    pub(super) fn compile(spec: &KeyStrategySpec) -> KeyStrategy {
        let header = || HeaderRules {
            name: HeaderName::from_bytes(spec.header_name.as_bytes()).unwrap_or(header::AUTHORIZATION),
            on_missing: spec.on_missing,
            missing_code: u16::try_from(spec.missing_code).unwrap_or(500),
            secret: shows_hash(spec),
        };
        let kind = match spec.r#type {
            KeyType::ClientIp => Kind::ClientIp,
            KeyType::Header => Kind::Header(header()),
            KeyType::Composite => Kind::Composite(header(), spec.path_prefix),
            KeyType::Global => Kind::Global(spec.global_key.clone()),
        };
        let address = AddressRules {
            trusted: spec.trusted_proxies.iter().filter_map(|text| parse_net(text)).collect(),
            depth: i32::try_from(spec.trusted_ip_depth).unwrap_or(0),
            ipv6_prefix: u8::try_from(spec.ipv6_prefix.clamp(1, 128)).unwrap_or(64),
        };
        KeyStrategy { kind, address }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::ClientIp => KeyType::ClientIp.as_str(),
            Kind::Header(_) => KeyType::Header.as_str(),
            Kind::Composite(..) => KeyType::Composite.as_str(),
            Kind::Global(_) => KeyType::Global.as_str(),
        }
    }

    pub(super) fn subject(&self, request: &RequestView<'_>) -> Result<Option<Subject>, KeyError> {
        match &self.kind {
            Kind::ClientIp => Ok(Some(self.address.subject(request))),
            Kind::Header(rules) => rules.subject(request, &self.address),
            Kind::Composite(rules, path) => {
                let mut subject = rules.subject(request, &self.address)?;
                if let (Some(subject), true) = (&mut subject, path) {
                    subject.raw.push(':');
                    subject.raw.push_str(first_segment(request.path));
                }
                Ok(subject)
            }
            Kind::Global(key) => Ok(Some(Subject { raw: key.clone(), secret: false })),
        }
    }

    /// An override's key as the subject that it means: an address is written the way that clients are counted.
    pub(super) fn override_key(&self, key: &str) -> String {
        match (&self.kind, key.trim().parse::<IpAddr>()) {
            (Kind::ClientIp, Ok(ip)) => self.address.text(ip.to_canonical()),
            _ => key.to_owned(),
        }
    }
}

impl KeyStrategy {
    pub(super) fn is_secret(&self) -> bool {
        matches!(&self.kind, Kind::Header(rules) | Kind::Composite(rules, _) if rules.secret)
    }

    pub(super) fn subject_named(&self, text: &str) -> Option<Subject> {
        let as_it_is = |possible: bool| possible.then(|| text.to_owned());
        let raw = match &self.kind {
            Kind::ClientIp => self.address.named(text),
            Kind::Header(_) | Kind::Composite(_, false) => as_it_is(!text.is_empty()),
            Kind::Composite(_, true) => {
                as_it_is(text.rsplit_once(':').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()))
            }
            Kind::Global(key) => as_it_is(text == key),
        };
        raw.map(|raw| Subject { raw, secret: self.is_secret() })
    }
}

impl AddressRules {
    /// An address, or a network of the length that is counted.
    fn named(&self, text: &str) -> Option<String> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let counted = self.text(address.parse::<IpAddr>().ok()?.to_canonical());
        let counted_length = counted.split_once('/').map(|(_, length)| length);
        (length.is_none() || length == counted_length).then_some(counted)
    }

    fn subject(&self, request: &RequestView<'_>) -> Subject {
        let trusted = if self.trusted.is_empty() { request.caller.trusted_proxies } else { &self.trusted };
        Subject { raw: self.text(client_ip(request, trusted, self.depth)), secret: false }
    }

    /// `10.0.0.1`, `2001:db8::/64`, or with 128 bits `2001:db8::1`.
    fn text(&self, ip: IpAddr) -> String {
        let mut text = String::with_capacity(24);
        // Writing to a String does not fail.
        let _ = match ip {
            IpAddr::V6(v6) if self.ipv6_prefix < 128 => {
                let mask = u128::MAX << (128 - u32::from(self.ipv6_prefix));
                write!(text, "{}/{}", Ipv6Addr::from_bits(v6.to_bits() & mask), self.ipv6_prefix)
            }
            whole => write!(text, "{whole}"),
        };
        text
    }
}

impl HeaderRules {
    fn subject(&self, request: &RequestView<'_>, address: &AddressRules) -> Result<Option<Subject>, KeyError> {
        let first = request.headers.line(&self.name, 0);
        if first.is_some() && request.headers.line(&self.name, 1).is_some() {
            return Err(KeyError::Repeated { header: self.name.to_string() });
        }
        let value = match first {
            Some(line) => {
                std::str::from_utf8(line).map_err(|_| KeyError::NotText { header: self.name.to_string() })?.trim()
            }
            None => "",
        };
        if !value.is_empty() {
            return Ok(Some(Subject { raw: value.to_owned(), secret: self.secret }));
        }
        match self.on_missing {
            OnMissing::Error => Err(KeyError::Missing { header: self.name.to_string(), code: self.missing_code }),
            OnMissing::ClientIp => Ok(Some(address.subject(request))),
            OnMissing::Skip => Ok(None),
        }
    }
}

/// First segment of a normalised path; `root` for `/`.
fn first_segment(path: &str) -> &str {
    match path.trim_start_matches('/').split('/').next() {
        None | Some("") => "root",
        Some(segment) => segment,
    }
}
