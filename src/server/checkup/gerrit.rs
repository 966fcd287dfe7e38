//! Whether a Gerrit answers the gate's own user, and lets it read what deciding needs.

use super::{Finding, causes};
use crate::{
    config::{Settings, settings},
    gates::review::{gerrit::Greeting, people::Demand},
    server::{reviews, secrets::Secrets},
    time::SharedClock,
};

pub(super) async fn one(
    found: &settings::Gerrit,
    settings: &Settings,
    secrets: &mut Secrets,
    clock: &SharedClock,
) -> Finding {
    let part = format!("gerrit {}", found.name);
    let server = match reviews::one(found, settings, secrets, clock).await {
        Ok(server) => server,
        Err(error) => {
            let mend = "`token` holds an auth token of `user`, `trust.ca` PEM certificates";
            return Finding::broken(part, causes(&error), mend);
        }
    };
    let Greeting { account, version, reads_external_ids, reads_mails } = match server.greet().await {
        Ok(greeting) => greeting,
        Err((why, true)) => {
            let mend = "check `url`, `address` and `trust`, and the way out (`outgoing.proxy`)";
            return Finding::unreachable(part, why, mend);
        }
        Err((why, false)) => {
            let mend = "check `url`, that `token` is an auth token of `user`, and that a proxy before Gerrit leaves `/a/` alone";
            return Finding::broken(part, why, mend);
        }
    };
    let version = crate::http::legible(&version);
    let reads = if reads_external_ids { "may" } else { "may not" };
    let seen =
        format!("Gerrit {version} knows it as account {account}, which {reads} read others' external ids");
    match &found.people.demand {
        Demand::External(scheme) if !reads_external_ids => Finding::broken(
            part,
            format!("{seen}: nobody's vote counts"),
            format!(
                "give its user the global capability Modify Account, so that it finds whose `{scheme}` ids are, or write `accounts: {{match: email}}`"
            ),
        ),
        Demand::Mail if !reads_mails => Finding::broken(
            part,
            format!("{seen}, nor further e-mails: nobody's vote counts"),
            "give its user the global capability View Secondary Emails, so that nobody votes under another address",
        ),
        Demand::External(_) | Demand::Mail => Finding::fine(part, seen),
    }
}
