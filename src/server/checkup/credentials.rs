//! What the gate's credentials are worth: whether each brings a token, whom it speaks for, how old
//! its secret is, and whether Azure lets it do what the policies let callers do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use http::Request;
use x509_parser::pem::Pem;

use super::{super::build, Finding, causes};
use crate::{
    azureml::{self, Audience, Protocol, ResourceId},
    config::{
        Settings,
        settings::{self, Credential, EndpointAuth},
    },
    credentials::{ActsFor, CallerToken, CredentialError, Credentials, Holder, ServicePurpose},
    identity::Caller,
    net::Destination,
    policy::{PolicySet, roles::Role},
    server::secrets::{Age, Secrets},
    time::{SharedClock, Timestamp},
};

/// Secrets that end within so many days should be exchanged.
pub(super) const SOON: u64 = 30;
/// A secret that is older and has no end that is known should be exchanged.
const OLD: u64 = 365;
/// The right without which Azure Resource Manager shows nothing of a workspace.
const READ: &str = "Microsoft.MachineLearningServices/workspaces/read";
const API_VERSION: &str = "2022-04-01";
/// At most so many scopes are asked about.
const SCOPES: usize = 20;

/// Tries one credential, for each audience that its routes need; also gives the object that roles are
/// assigned to.
pub(super) async fn one(
    found: &Credential,
    settings: &Settings,
    credentials: &Credentials,
    secrets: &Secrets,
    clock: &SharedClock,
) -> (Finding, Option<String>) {
    let part = format!("credential {}", found.name);
    let mut holder = Holder::default();
    let audiences = audiences(found, settings);
    for audience in &audiences {
        match credentials.probe(&found.name, *audience).await {
            Ok(had) => holder = had,
            Err(error) => return (failed(part, *audience, &error), None),
        }
    }
    let whose = if found.acts_for == ActsFor::Caller { "its own proof is taken: " } else { "" };
    let had = audiences.iter().map(|audience| called(*audience)).collect::<Vec<_>>().join(" and ");
    let seen = format!("{whose}a token for {had} was had{}", spoken_for(&holder));
    let Some(reference) = found.proof.secret() else { return (Finding::fine(part, seen), holder.object) };
    let mut age = secrets.age(reference);
    if let settings::Proof::Certificate { certificate, .. } = &found.proof {
        let (since, until) = validity(certificate);
        (age.since, age.until) = (since.or(age.since), until.or(age.until));
        age.place = format!("`{}`", certificate.display());
    }
    (aged(part, seen, &age, clock.now()), holder.object)
}

/// What tokens of a credential are needed for: Resource Manager always, and what its routes speak, and
/// Graph where it asks for groups.
fn audiences(found: &Credential, settings: &Settings) -> Vec<Audience> {
    let mut needed = vec![Audience::Arm];
    for route in &settings.routes {
        if !route.credential.iter().flat_map(|choice| choice.names()).any(|name| *name == found.name) {
            continue;
        }
        let audience = match (route.protocol, route.auth) {
            (Protocol::Inference, EndpointAuth::Entra) => Audience::MachineLearning,
            (Protocol::KeyVault, _) => Audience::KeyVault,
            (Protocol::Kubernetes, _) => Audience::Kubernetes,
            // Endpoints with keys, and storage behind signed URLs, take none of it.
            (Protocol::Inference, EndpointAuth::Key)
            | (Protocol::Arm | Protocol::Azureml | Protocol::Storage | Protocol::Http, _) => continue,
        };
        if !needed.contains(&audience) {
            needed.push(audience);
        }
    }
    if settings.groups.iter().any(|source| source.credential == found.name) {
        needed.push(Audience::Graph);
    }
    needed
}

const fn called(audience: Audience) -> &'static str {
    match audience {
        Audience::Arm => "Resource Manager",
        Audience::MachineLearning => "Azure Machine Learning",
        Audience::KeyVault => "Key Vault",
        Audience::Graph => "Microsoft Graph",
        Audience::Storage => "storage",
        Audience::Monitor => "Azure Monitor",
        Audience::Kubernetes => "Kubernetes",
        Audience::None => "nothing",
    }
}

