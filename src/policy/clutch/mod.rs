//! Clutch's roles and role bindings, read as subjects and `allow` entries.
//!
//! Whoever has roles in Clutch need not write them again. What is allowed by the translation was
//! allowed by Clutch: a policy whose meaning amlgate has no words for is left out and named, never
//! rounded up. Clutch names methods (`/azureml.v1.JobsAPI/Read`, [`crate::azureml::method`]) and ids
//! by globs; methods become Azure actions and globs become scopes and a condition on the id. Nothing
//! here says what Clutch's own methods are for: what Clutch forwards is judged when it arrives.

mod glob;
mod read;
mod rights;
mod scopes;
mod write;

use std::{collections::BTreeSet, sync::Arc};

use read::{Config, Policy, Principal, Role};
use rights::Rights;
use scopes::Reach;

use super::{FileSet, PolicySet, Surroundings, document::Text};
use crate::{azureml::ResourceId, yaml::Problem};

/// What Clutch's files do not say.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The issuer, by its name in `amlgate.yaml`, through which Clutch's users sign in.
    pub issuer: String,
    /// The claim that holds what Clutch calls a user; Clutch itself takes `email`.
    pub user_claim: String,
    /// Where all of it counts: nothing is allowed outside. Never empty.
    pub scopes: Vec<ResourceId>,
}

/// Policies that say what Clutch's files said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// One policy file.
    pub policies: String,
    /// What is not in it, and where it stands in Clutch's files.
    pub left_out: Vec<Problem>,
    /// How many entries there are.
    pub entries: usize,
}

/// One entry of the translation.
#[derive(Debug)]
struct Entry {
    from: String,
    name: String,
    subject: String,
    actions: Vec<String>,
    reach: Reach,
}

/// The callers that a role is bound to.
#[derive(Debug)]
struct Subject {
    name: String,
    principals: Vec<Principal>,
}

/// Translates files (each by its name and content), which together are one configuration.
///
/// # Errors
/// What is malformed in them, all of it at once; that nothing in them could be translated.
pub fn import(files: &[(Arc<str>, String)], terms: &Terms) -> Result<Imported, Vec<Problem>> {
    let config = read::read(files)?;
    let mut left_out = config.left_out.clone();
    let (mut subjects, mut entries) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for role in &config.roles {
        let principals = principals(&config, role, &mut left_out);
        if principals.is_empty() {
            let message = format!("role `{}` is bound to nobody", role.name.value);
            left_out.push(Problem::warning(&role.file, role.name.place, message));
            continue;
        }
        let subject = format!("clutch/{}", role.name.value);
        let before = entries.len();
        for policy in &role.policies {
            let Some((actions, reach)) = translated(policy, role, terms, &mut left_out) else { continue };
            let mut name = format!("{}: {} (Clutch)", role.name.value, policy.name.value);
            let mut count = 1;
            while !names.insert(name.clone()) {
                count += 1;
                name = format!("{}: {} (Clutch, {count})", role.name.value, policy.name.value);
            }
            let from = format!("{}:{}:{}", role.file, policy.name.place.line, policy.name.place.column);
            entries.push(Entry { from, name, subject: subject.clone(), actions, reach });
        }
        if entries.len() > before {
            subjects.push(Subject { name: subject, principals });
        }
    }
    if entries.is_empty() {
        let (file, _) = files.first().ok_or_else(Vec::new)?;
        let hint = "policies that count name methods like `/azureml.v1.JobsAPI/Read` in roles that are bound to somebody";
        left_out.push(
            Problem::error(file, Default::default(), "nothing here says what anybody may do in Azure ML")
                .hint(hint),
        );
        return Err(left_out);
    }
    let names: Vec<_> = files.iter().map(|(name, _)| &**name).collect();
    let policies = write::written(&names, terms, &subjects, &entries, &left_out);
    held(&policies)?;
    Ok(Imported { policies, left_out, entries: entries.len() })
}

/// What was written must load as it will have to.
fn held(policies: &str) -> Result<(), Vec<Problem>> {
    let files = FileSet::from_texts([("imported.yaml", policies)]);
    PolicySet::compile(&files, &Surroundings::default()).map(drop)
}

/// Whom a role is bound to, each once.
fn principals(config: &Config, role: &Role, left_out: &mut Vec<Problem>) -> Vec<Principal> {
    let mut found: Vec<Principal> = Vec::new();
    for binding in config.bindings.iter().filter(|b| b.to.iter().any(|to| to.value == role.name.value)) {
        for principal in &binding.principals {
            if let Principal::User(user) = principal
                && user.value.starts_with("service:")
            {
                let message = format!("`{}` is known to Clutch alone", user.value);
                let hint =
                    "a service calls amlgate with a token of an issuer of its own: describe it as a subject";
                let problem = Problem::warning(&binding.file, user.place, message).hint(hint);
                if !left_out.contains(&problem) {
                    left_out.push(problem);
                }
            } else if !found.iter().any(|known| known.is(principal)) {
                found.push(principal.clone());
            }
        }
    }
    found
}

fn translated(
    policy: &Policy,
    role: &Role,
    terms: &Terms,
    left_out: &mut Vec<Problem>,
) -> Option<(Vec<String>, Reach)> {
    let mut leave = |text: &Text, message: String, hint: Option<&str>| {
        let problem = Problem::warning(&role.file, text.place, message);
        left_out.push(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    };
    let actions = match Rights::of(&policy.method.value, policy.types.as_deref()) {
        Ok(rights) => {
            if !rights.halved.is_empty() {
                let some =
                    rights.halved.iter().take(3).map(|a| format!("`{a}`")).collect::<Vec<_>>().join(", ");
                let message = format!("policy `{}` lets do only half of {some}", policy.name.value);
                let hint = "Azure has one right for creating and changing: name both CREATE and UPDATE";
                leave(&policy.name, message, Some(hint));
            }
            rights.actions
        }
        Err(why) => {
            leave(&policy.method, format!("method `{}` {}", policy.method.value, why.message), why.hint);
            return None;
        }
    };
    let reach = scopes::reach(&policy.resources, &terms.scopes, &mut |text, why| {
        leave(text, format!("resource `{}` {}", text.value, why.message), why.hint);
    });
    match (actions.is_empty(), reach) {
        (false, Some(reach)) => Some((actions, reach)),
        (true, _) | (_, None) => None,
    }
}

/// Why something has no translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Why {
    message: &'static str,
    hint: Option<&'static str>,
}

#[cfg(test)]
mod tests;
