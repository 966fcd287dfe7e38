//! The groups of callers whose tokens say that they carry too few of them: asked of Microsoft
//! Graph, by object id and at Graph's own address, never at one that a token names.
//!
//! Only the groups that policies name are asked about. A caller of whom Graph says nothing has
//! groups that are not to be known: `deny` and `require` entries count them, `allow` entries do not,
//! and the answer names the reason. Documents: "directoryObject: checkMemberGroups",
//! "directoryObject: getMemberObjects".

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::{
    CredentialError, Credentials, ServicePurpose,
    error::retry_after,
    readings::{Ages, Readings},
};
use crate::{
    identity::{AskedGroups, Caller, GroupNames, Groups, Principal},
    net::{Destination, Trust},
    time::SharedClock,
};

/// So many groups go into one question.
const AT_ONCE: usize = 20;
/// About more groups than these all of the caller's are asked for: one question instead of many.
const MANY: usize = 100;
/// More groups than these nobody has (Entra's own bound is 11,000 for this question).
const MAX_GROUPS: usize = 12_000;
const MEND: &str = "grant the gate's identity the application permissions `GroupMember.Read.All` and `User.ReadBasic.All` of Microsoft Graph";

/// How the groups of one issuer's callers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSource {
    /// The issuer's name.
    pub issuer: Arc<str>,
    /// The credential that asks, of the issuer's tenant.
    pub credential: Arc<str>,
    /// Connect here instead of resolving Graph's name.
    pub address: Option<SocketAddr>,
    /// Roots; the system's if none.
    pub trust: Option<Trust>,
}

/// Who, and about which groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Which {
    issuer: Arc<str>,
    kind: Kind,
    object: Arc<str>,
    about: Arc<[Box<str>]>,
}

/// What the object is in Entra.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    User,
    ServicePrincipal,
}

impl Kind {
    const fn path(self) -> &'static str {
        match self {
            Self::User => "users",
            Self::ServicePrincipal => "servicePrincipals",
        }
    }
}

/// The groups of callers, as Microsoft Graph says. Cheap to clone.
#[derive(Clone)]
pub struct LiveGroups {
    credentials: Credentials,
    sources: Arc<[GroupSource]>,
    readings: Readings<Which, Box<[Box<str>]>>,
}

impl fmt::Debug for LiveGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveGroups({:?})", self.readings)
    }
}

impl LiveGroups {
    /// Asks for the callers of `sources`' issuers; a reading is `fresh` so long, and stands in for so
    /// long where Graph does not answer.
    #[must_use]
    pub fn new(
        credentials: Credentials,
        sources: Vec<GroupSource>,
        (fresh, stale): (Duration, Duration),
        clock: SharedClock,
    ) -> Self {
        let readings = Readings::new("groups", Ages { fresh, stale }, clock);
        Self { credentials, sources: sources.into(), readings }
    }

    /// The same under other settings. What another credential or another Graph said is not kept.
    #[must_use]
    pub fn through(
        &self,
        sources: Vec<GroupSource>,
        (fresh, stale): (Duration, Duration),
        clock: SharedClock,
    ) -> Self {
        if *self.sources == *sources {
            return Self { readings: self.readings.aged(Ages { fresh, stale }), ..self.clone() };
        }
        Self::new(self.credentials.clone(), sources, (fresh, stale), clock)
    }

    /// The caller with what Graph says of the groups `about`; as it was, if nobody can be asked.
    pub async fn of(&self, principal: Principal, about: Arc<[Box<str>]>) -> Principal {
        let Some((source, which)) = self.question(&principal, about) else { return principal };
        let read = self.readings.get(which.clone(), self.read(source, &which)).await;
        told(&principal, which.about, read)
    }

    /// The caller with what Graph said last of the same groups, without asking: for streams that are
    /// judged again. `None` for a caller of whom nothing was asked.
    #[must_use]
    pub fn again(&self, principal: &Principal) -> Option<Principal> {
        let about = match &principal.groups {
            Groups::Asked(asked) => Arc::clone(asked.about()),
            Groups::Known(_) | Groups::Overage => return None,
        };
        let Some((_, which)) = self.question(principal, about) else {
            let why = Err("the issuer's groups are no longer asked for".into());
            return Some(told(principal, Arc::default(), why));
        };
        let read = self.readings.last(&which);
        Some(told(principal, which.about, read))
    }

    /// Waits a while, then renews what was used lately: to be repeated on the control runtime.
    pub async fn renew_soon(&self) {
        self.readings.wait().await;
        for (which, before) in self.readings.due() {
            if let Some(source) = self.source(&which.issuer) {
                self.readings.renew(&which, before, self.read(source, &which)).await;
            }
        }
    }

    fn source(&self, issuer: &str) -> Option<&GroupSource> {
        self.sources.iter().find(|source| *source.issuer == *issuer)
    }

