//! The blocks that have a default for everything: `limits`, `timeouts`, `streams`, `telemetry`, `outgoing`.

use super::super::{
    Problems, raw,
    settings::{Limits, Outgoing, Timeouts},
    values,
};
use crate::{
    gates::approvals::Bounds,
    policy::{OnTokenExpiry, StreamLimits},
    telemetry::{LogFormat, TelemetrySettings},
    yaml::{Place, Spanned},
};

pub(super) fn limits(raw: &raw::Limits, problems: &mut Problems) -> Limits {
    let default = Limits::default();
    let mut positive = |value: &Option<Spanned<usize>>, default: usize| match value {
        Some(value) if value.value == 0 => {
            problems.error(Place::of(value), "0 would refuse everything");
            default
        }
        Some(value) => value.value,
        None => default,
    };
    let waits = default.approvals;
    let mut few = |value: &Option<Spanned<usize>>, default: u32| {
        u32::try_from(positive(value, default as usize)).unwrap_or(u32::MAX)
    };
    let (pending_each, daily_each) = (
        few(&raw.pending_approvals_per_person, waits.pending_each),
        few(&raw.daily_approvals_per_person, waits.daily_each),
    );
    let approvals = Bounds {
        held: positive(&raw.held_calls, waits.held),
        held_each: positive(&raw.held_calls_per_person, waits.held_each),
        pending_each,
        daily_each,
    };
    Limits {
        approvals,
        connections: positive(&raw.connections, default.connections),
        connections_per_peer: positive(&raw.connections_per_peer, default.connections_per_peer),
        dpop_proofs: positive(&raw.dpop_proofs, default.dpop_proofs),
        inspected_body: raw
            .inspected_body
            .as_ref()
            .and_then(|s| problems.read(s, body))
            .unwrap_or(default.inspected_body),
        recorded_body: raw
            .recorded_body
            .as_ref()
            .and_then(|s| problems.read(s, body))
            .unwrap_or(default.recorded_body),
        recorded_bodies: raw
            .recorded_bodies
            .as_ref()
            .and_then(|s| problems.read(s, bodies))
            .unwrap_or(default.recorded_bodies),
        remembered_tokens: raw.remembered_tokens.as_ref().map_or(default.remembered_tokens, |n| n.value),
    }
}

pub(super) fn timeouts(raw: &raw::Timeouts, problems: &mut Problems) -> Timeouts {
    let default = Timeouts::default();
    let mut read = |value: &Option<raw::Text>, default| {
        value
            .as_ref()
            .and_then(|v| {
                problems.read(v, |text| match values::duration(text)? {
                    none if none.is_zero() => Err(format!("`{text}` would refuse everything")),
                    some => Ok(some),
                })
            })
            .unwrap_or(default)
    };
    Timeouts {
        handshake: read(&raw.handshake, default.handshake),
        head: read(&raw.head, default.head),
        idle: read(&raw.idle, default.idle),
        connect: read(&raw.connect, default.connect),
        upstream_head: read(&raw.upstream_head, default.upstream_head),
        drain: read(&raw.drain, default.drain),
        rights_fresh: read(&raw.rights_fresh, default.rights_fresh),
        rights_stale: read(&raw.rights_stale, default.rights_stale),
        dpop_proof: read(&raw.dpop_proof, default.dpop_proof),
        groups_fresh: read(&raw.groups_fresh, default.groups_fresh),
        groups_stale: read(&raw.groups_stale, default.groups_stale),
    }
}

pub(super) fn streams(raw: &raw::Streams, problems: &mut Problems) -> StreamLimits {
    let default = StreamLimits::default();
    let on_token_expiry = |text: &str| match text {
        "end" => Ok(OnTokenExpiry::End),
        "keep" => Ok(OnTokenExpiry::Keep),
        _ => Err(format!("`{text}` is neither `end` nor `keep`")),
    };
    StreamLimits {
        on_token_expiry: raw
            .on_token_expiry
            .as_ref()
            .and_then(|v| problems.read(v, on_token_expiry))
            .unwrap_or(default.on_token_expiry),
        max_age: raw
            .max_age
            .as_ref()
            .and_then(|v| problems.read(v, values::duration))
            .unwrap_or(default.max_age),
    }
}

pub(super) fn telemetry(raw: &raw::Telemetry, problems: &mut Problems) -> TelemetrySettings {
    let format = |text: &str| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is neither `text` nor `json`")),
    };
    TelemetrySettings {
        format: raw.format.as_ref().and_then(|f| problems.read(f, format)).unwrap_or_default(),
        level: raw.level.as_ref().map(|l| l.value.clone()),
    }
}

fn body(text: &str) -> Result<usize, String> {
    let size = values::size(text)?;
    if !(1 << 10..=64 << 20).contains(&size) {
        return Err(format!("`{text}` is not between 1KiB and 64MiB"));
    }
    Ok(size)
}

fn bodies(text: &str) -> Result<usize, String> {
    let size = values::size(text)?;
    if !(1 << 20..=16 << 30).contains(&size) {
        return Err(format!("`{text}` is not between 1MiB and 16GiB"));
    }
    Ok(size)
}

pub(super) fn outgoing(raw: &raw::Outgoing, problems: &mut Problems) -> Outgoing {
    Outgoing {
        proxy: raw.proxy.as_ref().and_then(|p| problems.read(p, values::base_url)),
        no_proxy: raw.no_proxy.iter().map(|n| n.value.to_ascii_lowercase()).collect(),
    }
}
