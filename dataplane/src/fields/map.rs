//! To and from the map that the HTTP/2 libraries use.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Fields;

impl Fields {
    /// Names get the capitals that people expect to read in HTTP/1.
    pub(crate) fn from_map(map: &HeaderMap) -> Fields {
        let mut fields = Fields::parsed(Bytes::new());
        let mut capitals = Vec::new();
        for (name, value) in map {
            capitals.clear();
            capitals.extend_from_slice(name.as_str().as_bytes());
            capitalise(&mut capitals);
            fields.add_named(&capitals, value.as_bytes());
        }
        fields
    }

    /// What no map can hold is left out; parsing has refused it before.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.lines.len());
        for line in &self.lines {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(self.name(line)), HeaderValue::from_bytes(self.value(line)))
            {
                map.append(name, value);
            }
        }
        map
    }
}

/// `content-type` -> `Content-Type`.
pub(crate) fn capitalise(name: &mut [u8]) {
    let mut upper = true;
    for byte in name {
        if upper {
            byte.make_ascii_uppercase();
        }
        upper = *byte == b'-';
    }
}
