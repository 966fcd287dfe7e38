//! Everything that somebody may do: each action that the gate knows, judged one by one.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Asker, CanIError};
use crate::{
    azureml,
    cli::{Output, print_data, put},
    policy::{DenialCode, described::NoQuestion},
};

/// What somebody may do, or could if one thing more were so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The Azure action.
    pub action: String,
    /// Where.
    pub scope: String,
    /// `allow`, or the code of what is still demanded.
    pub decision: &'static str,
    /// The entries that allow it.
    pub by: BTreeSet<String>,
    /// The role assignment in Azure that an entry with `rights: azure` goes by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// What is still demanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demanded: Option<String>,
    /// Effects with which it is refused all the same.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub not_with: BTreeSet<&'static str>,
}

/// Everything that they may do at a scope, or at those that entries name.
pub async fn list(asker: &Asker<'_>, scope: Option<&str>) -> Result<Vec<Line>, CanIError> {
    let set = &asker.bench.set;
    let scopes: Vec<String> = match scope {
        Some(scope) => vec![scope.to_owned()],
        None => {
            let named = set.allowed_scopes().into_iter().chain(set.mirrored_scopes());
            let mut all: Vec<_> = named.map(|scope| scope.as_str().to_owned()).collect();
            all.sort_unstable_by_key(|scope| scope.to_lowercase());
            all.dedup_by_key(|scope| scope.to_lowercase());
            all
        }
    };
    let mut lines = Vec::new();
    for scope in &scopes {
        for action in azureml::action::all() {
            lines.extend(line(asker, action.as_str(), scope).await?);
        }
    }
    Ok(lines)
}

async fn line(asker: &Asker<'_>, action: &str, scope: &str) -> Result<Option<Line>, NoQuestion> {
    let set = &asker.bench.set;
    let described = asker.ask(action, scope).await?;
    let judgement = described.judge(set);
    let (decision, demanded) = match &judgement.denial {
        None => ("allow", None),
        // These no sign-in, place or hour changes.
        Some(denial)
            if [
                DenialCode::AuthorizationFailed,
                DenialCode::RequestDisallowedByPolicy,
                DenialCode::UnknownOperation,
            ]
            .contains(&denial.code) =>
        {
            return Ok(None);
        }
        Some(denial) => (denial.code.name(), Some(denial.cause.clone())),
    };
    Ok(Some(Line {
        action: action.to_owned(),
        scope: scope.to_owned(),
        decision,
        by: judgement.allowed_by.iter().map(|entry| entry.name.to_string()).collect(),
        through: described.assignment(),
        demanded,
        not_with: described.hinges(set).iter().map(|(effect, _)| effect.name()).collect(),
    }))
}

/// Prints lines, scope by scope.
pub fn print(lines: &[Line], output: Output) {
    if output != Output::Table {
        return print_data(&lines, output);
    }
    if lines.is_empty() {
        eprintln!("amlgate: nothing is allowed: no entry names this caller");
    }
    let width = lines.iter().map(|line| line.action.len()).max().unwrap_or_default();
    let mut at = "";
    for line in lines {
        if line.scope != at {
            at = &line.scope;
            put(format_args!("{at}"));
        }
        let mut by: Vec<String> = line.by.iter().map(|name| format!("`{name}`")).collect();
        by.extend(line.through.clone());
        let more = match (&line.demanded, line.not_with.is_empty()) {
            (Some(demanded), _) => format!("; {}: {demanded}", line.decision),
            (None, false) => {
                let effects: Vec<_> = line.not_with.iter().map(|effect| format!("`{effect}`")).collect();
                format!("; not with {}", effects.join(", "))
            }
            (None, true) => String::new(),
        };
        put(format_args!("  {:width$}  {}{more}", line.action, by.join(", ")));
    }
}