    /// Microsoft Graph of the cloud that the gate is in front of.
    fn graph(&self, source: &GroupSource) -> Result<Destination, CredentialError> {
        let host = self.credentials.cloud().graph.strip_prefix("https://");
        let host = host.ok_or_else(|| CredentialError::local("`cloud.graph` is no https URL", MEND))?;
        Ok(Destination::https(host, 443).at(source.address).trusting(source.trust.clone()))
    }

    /// Whom to ask, and what.
    fn question(&self, caller: &Caller, about: Arc<[Box<str>]>) -> Option<(&GroupSource, Which)> {
        let source = self.source(&caller.id.issuer)?;
        // Only Entra's callers have a tenant, and are an object of it.
        let tenant = caller.tenant.as_deref()?;
        let object = caller.id.subject.strip_prefix(tenant)?.strip_prefix('/')?;
        uuid::Uuid::try_parse(object).ok()?;
        let kind = if caller.kind.has_human() { Kind::User } else { Kind::ServicePrincipal };
        let issuer = Arc::clone(&source.issuer);
        Some((source, Which { issuer, kind, object: object.into(), about }))
    }

    /// Those of the groups that the object is a member of, however deep.
    async fn read(&self, source: &GroupSource, which: &Which) -> Result<Box<[Box<str>]>, CredentialError> {
        // What is no object id is nobody's group in Entra.
        let ids: Vec<&str> = which
            .about
            .iter()
            .map(|group| &**group)
            .filter(|group| uuid::Uuid::try_parse(group).is_ok())
            .collect();
        let mut found: Vec<Box<str>> = Vec::new();
        if ids.len() > MANY {
            let all = self.ask(source, which, "getMemberObjects", json!({"securityEnabledOnly": false}));
            found.extend(all.await?);
        } else {
            for some in ids.chunks(AT_ONCE) {
                let these = self.ask(source, which, "checkMemberGroups", json!({"groupIds": some}));
                found.extend(these.await?);
            }
        }
        // In the letters of the policies, which the token's own would have to match.
        let is_member = |group: &str| found.iter().any(|id| id.eq_ignore_ascii_case(group));
        Ok(which.about.iter().filter(|group| is_member(group)).cloned().collect())
    }

    async fn ask(
        &self,
        source: &GroupSource,
        which: &Which,
        question: &str,
        body: serde_json::Value,
    ) -> Result<Vec<Box<str>>, CredentialError> {
        let token = self.credentials.service(ServicePurpose::Groups, &source.credential).await?;
        let path = format!("/v1.0/{}/{}/{question}", which.kind.path(), which.object);
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::from(body.to_string()))
            .map_err(|_| CredentialError::local("no path", MEND))?;
        let graph = self.graph(source)?;
        let answer = self.credentials.call(&token, &graph, request).await?;
        let status = answer.status();
        if status.is_success() {
            return read(answer.body());
        }
        let what = format!("Microsoft Graph answered {status} when it was asked for the caller's groups");
        Err(if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            CredentialError::Passing { what, retry_after: retry_after(answer.headers()) }
        } else if status == StatusCode::NOT_FOUND {
            CredentialError::local("Microsoft Graph knows no such caller", "check the issuer's tenant")
        } else {
            CredentialError::Fatal { code: status.as_str().to_owned(), what, mend: MEND }
        })
    }
}

fn told(principal: &Principal, about: Arc<[Box<str>]>, read: GroupNames) -> Principal {
    principal.with_groups_asked(Arc::new(AskedGroups::new(about, read)))
}

/// `{"value": [ids]}`, whole: an answer that says that it goes on is none.
fn read(answer: &[u8]) -> Result<Vec<Box<str>>, CredentialError> {
    #[derive(Deserialize)]
    struct Answer {
        value: Vec<Box<str>>,
        #[serde(rename = "@odata.nextLink")]
        next: Option<String>,
    }
    let odd =
        |what: &str| CredentialError::passing(format!("Microsoft Graph's answer cannot be used: {what}"));
    let Answer { value, next } = serde_json::from_slice(answer).map_err(|_| odd("it is no list of ids"))?;
    if next.is_some() || value.len() > MAX_GROUPS {
        return Err(odd("it is not the whole list"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_list_of_ids_is_taken() {
        assert_eq!(read(br#"{"value":["a","b"]}"#).unwrap(), ["a".into(), "b".into()]);
        assert_eq!(read(br#"{"@odata.context":"x","value":[]}"#).unwrap(), [] as [Box<str>; 0]);
        for wrong in [
            r#"{"value":["a"],"@odata.nextLink":"https://graph.microsoft.com/next"}"#,
            r#"{"value":[1]}"#,
            r#"{"value":null}"#,
            "{}",
            "[]",
            "",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
