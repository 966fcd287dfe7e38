//! `cloud`: a word, or a table of hosts.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::Text;

/// `cloud`.
#[derive(Debug)]
pub enum Cloud {
    /// `public`, `usgov` or `china`.
    Word(String),
    /// Hosts of its own.
    Table(Box<CloudTable>),
}

// Not untagged: values behind it would lose their places.
impl<'de> Deserialize<'de> for Cloud {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Cloud;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`public`, `usgov`, `china` or a table of hosts")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Cloud, E> {
                Ok(Cloud::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Cloud, A::Error> {
                CloudTable::deserialize(MapAccessDeserializer::new(map)).map(|t| Cloud::Table(Box::new(t)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `cloud` as a table: what it does not say is as in the cloud that it is `like`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the names of `crate::cloud::Endpoints`, which says what each is")]
pub struct CloudTable {
    pub like: Option<Text>,
    pub name: Option<Text>,
    pub login: Option<Text>,
    pub sts: Option<Text>,
    pub resource_manager: Option<Text>,
    pub resource_manager_audience: Option<Text>,
    pub classic_management: Option<Text>,
    pub machine_learning: Option<Text>,
    pub data_plane: Option<Text>,
    pub inference: Option<Text>,
    pub key_vault: Option<Text>,
    pub storage: Option<Text>,
    pub storage_audience: Option<Text>,
    pub graph: Option<Text>,
    pub monitor: Option<Text>,
    pub portal: Option<Text>,
    pub container_registry: Option<Text>,
}
