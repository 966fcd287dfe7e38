//! `notify`: where people hear of approvals.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        Problems, issuers, raw,
        settings::{Admin, Hook, Sink, SinkKind},
        values,
    },
    Reader,
};
use crate::{
    audit::sinks::Start,
    notify::{Filter, Told},
    yaml::{Place, Spanned},
};

impl Reader<'_> {
    /// The channels; none has the name of a sink, whose cursor it would share.
    pub(super) fn channels(
        &self,
        found: &[Spanned<raw::Channel>],
        sinks: &[Sink],
        admin: Option<&Admin>,
        problems: &mut Problems,
    ) -> Vec<Sink> {
        let mut names: BTreeSet<Arc<str>> = sinks.iter().map(|sink| Arc::clone(&sink.name)).collect();
        let console = admin.is_some_and(|admin| admin.on_reverse || admin.public_url.is_some());
        if let (Some(first), false) = (found.first(), console) {
            problems.warning(
                Place::of(first),
                "messages cannot say where requests are answered",
                "`listen.admin` names the console by its `public_url`, or puts it `on_reverse`",
            );
        }
        let mut read = Vec::new();
        for channel in found {
            let raw = &channel.value;
            let Some(name) = problems.read(&raw.name, values::name) else { continue };
            let name: Arc<str> = name.into();
            if !names.insert(Arc::clone(&name)) {
                let message = format!("a channel or a sink called `{name}` is there already");
                problems.error(Place::of(&raw.name), message);
            }
            let filter = filter(raw, problems);
            let Some(hook) = self.hook(&name, channel, problems) else { continue };
            read.push(Sink {
                name,
                // What happened before anybody wanted to hear of it is old.
                start: Start::Now,
                address: raw.address.as_ref().and_then(|a| problems.read(a, values::address)),
                trust: raw.trust.as_ref().and_then(|t| {
                    issuers::pem(&t.value.ca, self.base, problems).map(|_| self.file(&t.value.ca.value))
                }),
                kind: SinkKind::Channel { hook, filter },
            });
        }
        read
    }

    fn hook(&self, name: &str, channel: &Spanned<raw::Channel>, problems: &mut Problems) -> Option<Hook> {
        match (&channel.value.slack, &channel.value.teams, &channel.value.webhook) {
            (Some(slack), None, None) => {
                Some(Hook::Slack { url: self.reference(&slack.value.url, problems)? })
            }
            (None, Some(teams), None) => {
                Some(Hook::Teams { url: self.reference(&teams.value.url, problems)? })
            }
            (None, None, Some(webhook)) => {
                let secret = self.reference(&webhook.value.secret, problems);
                let (url, target) = problems.read(&webhook.value.url, values::url)?;
                Some(Hook::Webhook { url, target, secret: secret? })
            }
            _ => {
                problems.error_with(
                    Place::of(channel),
                    format!("the channel `{name}` is exactly one of `slack`, `teams`, `webhook`"),
                    "write for example `slack: {url: {env: SLACK_WEBHOOK_URL}}`",
                );
                None
            }
        }
    }
}

fn filter(raw: &raw::Channel, problems: &mut Problems) -> Filter {
    let mut filter = Filter::usual();
    if let Some(events) = &raw.events {
        filter =
            Filter::of(events.value.iter().filter_map(|event| problems.read(event, Told::named)).collect());
    }
    let names = |list: &Option<Spanned<Vec<raw::Text>>>| -> Vec<Arc<str>> {
        list.iter().flat_map(|list| &list.value).map(|name| name.value.as_str().into()).collect()
    };
    (filter.entries, filter.approvers) = (names(&raw.entries), names(&raw.approvers));
    for (key, list) in [("events", &raw.events), ("entries", &raw.entries), ("approvers", &raw.approvers)] {
        if let Some(list) = list.as_ref().filter(|list| list.value.is_empty()) {
            problems.error_with(
                Place::of(list),
                format!("`{key}` is empty, so that nothing would be told"),
                "name some, or leave it out",
            );
        }
    }
    filter
}
