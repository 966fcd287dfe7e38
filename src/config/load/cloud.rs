//! `cloud`: which Azure, by a word or as a table of hosts.

use std::borrow::Cow;

use super::super::{
    Problems, raw,
    settings::Route,
    values::{self, BaseUrl, Scheme},
};
use crate::{
    azureml::Protocol,
    cloud::{Cloud, Endpoints, Service},
    yaml::{Place, Spanned},
};

/// Reads `cloud`; the public one where it is not there.
pub(super) fn read(found: Option<&Spanned<raw::Cloud>>, problems: &mut Problems) -> Cloud {
    let Some(found) = found else { return Cloud::public() };
    match &found.value {
        raw::Cloud::Word(text) => match word(text) {
            Ok(cloud) => cloud,
            Err(message) => {
                problems.error_with(
                    Place::of(found),
                    message,
                    "for hosts of your own write `cloud: {like: public, login: https://..., resource_manager: https://...}`",
                );
                Cloud::public()
            }
        },
        raw::Cloud::Table(raw) => table(found, raw, problems),
    }
}

fn word(text: &str) -> Result<Cloud, String> {
    Cloud::named(text).ok_or_else(|| format!("`{text}` is none of `{}`", Cloud::WORDS.join("`, `")))
}

fn table(found: &Spanned<raw::Cloud>, raw: &raw::CloudTable, problems: &mut Problems) -> Cloud {
    let like = raw.like.as_ref().and_then(|named| problems.read(named, word));
    // Without a cloud that it is like, a table leaves nothing out: a host that was forgotten would be
    // the public cloud's, and tokens would go there.
    let mut missing = Vec::new();
    let base = like.clone().unwrap_or_default();
    let mut of =
        |key: &'static str, said: &Option<raw::Text>, base: &Cow<'static, str>, read: Read| match said {
            Some(text) => problems.read(text, read).map_or_else(|| base.clone(), Cow::Owned),
            None => {
                if raw.like.is_none() {
                    missing.push(key);
                }
                base.clone()
            }
        };
    let endpoints = Endpoints {
        name: match &raw.name {
            Some(text) => Cow::Owned(text.value.clone()),
            None => base.name.clone(),
        },
        login: of("login", &raw.login, &base.login, url),
        sts: of("sts", &raw.sts, &base.sts, url),
        resource_manager: of("resource_manager", &raw.resource_manager, &base.resource_manager, url),
        resource_manager_audience: match (&raw.resource_manager_audience, &raw.resource_manager) {
            (said @ Some(_), _) => {
                of("resource_manager_audience", said, &base.resource_manager_audience, resource)
            }
            (None, said @ Some(_)) => of("resource_manager", said, &base.resource_manager, url),
            (None, None) => base.resource_manager_audience.clone(),
        },
        classic_management: of(
            "classic_management",
            &raw.classic_management,
            &base.classic_management,
            resource,
        ),
        machine_learning: of("machine_learning", &raw.machine_learning, &base.machine_learning, resource),
        data_plane: of("data_plane", &raw.data_plane, &base.data_plane, suffix),
        inference: of("inference", &raw.inference, &base.inference, suffix),
        key_vault: of("key_vault", &raw.key_vault, &base.key_vault, suffix),
        storage: of("storage", &raw.storage, &base.storage, suffix),
        storage_audience: of("storage_audience", &raw.storage_audience, &base.storage_audience, resource),
        graph: of("graph", &raw.graph, &base.graph, url),
        monitor: of("monitor", &raw.monitor, &base.monitor, url),
        portal: of("portal", &raw.portal, &base.portal, url),
        container_registry: of(
            "container_registry",
            &raw.container_registry,
            &base.container_registry,
            suffix,
        ),
    };
    if !missing.is_empty() {
        problems.error_with(
            Place::of(found),
            format!("the table of hosts lacks `{}`", missing.join("`, `")),
            "say them, or write `like: public` for those of that cloud",
        );
    }
    endpoints.into()
}

type Read = fn(&str) -> Result<String, String>;

fn url(text: &str) -> Result<String, String> {
    let url = values::base_url(text)?;
    match url.scheme {
        Scheme::Https => Ok(url.to_text()),
        Scheme::Http => Err(format!("`{text}` is not https: tokens would cross the network in plaintext")),
    }
}

/// A resource of tokens: any URI, without a slash at its end.
fn resource(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('/');
    match bare.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() && !rest.contains([' ', '?', '#']) => {
            Ok(bare.to_owned())
        }
        Some(_) | None => {
            Err(format!("`{text}` is no resource of tokens: write a URL, as in `https://ml.azure.example`"))
        }
    }
}

fn suffix(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty() && label.len() < 64 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.contains('.') && text.len() < 200 && text.split('.').all(label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "`{text}` is no suffix of host names: write it without a dot at its start, as in `vault.example.net`"
        ))
    }
}

/// Whether a route leads to the cloud that its tokens are of.
pub(super) fn of_route(route: &Route, place: Place, cloud: &Cloud, problems: &mut Problems) {
    if route.credential.is_none() || cloud.service(&route.upstream.host).is_some() {
        return;
    }
    let other = Cloud::all().into_iter().find_map(|other| {
        other.service(&route.upstream.host).and_then(|service| Some((other.word()?, service)))
    });
    if let Some((word, service)) = other
        && served(route.protocol) == Some(service)
    {
        problems.error_with(
            place,
            format!(
                "`{}` is a host of the cloud `{word}`, and the gate's tokens are for another",
                route.upstream.host
            ),
            format!("write `cloud: {word}`, or the host of your own cloud"),
        );
    }
}

const fn served(protocol: Protocol) -> Option<Service> {
    Some(match protocol {
        Protocol::Arm => Service::ResourceManager,
        Protocol::Azureml => Service::DataPlane,
        Protocol::Inference => Service::Inference,
        Protocol::KeyVault => Service::KeyVault,
        Protocol::Storage => Service::Storage,
        Protocol::Kubernetes | Protocol::Http => return None,
    })
}

/// The login host of a cloud.
pub(super) fn login(cloud: &Cloud) -> BaseUrl {
    values::base_url(&cloud.login).unwrap_or_else(|_| BaseUrl {
        scheme: Scheme::Https,
        host: cloud.login_host().to_owned(),
        port: 443,
    })
}