fn failed(part: String, audience: Audience, error: &CredentialError) -> Finding {
    let of = called(audience);
    match error {
        CredentialError::Fatal { code, what, mend } => {
            Finding::broken(part, format!("no token for {of} is to be had: {what} ({code})"), *mend)
        }
        CredentialError::NotAPerson { why, cure } => {
            Finding::broken(part, format!("it cannot act for you: {why}"), *cure)
        }
        CredentialError::SignInWanted { code, what, .. } => Finding::doubtful(
            part,
            format!("Entra wants another sign-in before it gives a token for {of}: {what} ({code})"),
            "sign in again: `amlgate login`; the gate hands the challenge on to clients",
        ),
        CredentialError::CallerTokenOver(what) => Finding::broken(
            part,
            format!("your token is not taken: {what}"),
            "sign in again: `amlgate login`",
        ),
        CredentialError::Passing { .. } | CredentialError::Unknown(_) => {
            let mend = "try again; check the login host and the way out";
            Finding::unreachable(part, error.to_string(), mend)
        }
    }
}

/// What a credential that acts for callers brings for somebody who is there: which consent is missing,
/// and what Azure sees.
pub(super) async fn on_behalf(
    found: &Credential,
    settings: &Settings,
    credentials: &Credentials,
    (caller, token): (&Caller, &CallerToken),
) -> Vec<Finding> {
    const DELEGATED: &str = "user_impersonation";
    let mut said = Vec::new();
    for audience in audiences(found, settings) {
        let part = format!("credential {} for you", found.name);
        let of = called(audience);
        said.push(match credentials.probe_for(&found.name, audience, caller, token).await {
            Err(error) => failed(part, audience, &error),
            Ok(holder) => {
                let seen = format!("a token for {of} was had{}", spoken_for(&holder));
                let scopes = holder.scopes.as_deref().unwrap_or_default();
                if scopes.split(' ').any(|scope| scope == DELEGATED) {
                    Finding::fine(part, seen)
                } else {
                    let mend = "grant the application the delegated permission `user_impersonation`, with an administrator's consent: `az ad app permission admin-consent --id CLIENT_ID`";
                    Finding::doubtful(part, format!("{seen}, without the scope `{DELEGATED}`"), mend)
                }
            }
        });
    }
    said
}

fn spoken_for(holder: &Holder) -> String {
    let mut said = String::new();
    for (word, value) in
        [("application", &holder.client), ("object", &holder.object), ("tenant", &holder.tenant)]
    {
        if let Some(value) = value {
            said.push_str(&format!("{} {word} {value}", if said.is_empty() { ": as" } else { "," }));
        }
    }
    if !holder.roles.is_empty() {
        said.push_str(&format!(", roles {}", holder.roles.join(" ")));
    }
    if let Some(scopes) = &holder.scopes {
        said.push_str(&format!(", scopes {scopes}"));
    }
    said
}

/// From when to when a certificate holds; nothing if it cannot be read.
pub(super) fn validity(path: &std::path::Path) -> (Option<Timestamp>, Option<Timestamp>) {
    let Ok(text) = std::fs::read(path) else { return (None, None) };
    let Some(Ok(pem)) = Pem::iter_from_buffer(&text).next() else { return (None, None) };
    let Ok(certificate) = pem.parse_x509() else { return (None, None) };
    let at =
        |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).ok().map(Timestamp::from_secs);
    (at(certificate.validity().not_before), at(certificate.validity().not_after))
}

fn aged(part: String, seen: String, age: &Age, now: Timestamp) -> Finding {
    let days = |later: Timestamp, earlier: Timestamp| later.since(earlier).as_secs() / 86_400;
    let place = &age.place;
    let since = age.since.map(|since| format!(", {} days old", days(now, since))).unwrap_or_default();
    let old = age.since.is_some_and(|since| days(now, since) > OLD);
    let mend = "put a new one in its place: the gate takes it up while it runs";
    match age.until {
        Some(until) if until <= now => {
            let ended = days(now, until);
            Finding::doubtful(
                part,
                format!("{seen}; its secret in {place} ended {ended} days ago{since}"),
                mend,
            )
        }
        Some(until) if days(until, now) < SOON => {
            let left = days(until, now);
            Finding::doubtful(part, format!("{seen}; its secret in {place} ends in {left} days{since}"), mend)
        }
        Some(until) => {
            let left = days(until, now);
            Finding::fine(part, format!("{seen}; its secret in {place} ends in {left} days{since}"))
        }
        None if old => Finding::doubtful(part, format!("{seen}; its secret lies in {place}{since}"), mend),
        None => Finding::fine(part, format!("{seen}; its secret lies in {place}{since}")),
    }
}

