//! Whether a GitHub or GitLab answers to the gate's own token.

use super::{Finding, causes};
use crate::{
    config::{Settings, settings},
    server::{code_hosts, secrets::Secrets},
    time::SharedClock,
};

pub(super) async fn one(
    found: &settings::Host,
    settings: &Settings,
    secrets: &mut Secrets,
    clock: &SharedClock,
) -> Finding {
    let part = format!("{} {}", found.kind.key(), found.name);
    let others = match code_hosts::one(found, settings, secrets, clock).await {
        Ok(others) => others,
        Err(error) => {
            let mend = "`token` holds a token, `trust.ca` PEM certificates";
            return Finding::broken(part, causes(&error), mend);
        }
    };
    match others.greet().await {
        Ok(login) => {
            let login = crate::http::legible(&login);
            Finding::fine(part, format!("{} knows it as `{login}`", found.kind.name()))
        }
        Err((why, true)) => {
            let mend = "check `url`, `address` and `trust`, and the way out (`outgoing.proxy`)";
            Finding::unreachable(part, why, mend)
        }
        Err((why, false)) => {
            let mend = "check that `url` is that of the API, and that `token` is a user's and has not ended";
            Finding::broken(part, why, mend)
        }
    }
}
