//! How a block of the policy spec is declared: once, with its documentation, type and released default beside each
//! other. The macro derives the reading (serde), the schema, and two ways of writing:
//! `Serialize` for people (everything, secrets hidden) and [`Canonical`] for the wire (defaults left out, secrets kept).

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, Visitor},
    ser::SerializeMap,
};

use super::Secret;

/// Writing for the wire. A field that equals its released default is left out: absent and default mean the same.
pub(crate) trait Canonical {
    fn canonical<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// Makes serde write the canonical form.
pub(crate) struct Wire<'a, T>(pub(crate) &'a T);

impl<T: Canonical> Serialize for Wire<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.canonical(serializer)
    }
}

/// Types that are written alike for people and for the wire.
macro_rules! plain_canonical {
    ($($t:ty),* $(,)?) => {
        $(impl $crate::spec::written::Canonical for $t {
            fn canonical<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, serializer)
            }
        })*
    };
}
pub(crate) use plain_canonical;

plain_canonical!(bool, i64, u64, String, crate::GoDuration);

impl<T: Canonical> Canonical for Vec<T> {
    fn canonical<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Wire))
    }
}

impl<T: Canonical> Canonical for Option<T> {
    fn canonical<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.canonical(serializer),
            None => serializer.serialize_none(),
        }
    }
}

impl Canonical for BTreeMap<String, Secret> {
    fn canonical<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, secret)| (name, Wire(secret))))
    }
}

/// Writes one field unless it equals its default.
pub(crate) fn field<M: SerializeMap, T: Canonical + PartialEq>(
    map: &mut M,
    name: &'static str,
    value: &T,
    default: &T,
) -> Result<(), M::Error> {
    if value == default {
        return Ok(());
    }
    map.serialize_entry(name, &Wire(value))
}

/// Name of a field as it is written: `match` for `r#match`.
pub(crate) const fn bare(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Reads the name of a field: one of these. An unknown one fails while it is read, so that whoever tracks the path of
/// an error has the name in it.
pub(crate) struct KnownField(pub(crate) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for KnownField {
    type Value = &'static str;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KnownField {
    type Value = &'static str;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a setting")
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<&'static str, E> {
        self.0.iter().find(|known| **known == name).copied().ok_or_else(|| E::unknown_field(name, self.0))
    }
}

/// Reads a block from a map. serde's derived form would take a list, too, and an empty one for "all defaults": a slip of
/// the pen would become "no limit".
macro_rules! read_from_map {
    ($Name:ident { $($field:ident),* }) => {
        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::{Error, MapAccess, Visitor};
                const FIELDS: &[&str] = &[$($crate::spec::written::bare(stringify!($field))),*];
                struct Block;
                impl<'de> Visitor<'de> for Block {
                    type Value = $Name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a map")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$Name, A::Error> {
                        let mut block = $Name::default();
                        $(let mut $field = false;)*
                        while let Some(key) = map.next_key_seed($crate::spec::written::KnownField(FIELDS))? {
                            $(if key == $crate::spec::written::bare(stringify!($field)) {
                                if std::mem::replace(&mut $field, true) {
                                    let name = $crate::spec::written::bare(stringify!($field));
                                    return Err(A::Error::duplicate_field(name));
                                }
                                block.$field = map.next_value()?;
                                continue;
                            })*
                        }
                        Ok(block)
                    }
                }
                deserializer.deserialize_map(Block)
            }
        }
    };
}
pub(crate) use read_from_map;

/// Declares a block: `/// doc` lines (they become schema descriptions), fields, released defaults.
macro_rules! written {
    ($(#[$meta:meta])* pub struct $Name:ident {
        $($(#[$field_meta:meta])* $field:ident : $type:ty = $default:expr),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $Name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        $crate::spec::written::read_from_map!($Name { $($field),* });

        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::spec::written::Canonical for $Name {
            fn canonical<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let default = Self::default();
                let mut map = serializer.serialize_map(None)?;
                $($crate::spec::written::field(
                    &mut map,
                    const { $crate::spec::written::bare(stringify!($field)) },
                    &self.$field,
                    &default.$field,
                )?;)*
                map.end()
            }
        }
    };
}
pub(crate) use written;

/// Declares a block twice from one list of fields: as it stands alone, and as an entry of a list, with a `name` first.
/// (serde's `flatten` would lose the places of mistakes.)
macro_rules! written_and_named {
    (
        $(#[$plain_meta:meta])* pub struct $Plain:ident;
        $(#[$named_meta:meta])* pub struct $Named:ident;
        { $($(#[$field_meta:meta])* $field:ident : $type:ty = $default:expr),* $(,)? }
    ) => {
        $crate::spec::written::written! {
            $(#[$plain_meta])*
            pub struct $Plain { $($(#[$field_meta])* $field: $type = $default,)* }
        }
        $crate::spec::written::written! {
            $(#[$named_meta])*
            pub struct $Named {
                /// Name: 1 to 64 of `A-Z a-z 0-9 . _ -`, not `default`. Required, unique in its list.
                name: String = String::new(),
                $($(#[$field_meta])* $field: $type = $default,)*
            }
        }
        impl $Named {
            /// The same without its name.
            pub fn plain(&self) -> $Plain {
                $Plain { $($field: self.$field.clone(),)* }
            }
            /// The block `plain` under the name `name`.
            pub fn named(name: String, plain: $Plain) -> Self {
                Self { name, $($field: plain.$field,)* }
            }
        }
    };
}
pub(crate) use written_and_named;
