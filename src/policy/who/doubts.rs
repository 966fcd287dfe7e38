//! What is doubtful in a description of callers: claims that somebody else can come to hold.
//!
//! Names are given away and taken again, addresses change hands, and whoever may push to a branch
//! chooses what a job there says. Nothing of this is an error, because an issuer may be such that
//! the name is fixed; `validate` says it.

use serde_json::Value;

use super::{Description, Expected};

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

/// Claims that narrow a repository's jobs to some of its branches.
const NARROWING: &[&str] =
    &["ref", "ref_protected", "environment", "job_workflow_ref", "workflow_ref", "event_name", "ref_type"];

/// What may be doubted, each with its mend.
pub(in crate::policy) fn doubts(description: &Description) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let names = |name: &str| description.claims.iter().any(|(held, _)| &**held == name);
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
    for (key, text) in texts(description) {
        if text.contains('*') {
            found.push((
                format!("`*` in `{key}` stands for itself: values match exactly"),
                "list the values, or match a claim that all of them share".to_owned(),
            ));
        }
    }
    found.extend(branches(description));
    found
}

/// A job of a repository that may be on any branch, or on a tag with the name of one.
fn branches(description: &Description) -> Option<(String, String)> {
    let names = |name: &str| description.claims.iter().any(|(held, _)| &**held == name);
    let github = ["repository", "repository_id"].into_iter().any(names);
    let gitlab = ["project_path", "project_id"].into_iter().any(names);
    if !github && !gitlab || description.subject.is_some() || names("sub") {
        return None;
    }
    if !NARROWING.iter().any(|name| names(name)) {
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
    let claimed = texts(description).filter(|(key, _)| *key == "sub").map(|(_, text)| text);
    description.subject.as_deref().into_iter().chain(claimed)
}

/// Every text that a value must equal, with its key.
fn texts(description: &Description) -> impl Iterator<Item = (&str, &str)> {
    let own = [
        ("subject", &description.subject),
        ("group", &description.group),
        ("client", &description.client),
        ("tenant", &description.tenant),
    ];
    let own = own.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?)));
    let claims = description.claims.iter().flat_map(|(name, expected)| {
        let values: &[Value] = match expected {
            Expected::AnyOf(values) => values,
            Expected::Members(_) => &[],
        };
        values.iter().filter_map(|value| Some((&**name, value.as_str()?)))
    });
    own.chain(claims)
}
