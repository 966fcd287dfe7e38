//! Everything that somebody may do: each action that the gate knows, judged one by one.

use super::{Asker, CanIError};
use crate::{
    azureml,
    cli::{Output, print_data, put},
    policy::may::{self, Line},
};

/// Everything that they may do at a scope, or at those that entries name.
pub async fn list(asker: &Asker<'_>, scope: Option<&str>) -> Result<Vec<Line>, CanIError> {
    let set = &asker.bench.set;
    let scopes = scope.map_or_else(|| may::scopes(set), |scope| vec![scope.to_owned()]);
    let mut lines = Vec::new();
    for scope in &scopes {
        for action in azureml::action::all() {
            let described = asker.ask(action.as_str(), scope).await?;
            lines.extend(Line::of(set, &described, action.as_str(), scope));
        }
    }
    Ok(lines)
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
                format!("; refused with {}, or only after more", effects.join(", "))
            }
            (None, true) => String::new(),
        };
        put(format_args!("  {:width$}  {}{more}", line.action, by.join(", ")));
    }
}