/// Whether Azure lets the gate do what its policies let callers do, scope by scope. `objects` are
/// those of the credentials that brought a token.
pub(super) async fn rights(
    settings: &Settings,
    credentials: &Credentials,
    objects: &BTreeMap<Arc<str>, String>,
) -> Vec<Finding> {
    let Some(route) = settings.routes.iter().find(|route| route.protocol == Protocol::Arm) else {
        return Vec::new();
    };
    // What is wrong with these was said where they were tried.
    let (Ok(to), Ok((policies, _))) =
        (build::upstream(route), PolicySet::load(&settings.policies, &settings.surroundings()))
    else {
        return Vec::new();
    };
    let used: BTreeSet<_> = route.credential.iter().flat_map(|choice| choice.names().cloned()).collect();
    let holders: Vec<_> = objects.iter().filter(|(name, _)| used.contains(*name)).collect();
    if holders.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let scopes = policies.allowed_scopes();
    for scope in scopes.iter().take(SCOPES) {
        found.push(at(scope, &policies, &holders, credentials, &to).await);
    }
    if let Some(left) = scopes.len().checked_sub(SCOPES).filter(|left| *left > 0) {
        let seen = format!("{left} further scopes were not asked about");
        found.push(Finding::fine("rights", seen));
    }
    found
}

async fn at(
    scope: &ResourceId,
    policies: &PolicySet,
    holders: &[(&Arc<str>, &String)],
    credentials: &Credentials,
    to: &Destination,
) -> Finding {
    let part = format!("rights at {scope}");
    let mut held = Vec::new();
    for (credential, _) in holders {
        match ask(scope, credential, credentials, to).await {
            Ok(role) => held.push(role),
            Err(why) => {
                let why = format!("what `{}` may do there cannot be read: {why}", credential);
                return Finding::doubtful(
                    part,
                    why,
                    "check the scope's id and the route to Resource Manager",
                );
            }
        }
    }
    let granted = |action: &str| held.iter().any(|role| role.grants(action));
    let who = holders.iter().map(|(_, object)| object.as_str()).collect::<Vec<_>>().join(" or ");
    let mend = format!(
        "give the gate's identity a role that holds them, for example `az role assignment create --assignee-object-id {who} --assignee-principal-type ServicePrincipal --role \"AzureML Data Scientist\" --scope {scope}`"
    );
    if policies.could_allow(READ, scope) && !granted(READ) {
        return Finding::broken(part, format!("Azure does not let the gate do `{READ}`"), mend);
    }
    let allowed: Vec<_> =
        azureml::action::all().into_iter().filter(|a| policies.could_allow(a.as_str(), scope)).collect();
    let lacking: Vec<_> = allowed.iter().filter(|action| !granted(action.as_str())).collect();
    match lacking.first() {
        None => {
            Finding::fine(part, format!("the gate may do all {} actions that entries allow", allowed.len()))
        }
        Some(first) => Finding::doubtful(
            part,
            format!(
                "entries allow {} actions that Azure does not let the gate do, `{}` for example",
                lacking.len(),
                first.as_str()
            ),
            mend,
        ),
    }
}

/// What a credential may do at a scope, by Azure's own word.
async fn ask(
    scope: &ResourceId,
    credential: &str,
    credentials: &Credentials,
    to: &Destination,
) -> Result<Role, String> {
    let path = format!(
        "{}/providers/Microsoft.Authorization/permissions?api-version={API_VERSION}",
        scope.as_str().trim_end_matches('/')
    );
    let request = Request::get(path).body(Bytes::new()).map_err(|_| "the scope is no path".to_owned())?;
    let token = credentials.service(ServicePurpose::Probe, credential).await.map_err(|e| causes(&e))?;
    let answer = credentials.call(&token, to, request).await.map_err(|e| causes(&e))?;
    if !answer.status().is_success() {
        return Err(format!("Azure answered {}", answer.status()));
    }
    Role::held(answer.body()).ok_or_else(|| "Azure's answer lists no permissions".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::checkup::Health;

    fn said(since: Option<u64>, until: Option<u64>) -> (bool, String) {
        let day = |n: u64| Timestamp::from_secs(n * 86_400);
        let age = Age { place: "`s`".into(), since: since.map(day), until: until.map(day) };
        match aged("credential gate".into(), "had".into(), &age, day(1_000)).state {
            Health::Fine { seen } => (true, seen),
            Health::Doubtful { seen, .. } => (false, seen),
            Health::Broken { why, .. } => panic!("{why}"),
        }
    }

    #[test]
    fn a_secret_that_ends_soon_or_has_no_end_and_is_old_is_pointed_out() {
        let fine = |since, until| said(since, until).0;
        assert!(fine(None, None) && fine(Some(990), None) && fine(Some(990), Some(1_200)));
        assert!(!fine(Some(990), Some(1_029)) && !fine(Some(1), None) && !fine(None, Some(999)));
        assert_eq!(said(Some(990), Some(1_010)).1, "had; its secret in `s` ends in 10 days, 10 days old");
    }
}
