//! `break_glass`: who may, who else must say yes, for how long, who hears of it, and until when it is
//! reviewed.

use std::time::Duration;

use super::super::{Problems, raw, settings::Sink, values};
use crate::{
    gates::break_glass::{LONGEST, REVIEW_BY, Rules, USUAL},
    policy::Approvers,
    yaml::{Place, Spanned},
};

/// The most people that must say yes together.
const MOST_PEOPLE: u32 = 8;
/// The review is due at the latest so long after the end.
const LATEST_REVIEW: Duration = Duration::from_secs(30 * 86_400);
/// Names every caller with a valid token.
const AUTHENTICATED: &str = "authenticated";

/// The rules; `kept` says whether there is a store, `channels` who can be told.
pub(super) fn read(
    found: &Spanned<raw::BreakGlass>,
    kept: bool,
    channels: &[Sink],
    problems: &mut Problems,
) -> Option<Rules> {
    let raw = &found.value;
    told(found, channels, problems);
    if raw.who.is_empty() {
        let hint = "name the subjects of the policies that are on call";
        problems.error_with(Place::of(found), "`break_glass.who` names nobody", hint);
    }
    if !kept {
        problems.error_with(
            Place::of(found),
            "break-glass is kept in a store, and there is none",
            "add `store: {sqlite: var/amlgate.db}`",
        );
    }
    let mut people = 0_u32;
    let by: Vec<_> = raw
        .by
        .iter()
        .filter_map(|one| {
            let count = one.value.count.as_ref();
            let wanted = count.map_or(1, |count| count.value);
            people = people.saturating_add(wanted);
            if wanted == 0 || people > MOST_PEOPLE {
                let place = count.map_or_else(|| Place::of(one), Place::of);
                problems.error(place, format!("`by` wants 1 to {MOST_PEOPLE} people in all"));
                return None;
            }
            subject(&one.value.subject, wanted, problems)
        })
        .collect();
    let who = raw.who.iter().filter_map(|name| subject(name, 1, problems)).collect();
    let mut length = |text: &Option<raw::Text>, usual: Duration, most: Duration| match text {
        None => Some(usual),
        Some(text) => problems.read(text, |text| match values::duration(text)? {
            length if length < Duration::from_secs(60) || length > most => {
                Err(format!("`{text}` is not between `1m` and `{}h`", most.as_secs() / 3_600))
            }
            length => Ok(length),
        }),
    };
    let max = length(&raw.max, USUAL, LONGEST);
    let review_by = length(&raw.review_by, REVIEW_BY, LATEST_REVIEW);
    Some(Rules { who, by: by.into(), max: max?, review_by: review_by? })
}

/// Every channel hears of it, whatever it says; those that are named here must be there, so that taking
/// one away or giving it another name silences nothing.
fn told(found: &Spanned<raw::BreakGlass>, channels: &[Sink], problems: &mut Problems) {
    let Some(names) = &found.value.notify else {
        if channels.is_empty() {
            problems.warning(
                Place::of(found),
                "nobody is told when the glass is broken",
                "`notify` names channels: Slack, Teams or a webhook",
            );
        }
        return;
    };
    if names.value.is_empty() {
        let hint = "name channels of `notify`, or leave it out: every channel hears of it";
        problems.error_with(Place::of(names), "`break_glass.notify` is empty", hint);
    }
    for name in &names.value {
        if !channels.iter().any(|channel| *channel.name == *name.value) {
            let known: Vec<_> = channels.iter().map(|channel| format!("`{}`", channel.name)).collect();
            let hint = match &*known.join(", ") {
                "" => "there is none: add `notify: [{name: NAME, slack: {url: {env: SLACK_WEBHOOK_URL}}}]`"
                    .to_owned(),
                known => format!("there is {known}"),
            };
            let message = format!("`{}` is no channel of `notify`", name.value);
            problems.error_with(Place::of(name), message, hint);
        }
    }
}

fn subject(name: &raw::Text, count: u32, problems: &mut Problems) -> Option<Approvers> {
    if name.value.trim().is_empty() || name.value == AUTHENTICATED {
        problems.error_with(
            Place::of(name),
            "`break_glass` names everybody",
            "name a subject of the policies",
        );
        return None;
    }
    Some(Approvers::Subject { name: name.value.as_str().into(), count })
}
