//! Reads what a data plane says: bounds every string, and turns wire versions into ours.

use edgequota_policy::{Hash, Version};
use edgequota_proto::control;

use crate::fleet::Identity;

const MOST_NODE: usize = 253;
const MOST_INSTANCE: usize = 64;
const MOST_LABELS: usize = 32;
const MOST_LABEL: usize = 128;
const MOST_REASON: usize = 2048;

/// Checks a Hello. The error is for the peer.
pub(super) fn identity(hello: &control::Hello) -> Result<Identity, String> {
    if hello.node.is_empty() || hello.node.len() > MOST_NODE {
        return Err(format!("hello.node must have 1 to {MOST_NODE} bytes"));
    }
    if hello.instance.is_empty() || hello.instance.len() > MOST_INSTANCE {
        return Err(format!("hello.instance must have 1 to {MOST_INSTANCE} bytes"));
    }
    if hello.labels.len() > MOST_LABELS
        || hello.labels.iter().any(|(k, v)| k.len() > MOST_LABEL || v.len() > MOST_LABEL)
    {
        return Err(format!("hello.labels: at most {MOST_LABELS}, of at most {MOST_LABEL} bytes each"));
    }
    Ok(Identity {
        node: text(&hello.node, MOST_NODE),
        instance: text(&hello.instance, MOST_INSTANCE),
        labels: hello.labels.iter().map(|(k, v)| (text(k, MOST_LABEL), text(v, MOST_LABEL))).collect(),
        binary: text(&hello.binary, MOST_INSTANCE),
        workers: hello.workers.clamp(1, 65_536),
    })
}

/// A version from the wire.
pub(super) fn version(wire: &control::Version) -> Result<Version, String> {
    let hash: [u8; 32] = wire.hash.as_ref().try_into().map_err(|_| "version.hash must have 32 bytes".to_owned())?;
    Ok(Version { generation: wire.generation, hash: Hash(hash) })
}

/// A version for the wire.
pub(super) fn to_wire(version: Version) -> control::Version {
    control::Version { generation: version.generation, hash: version.hash.0.to_vec().into() }
}

/// A peer's reason, cut, without control characters.
pub(super) fn reason(text: &str) -> String {
    self::text(text, MOST_REASON)
}

fn text(raw: &str, most: usize) -> String {
    let mut end = raw.len().min(most);
    while !raw.is_char_boundary(end) {
        end -= 1;
    }
    raw[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hello() -> control::Hello {
        control::Hello { node: "a".into(), instance: "b".into(), ..control::Hello::default() }
    }

    #[test]
    fn names_are_needed_and_bounded() {
        assert_eq!(identity(&hello()).unwrap().workers, 1);
        assert!(identity(&control::Hello { node: String::new(), ..hello() }).is_err());
        assert!(identity(&control::Hello { node: "n".repeat(254), ..hello() }).is_err());
        assert!(identity(&control::Hello { instance: "i".repeat(65), ..hello() }).is_err());
        let labels = (0..33).map(|i| (i.to_string(), String::new())).collect();
        assert!(identity(&control::Hello { labels, ..hello() }).is_err());
    }

    #[test]
    fn a_version_that_cannot_be_is_refused() {
        let wire = |generation, len: usize| control::Version { generation, hash: vec![0; len].into() };
        assert_eq!(version(&wire(7, 32)).unwrap().generation, 7);
        assert!(version(&wire(7, 31)).is_err());
    }

    #[test]
    fn reasons_are_cut_on_a_character_and_lose_line_breaks() {
        assert_eq!(reason("a\nb"), "a b");
        assert_eq!(reason(&"ä".repeat(2000)).len(), 2048);
    }
}
