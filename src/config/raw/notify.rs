//! `notify` as it is written: one block per kind of channel.

use serde::Deserialize;

use super::{Reference, Text, Trust};
use crate::yaml::Spanned;

/// One of `notify`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name in metrics and records, and of its cursor.
    pub name: Text,
    /// What it tells.
    pub events: Option<Spanned<Vec<Text>>>,
    /// Only approvals that these entries demand.
    pub entries: Option<Spanned<Vec<Text>>>,
    /// Only approvals that people of these subjects can give.
    pub approvers: Option<Spanned<Vec<Text>>>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
    /// An incoming webhook of Slack.
    pub slack: Option<Spanned<ChatHook>>,
    /// A workflow of Microsoft Teams.
    pub teams: Option<Spanned<ChatHook>>,
    /// CloudEvents over HTTP.
    pub webhook: Option<Spanned<SignedHook>>,
}

/// `slack` and `teams`: whoever knows the URL can post.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatHook {
    /// The URL.
    pub url: Spanned<Reference>,
}

/// `webhook`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHook {
    /// Where events are posted.
    pub url: Text,
    /// Signs them: `whsec_...`.
    pub secret: Spanned<Reference>,
}
