//! A translation as a policy file. Each text is written in quotes, so that nothing in it is YAML.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Entry, Subject, Terms, read::Principal, scopes::Reach};
use crate::yaml::Problem;

pub(super) fn written(
    files: &[&str],
    terms: &Terms,
    subjects: &[Subject],
    entries: &[Entry],
    left_out: &[Problem],
) -> String {
    let mut out = String::new();
    comment(&mut out, "", &format!("From Clutch: {}.", files.join(", ")));
    comment(
        &mut out,
        "",
        "All else stays denied. No entry here grants secrets: whoever submits jobs also needs",
    );
    comment(
        &mut out,
        "",
        "`secrets: {upload_sas: reveal, download_sas: reveal, run_token: reveal}`, or a role of Azure's.",
    );
    out.push_str("version: 1\nsubjects:\n");
    for subject in subjects {
        line(&mut out, format_args!("  {}:", quoted(&subject.name)));
        for principal in &subject.principals {
            let issuer = quoted(&terms.issuer);
            match principal {
                Principal::User(user) => line(
                    &mut out,
                    format_args!(
                        "    - {{issuer: {issuer}, claims: {{{}: {}}}}}",
                        quoted(&terms.user_claim),
                        quoted(&user.value)
                    ),
                ),
                Principal::Group(group) => {
                    line(
                        &mut out,
                        format_args!("    - {{issuer: {issuer}, group: {}}}", quoted(&group.value)),
                    );
                }
            }
        }
    }
    out.push_str("allow:\n");
    for Entry { from, name, subject, actions, reach: Reach { scopes, pattern } } in entries {
        comment(&mut out, "  ", from);
        line(&mut out, format_args!("  - name: {}", quoted(name)));
        line(&mut out, format_args!("    who: [{}]", quoted(subject)));
        list(&mut out, "actions", actions.iter().map(String::as_str));
        list(&mut out, "scope", scopes.iter().map(|scope| scope.as_str()));
        if let Some(pattern) = pattern {
            let condition = format!("resource.id.matches({})", in_condition(pattern));
            line(&mut out, format_args!("    when: {}", quoted(&condition)));
        }
    }
    if !left_out.is_empty() {
        comment(&mut out, "", "Not translated:");
        for problem in left_out {
            let place = problem.place;
            let whole = format!("{}:{}:{}: {}", problem.file, place.line, place.column, problem.message);
            comment(&mut out, "", &whole);
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _infallible = writeln!(out, "{text}");
}

fn list<'t>(out: &mut String, key: &str, texts: impl Iterator<Item = &'t str> + Clone) {
    if texts.clone().count() == 1 {
        line(out, format_args!("    {key}: [{}]", texts.map(quoted).collect::<String>()));
        return;
    }
    line(out, format_args!("    {key}:"));
    texts.for_each(|text| line(out, format_args!("      - {}", quoted(text))));
}

/// JSON's texts are YAML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A literal of the condition's language.
fn in_condition(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A comment, whose text cannot end it.
fn comment(out: &mut String, indent: &str, text: &str) {
    let text: String = text.chars().map(|c| if c.is_control() || is_line_end(c) { ' ' } else { c }).collect();
    line(out, format_args!("{indent}# {text}"));
}

/// Ends of lines for YAML besides those that are control characters.
const fn is_line_end(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}
