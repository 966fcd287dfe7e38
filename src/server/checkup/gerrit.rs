//! Whether a Gerrit answers the gate's own user, and lets it read what deciding needs.

use super::{Finding, causes};
use crate::{
    config::{Settings, settings},
    gates::review::{
        gerrit::{
            Greeting,
            group::{Group, Unread},
        },
        members::Members,
        people::Demand,
    },
    policy::PolicySet,
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

/// Whether the people of the groups that policies name can be known.
pub(super) async fn groups(
    found: &settings::Gerrit,
    settings: &Settings,
    secrets: &mut Secrets,
    clock: &SharedClock,
) -> Vec<Finding> {
    // What is wrong with the policies, or with the server, is said elsewhere.
    let Ok((set, _)) = PolicySet::load(&settings.policies, &settings.surroundings()) else {
        return Vec::new();
    };
    let named: Vec<_> = set.gerrit_groups().iter().filter(|group| group.server == found.name).collect();
    if named.is_empty() {
        return Vec::new();
    }
    let Ok(server) = reviews::one(found, settings, secrets, clock).await else { return Vec::new() };
    let mut findings = Vec::new();
    for group in named {
        let part = group.to_string();
        let mend = "policies name it by its name or UUID; the gate's user must be able to see it, and external groups cannot be read";
        findings.push(match server.group(&group.group).await {
            Ok(read) => people(part, found, &read),
            Err(Unread::Silent(why)) => Finding::unreachable(part, why, "try again when Gerrit answers"),
            Err(Unread::Gone(why)) => Finding::broken(part, format!("{why}: nobody is in it"), mend),
        });
    }
    findings
}

fn people(part: String, found: &settings::Gerrit, read: &Group) -> Finding {
    let members = Members::of(&found.people, &read.accounts);
    let (known, strangers) = members.count();
    let uuid = crate::http::legible(&read.uuid);
    let seen =
        format!("{known} people in it are known, and {strangers} accounts are nobody's; its UUID is {uuid}");
    if known > 0 && strangers == 0 {
        Finding::fine(part, seen)
    } else {
        let mend = "have `people.links` tell who its accounts are, and put people into it who sign in to Gerrit as themselves";
        Finding::doubtful(part, seen, mend)
    }
}
