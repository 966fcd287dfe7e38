//! What is doubtful in a description of callers: claims that somebody else can come to hold.
//!
//! Names are given away and taken again, addresses change hands, and whoever may push to a branch
//! chooses what a job there says. Nothing of this is an error, because an issuer may be such that
//! the name is fixed; `validate` says it.

use serde_json::Value;

use super::{Description, Expected, is_of_pull_request};

/// Claims that somebody else can come to hold, each with those that make it harmless beside it.
const MUTABLE: &[(&str, &[&str])] = &[
    ("email", PERSON),
    ("upn", PERSON),
    ("preferred_username", PERSON),
    ("unique_name", PERSON),
    ("nickname", PERSON),
    ("name", PERSON),
    ("repository", &["repository_id"]),
    ("repository_owner", &["repository_owner_id", "repository_id"]),
    ("actor", &["actor_id"]),
    ("project_path", &["project_id"]),
    ("namespace_path", &["namespace_id", "project_id"]),
    ("user_login", &["user_id"]),
    ("user_email", &["user_id"]),
];

/// What says who a person is: `subject`, or the same as a claim.
const PERSON: &[&str] = &["sub", "oid"];

/// Claims that narrow a repository's jobs to some of its branches, whatever their value.
const NARROWING: &[&str] = &["ref", "environment", "job_workflow_ref", "workflow_ref"];

/// Events whose jobs run on what the default branch holds, or will hold.
const OF_DEFAULT_BRANCH: &[&str] = &["schedule", "repository_dispatch", "merge_group"];

/// What may be doubted, each with its mend.
pub(in crate::policy) fn doubts(description: &Description) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let names = |name: &str| description.names(name);
    let person = description.subject.is_some();
    for (name, instead) in MUTABLE {
        let settled = instead.iter().any(|one| names(one)) || person && *instead == PERSON;
        if names(name) && !settled {
            let mend = match instead {
                [] => continue,
                all if *all == PERSON => "`subject`, which stays the same person".to_owned(),
                [one, ..] => format!("claim `{one}`, which is never given away"),
            };
            found.push((
                format!("claim `{name}` can change, or come to be somebody else's"),
                format!("name the {mend}"),
            ));
        }
    }
    for text in subjects(description) {
        found.extend(subject(text, names("repository_id") || names("project_id")));
    }
    for (key, text) in description.texts() {
        if text.contains('*') {
            found.push((
                format!("`*` in `{key}` stands for itself: values match exactly"),
                "list the values, or match a claim that all of them share".to_owned(),
            ));
        }
    }
    match pull_requests(description) {
        Some(doubt) => found.push(doubt),
        None => found.extend(branches(description)),
    }
    found
}

/// Runs of pull requests, taken in by name.
fn pull_requests(description: &Description) -> Option<(String, String)> {
    let (key, text) = description.texts().find(|(key, text)| is_of_pull_request(key, text))?;
    Some((
        format!("`{text}` in `{key}` is what a pull request runs: whoever opens one chooses what it does"),
        "give a subject of its own to such runs, and that no more than strangers may".to_owned(),
    ))
}

/// A job of a repository that may be on any branch, or on a tag with the name of one.
fn branches(description: &Description) -> Option<(String, String)> {
    let names = |name: &str| description.names(name);
    let github = ["repository", "repository_id"].into_iter().any(names);
    let gitlab = ["project_path", "project_id"].into_iter().any(names);
    if !github && !gitlab || description.subject.is_some() || names("sub") {
        return None;
    }
    let protected = |value: &Value| *value == true || value == "true";
    let narrow = NARROWING.iter().any(|name| names(name))
        || all(description, "ref_protected", protected)
        || all(description, "event_name", |event| OF_DEFAULT_BRANCH.iter().any(|one| event == one));
    if !narrow {
        let branch = if github { "`ref: refs/heads/main`" } else { "`ref: main`, `ref_type: branch`" };
        return Some((
            "jobs of every branch belong here: whoever may push one chooses what they do".to_owned(),
            format!("name a protected branch (claims {branch}), `ref_protected: \"true\"` or `environment`"),
        ));
    }
    let bare = gitlab && names("ref") && !names("ref_type") && !names("ref_protected");
    bare.then(|| {
        (
            "claim `ref` without `ref_type` is a branch or a tag of that name".to_owned(),
            "add `ref_type: branch` or `ref_protected: \"true\"`".to_owned(),
        )
    })
}

/// Whether a claim is named, and each of its values is such a one.
fn all(description: &Description, claim: &str, such: impl Fn(&Value) -> bool) -> bool {
    description.claims.iter().any(|(name, expected)| {
        &**name == claim
            && match expected {
                Expected::AnyOf(values) => values.iter().all(&such),
                Expected::Members(_) => false,
            }
    })
}

/// A subject that is made of names: GitHub's without ids, GitLab's always.
fn subject(text: &str, settled: bool) -> Option<(String, String)> {
    let (names, instead) = if let Some(rest) = text.strip_prefix("repo:") {
        let repository = rest.split(':').next().unwrap_or_default();
        (!repository.split('/').all(with_id), "repository_id")
    } else {
        (text.starts_with("project_path:"), "project_id")
    };
    (names && !settled).then(|| {
        (
            format!("`{text}` is made of names, which can come to be somebody else's"),
            format!("name the claim `{instead}` too, which is never given away"),
        )
    })
}

/// `contoso@1234567`: a name beside its id.
fn with_id(part: &str) -> bool {
    part.rsplit_once('@').is_some_and(|(_, id)| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
}

/// The values of `sub`, however they are named.
fn subjects(description: &Description) -> impl Iterator<Item = &str> {
    let claimed = description.texts().filter(|(key, _)| *key == "sub").map(|(_, text)| text);
    description.subject.as_deref().into_iter().chain(claimed)
}
