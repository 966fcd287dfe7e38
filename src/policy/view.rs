//! Entries as people read them: every name replaced by what it stands for.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    EntryRef, PolicySet, SecretTreatment,
    approval::{Covers, Demand, Reason},
    entry::{Entry, SecretsRule},
    recording::Recording,
};

/// One entry, keys in the order of the contract.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Entry")]
pub struct EntryView {
    /// `allow`, `deny` or `require`.
    #[schemars(extend("enum" = ["allow", "deny", "require"]))]
    pub list: String,
    /// Its name and place.
    pub entry: EntryRef,
    /// Its keys and what they hold.
    pub keys: Vec<(&'static str, Vec<String>)>,
}

impl PolicySet {
    /// Every entry, expanded, in the order of the files.
    #[must_use]
    pub fn views(&self) -> Vec<EntryView> {
        self.entries.iter().map(|entry| self.view(entry)).collect()
    }

    pub(super) fn view(&self, entry: &Entry) -> EntryView {
        let mut keys = Vec::new();
        let mut put = |key, values: Option<Vec<String>>| keys.extend(values.map(|values| (key, values)));
        let subjects = |numbers: Option<&[u32]>| {
            numbers
                .map(|n| n.iter().filter_map(|n| self.subjects.name(*n)).map(ToString::to_string).collect())
        };
        put("who", subjects(entry.who.as_deref()));
        put("role", entry.role.as_ref().map(|role| vec![role.name().to_string()]));
        put("grants", entry.role.as_ref().map(|role| role.patterns()));
        put("rights", entry.rights.map(|_| vec!["azure".to_owned()]));
        put("as", entry.as_human.then(|| vec!["human".to_owned()]));
        put("actions", entry.actions.as_ref().map(|a| a.iter().map(ToString::to_string).collect()));
        put(
            "kinds",
            entry.kinds.as_ref().map(|k| k.iter().map(|k| format!("{k:?}").to_lowercase()).collect()),
        );
        put("effects", entry.effects.map(|e| e.iter().map(|e| e.name().to_owned()).collect()));
        put("secrets", entry.secrets.as_ref().map(secrets));
        put("scope", entry.scope.as_ref().map(|s| s.iter().map(ToString::to_string).collect()));
        put("routes", entry.routes.as_ref().map(|r| r.iter().map(ToString::to_string).collect()));
        put("methods", entry.methods.as_ref().map(|m| m.iter().map(ToString::to_string).collect()));
        put("path", entry.path.as_ref().map(|p| p.iter().map(|p| format!("{p:?}")).collect()));
        let networks = entry.from.as_ref();
        put(
            "from",
            networks.map(|n| n.iter().flat_map(|n| n.nets.iter().map(ToString::to_string)).collect()),
        );
        let hours = entry.during.as_ref();
        put("during", hours.map(|c| c.iter().map(|c| format!("{} ({c})", c.name())).collect()));
        put(
            "when",
            entry.when.as_ref().map(|when| when.reads().iter().map(|p| format!("reads {p}")).collect()),
        );
        put(
            "unless",
            entry.unless.as_ref().map(|unless| {
                let mut exempt = subjects(unless.who.as_deref()).unwrap_or_default();
                exempt.extend(unless.break_glass.then(|| "break-glass".to_owned()));
                exempt
            }),
        );
        put("step_up", entry.step_up.as_ref().map(|demand| vec![demand.words()]));
        put("record", entry.record.as_ref().map(Recording::words));
        put("limit", entry.limit.map(|l| vec![format!("{} in {:?} per {:?}", l.requests, l.every, l.per)]));
        put("approval", entry.approval.as_ref().map(|demand| self.approval_words(demand)));
        put("review", entry.review.as_ref().map(|review| review.expanded()));
        put("opinion", entry.opinion.then(|| vec!["clutch".to_owned()]));
        put("dry_run_until", entry.dry_run_until.map(|until| vec![until.to_rfc3339()]));
        EntryView { list: format!("{:?}", entry.list).to_lowercase(), entry: entry.reference.clone(), keys }
    }
}

impl PolicySet {
    fn approval_words(&self, demand: &Demand) -> Vec<String> {
        let approval = &demand.approval;
        let mut words = vec![format!("by {}", approval.words())];
        words.push(match approval.covers {
            Covers::Request => "covers the request".to_owned(),
            Covers::Entry => "covers what the entry matches".to_owned(),
        });
        words.extend(approval.uses.map(|uses| format!("{uses} uses")));
        words.push(format!("valid for {:?}", approval.valid_for));
        if !approval.hold.is_zero() {
            words.push(format!("holds {:?}", approval.hold));
        }
        if approval.reason == Reason::Required {
            words.push("asks for a reason".to_owned());
        }
        words
            .extend(approval.ticket.as_ref().map(|ticket| format!("asks for a ticket {}", ticket.written())));
        let skip = demand.skip.as_deref().unwrap_or_default();
        let names = skip.iter().filter_map(|number| self.subjects.name(*number));
        words.extend(names.map(|name| format!("skips {name}")));
        words
    }
}

fn secrets(rule: &SecretsRule) -> Vec<String> {
    match rule {
        SecretsRule::Selected(classes) => classes.iter().map(|c| c.name().to_owned()).collect(),
        SecretsRule::Granted(named) => named
            .iter()
            .map(|(class, how)| match how {
                SecretTreatment::Substitute => format!("{}: substitute", class.name()),
                SecretTreatment::Reveal => format!("{}: reveal", class.name()),
            })
            .collect(),
    }
}
