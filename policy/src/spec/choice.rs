//! Settings with a closed set of values: any case is read, one spelling is written.

use crate::{
    backend::BackendProtocol,
    limit::{Accuracy, FailurePolicy, HeaderStyle},
};

/// Gives an enum its spellings: reading ignores case, writing and the schema use the spelling given here.
macro_rules! spelled {
    ($Name:ident { $($Variant:ident = $text:literal),+ $(,)? }) => {
        impl $Name {
            /// All spellings, as they are written.
            pub const SPELLINGS: &'static [&'static str] = &[$($text),+];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $text),+ }
            }
        }
        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $Name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                $(if text.eq_ignore_ascii_case($text) { return Ok(Self::$Variant); })+
                Err($crate::spec::choice::unknown_spelling(text, Self::SPELLINGS))
            }
        }
        impl serde::Serialize for $Name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": Self::SPELLINGS, "x-case-insensitive": true })
            }
        }
        $crate::spec::written::plain_canonical!($Name);
    };
}

pub(crate) fn unknown_spelling(text: &str, spellings: &[&str]) -> String {
    let shown: String = text.chars().take(64).collect();
    format!("invalid value {shown:?}: must be one of {}", spellings.join(", "))
}

/// What a limit does with a request that it has no token for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitMode {
    /// Refuses it.
    Enforce,
    /// Lets it pass and counts it in its own metric.
    Shadow,
    /// The limit does not exist.
    Disabled,
}

/// What a subject is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// The client's address.
    ClientIp,
    /// A header's value.
    Header,
    /// A header's value and the first path segment.
    Composite,
    /// One subject for all.
    Global,
}

/// What happens to a request without the header that its key needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnMissing {
    /// Answered with `missing_code`.
    Error,
    /// Counted by the client's address.
    ClientIp,
    /// Not counted by this limit.
    Skip,
}

/// What happens when the external limit service fails and no stale answer is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExternalFailure {
    /// The limit's own numbers.
    StaticFallback,
    /// Refused.
    FailClosed,
}

/// What happens when the auth service fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// 503.
    FailClosed,
    /// Let through.
    FailOpen,
}

/// How a batch of events is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventsFormat {
    /// `{"events":[...]}`
    Object,
    /// `[...]`
    Array,
}

spelled!(LimitMode { Enforce = "enforce", Shadow = "shadow", Disabled = "disabled" });
spelled!(KeyType { ClientIp = "clientIP", Header = "header", Composite = "composite", Global = "global" });
spelled!(OnMissing { Error = "error", ClientIp = "client_ip", Skip = "skip" });
spelled!(ExternalFailure { StaticFallback = "static_fallback", FailClosed = "failclosed" });
spelled!(AuthFailure { FailClosed = "failclosed", FailOpen = "failopen" });
spelled!(EventsFormat { Object = "object", Array = "array" });
spelled!(Accuracy { Exact = "exact", Leased = "leased" });
spelled!(FailurePolicy {
    PassThrough = "passThrough",
    InMemoryFallback = "inMemoryFallback",
    FailClosed = "failClosed",
});
spelled!(HeaderStyle { Both = "both", Legacy = "legacy", Ietf = "ietf", None = "none" });
spelled!(BackendProtocol { Auto = "auto", H1 = "h1", H2 = "h2", H3 = "h3" });

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn any_case_is_read_and_one_is_written() {
        for text in ["passThrough", "passthrough", "PASSTHROUGH"] {
            let read: FailurePolicy = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), "passThrough");
        }
    }

    #[test]
    fn an_unknown_value_is_answered_with_the_known_ones() {
        let error = serde_json::from_value::<KeyType>("ip".into()).unwrap_err().to_string();
        assert_eq!(error, r#"invalid value "ip": must be one of clientIP, header, composite, global"#);
    }
}
