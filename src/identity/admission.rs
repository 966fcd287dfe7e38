//! Which issuers are admitted: settings that would let the wrong people in are refused, all at once.

use http::Uri;

use super::{
    CertificateName, CertificateSettings,
    certificate::is_trust_domain,
    settings::{Accept, IssuerKind, IssuerSettings, KeysAt, MAX_LEEWAY, Plugins},
};
use crate::cloud;

/// What is wrong with the settings of an issuer, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// Which issuer, by its place in the list from 0.
    pub issuer: usize,
    /// Which key, as in the configuration: `entra.tenant`, `oidc.audiences`, `accept`.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: String,
}

/// An issuer from which anybody can get a token, and the claims that tell whose token it is.
struct Open {
    host: &'static str,
    operator: &'static str,
    confining: &'static [&'static str],
}

const OPEN: &[Open] = &[
    Open {
        host: "token.actions.githubusercontent.com",
        operator: "GitHub Actions",
        confining: &[
            "repository_owner_id",
            "repository_id",
            "enterprise_id",
            "repository_owner",
            "repository",
            "enterprise",
            "sub",
        ],
    },
    Open {
        host: "gitlab.com",
        operator: "GitLab.com",
        confining: &["namespace_id", "project_id", "namespace_path", "project_path", "sub"],
    },
    Open { host: "accounts.google.com", operator: "Google", confining: &["hd", "sub"] },
    Open { host: "appleid.apple.com", operator: "Apple", confining: &["sub"] },
    Open {
        host: "agent.buildkite.com",
        operator: "Buildkite",
        confining: &["organization_id", "organization_slug", "pipeline_id", "sub"],
    },
    Open {
        host: "app.terraform.io",
        operator: "HCP Terraform",
        confining: &["terraform_organization_id", "terraform_workspace_id", "sub"],
    },
    Open { host: "oauth2.sigstore.dev", operator: "Sigstore", confining: &["sub"] },
];

/// The tenant of personal Microsoft accounts.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// The application ids of Azure's own services, in every cloud. Such a token was given out for Azure,
/// and whoever receives it could use it at the gate, and the gate at Azure.
const FOREIGN: &[&str] = &[
    "797f4846-ba00-4fd7-ba43-dac1f8f63013",
    "00000003-0000-0000-c000-000000000000",
    "00000002-0000-0000-c000-000000000000",
    "0736f41a-0425-4b46-bdb5-1563eff02385",
    "cfa8b339-82a2-471a-a3c9-0fc0be7a4093",
    "e406a681-f3d4-42a8-90b6-c2b029497af1",
];

/// Who operates the issuer, if anybody can get a token from it, so that [`Accept`] is mandatory.
#[must_use]
pub fn open_to_anybody(issuer: &IssuerSettings) -> Option<&'static str> {
    open(issuer).map(|open| open.operator)
}

fn open(settings: &IssuerSettings) -> Option<&'static Open> {
    match &settings.kind {
        IssuerKind::Oidc { issuer, .. } => {
            let host = host_of(issuer)?;
            OPEN.iter().find(|open| open.host == host)
        }
        IssuerKind::Entra { .. } | IssuerKind::Backstage { .. } | IssuerKind::Certificate(_) => None,
    }
}

fn host_of(issuer: &str) -> Option<String> {
    let uri: Uri = issuer.parse().ok()?;
    Some(uri.host()?.trim_end_matches('.').to_ascii_lowercase())
}

/// Everything that is wrong with a list of issuers; an empty answer admits it.
#[must_use]
pub fn problems(issuers: &[IssuerSettings]) -> Vec<SettingsProblem> {
    let mut found = Vec::new();
    for (place, settings) in issuers.iter().enumerate() {
        let mut say = |key, message: String, hint: &str| {
            found.push(SettingsProblem { issuer: place, key, message, hint: hint.to_owned() });
        };
        name(settings, &mut say);
        match &settings.kind {
            IssuerKind::Entra { tenant, authority, .. } => entra(tenant, authority, settings, &mut say),
            IssuerKind::Backstage { url, plugins } => backstage(url, plugins, &mut say),
            IssuerKind::Certificate(found) => certificate(found, &mut say),
            IssuerKind::Oidc { issuer, keys } => oidc(issuer, keys, settings, &mut say),
        }
        if !matches!(settings.kind, IssuerKind::Certificate(_)) {
            bounds(settings, &mut say);
        }
        accept(settings, &mut say);
        let earlier = issuers.get(..place).unwrap_or_default();
        if earlier.iter().any(|other| other.name == settings.name) {
            say(
                "name",
                format!("another issuer is called `{}`", settings.name),
                "give each issuer its own name",
            );
        }
        let forms = settings.forms();
        // Their tokens do not say which portal they are of.
        let twice = |id: &Option<Box<str>>| {
            id.is_some() && earlier.iter().any(|o| o.forms().iter().any(|f| f.plugin == *id))
        };
        if let Some(form) = forms.iter().find(|form| twice(&form.plugin)) {
            say(
                "backstage.plugins",
                format!("plugin `{}` is named by two portals", form.plugin.as_deref().unwrap_or_default()),
                "give the plugin another id in one of them",
            );
        }
        if let Some(other) =
            earlier.iter().find(|o| o.forms().iter().any(|f| forms.iter().any(|g| f.iss == g.iss)))
        {
            say(
                "name",
                format!("`{}` and `{}` are the same issuer", other.name, settings.name),
                "one entry per issuer: put its audiences into one list",
            );
        }
    }
    found
}

type Say<'a> = &'a mut dyn FnMut(&'static str, String, &str);

fn name(settings: &IssuerSettings, say: Say<'_>) {
    let name = &settings.name;
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(letters) {
        say("name", format!("`{name}` is not a name"), "write 1 to 64 letters, digits, `-`, `_`, `.`");
    }
}

fn entra(tenant: &str, authority: &Uri, settings: &IssuerSettings, say: Say<'_>) {
    if tenant.eq_ignore_ascii_case(CONSUMERS) {
        say(
            "entra.tenant",
            "this is the tenant of personal Microsoft accounts, from which anybody can get a token"
                .to_owned(),
            "write your organisation's tenant id; invite personal accounts as its guests",
        );
    } else if uuid::Uuid::try_parse(tenant).is_ok_and(|id| id.hyphenated().to_string() == tenant) {
    } else if ["common", "organizations", "consumers"].contains(&tenant) {
        say(
            "entra.tenant",
            format!("`{tenant}` stands for every tenant in the world"),
            "write the tenant's id, a GUID; one issuer for each tenant",
        );
    } else {
        say(
            "entra.tenant",
            format!("`{tenant}` is not a tenant id"),
            "write the tenant's GUID in lower case, as `az account show --query tenantId` prints it",
        );
    }
    base(authority, "entra.authority", say);
    if !matches!(authority.path(), "" | "/") || authority.query().is_some() {
        say("entra.authority", format!("`{authority}` is more than a host"), "write `https://host`");
    }
    audiences(settings, "entra.audiences", say);
    for audience in &settings.audiences {
        let bare = audience.trim_end_matches('/');
        if cloud::is_audience(bare) || FOREIGN.iter().any(|foreign| foreign.eq_ignore_ascii_case(bare)) {
            say(
                "entra.audiences",
                format!("`{audience}` is the audience of tokens for Azure itself"),
                "register an application for the gate, and write its application id or its `api://` URI",
            );
        }
    }
}

fn backstage(url: &Uri, plugins: &Plugins, say: Say<'_>) {
    // What Backstage itself takes for a plugin's id; it becomes a part of a URL.
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let named = plugins.ids.iter().map(|id| ("backstage.plugins", id));
    for (key, id) in named.chain([("backstage.audience", &plugins.audience)]) {
        if id.is_empty() || id.len() > 64 || !id.bytes().all(letters) {
            say(key, format!("`{id}` is no plugin's id"), "write small letters, digits, `-` and `_`");
        }
    }
    if url.scheme().is_none() || url.host().is_none() {
        say(
            "backstage.url",
            format!("`{url}` is not a URL"),
            "write the portal's `backend.baseUrl`, as in `https://backstage.example.com`",
        );
        return;
    }
    base(url, "backstage.url", say);
    if url.query().is_some() {
        say("backstage.url", format!("`{url}` has a query"), "write the portal's `backend.baseUrl`");
    }
}

fn certificate(found: &CertificateSettings, say: Say<'_>) {
    if let CertificateName::Spiffe { trust_domain } = &found.name
        && !is_trust_domain(trust_domain)
    {
        say(
            "certificate.spiffe.trust_domain",
            format!("`{trust_domain}` is not a trust domain"),
            "write what stands between `spiffe://` and the first `/`, in lower case",
        );
    }
}

fn oidc(issuer: &str, keys: &KeysAt, settings: &IssuerSettings, say: Say<'_>) {
    match issuer.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() && uri.host().is_some() => {
            base(&uri, "oidc.issuer", say);
            if uri.query().is_some() || issuer.contains('#') {
                say(
                    "oidc.issuer",
                    format!("`{issuer}` has a query or fragment"),
                    "write exactly what `iss` says in its tokens",
                );
            }
            // As `entra` the tenant is checked, and the person is (`tid`, `oid`).
            if host_of(issuer).is_some_and(|host| cloud::issues_tokens(&host)) {
                say(
                    "oidc.issuer",
                    format!("`{issuer}` is an Entra tenant"),
                    "write `entra: {tenant: ..., audiences: [...]}`: it checks the tenant, and takes its v1 and v2 tokens",
                );
            }
        }
        Ok(_) | Err(_) => say(
            "oidc.issuer",
            format!("`{issuer}` is not a URL"),
            "write exactly what `iss` says in its tokens, as in `https://issuer.example.com`",
        ),
    }
    match keys {
        KeysAt::Discovery(uri) => base(uri, "oidc.discovery_url", say),
        KeysAt::Jwks(uri) => base(uri, "oidc.jwks_uri", say),
    }
    audiences(settings, "oidc.audiences", say);
}

/// Documents that decide who may sign come over TLS, or from this machine.
fn base(uri: &Uri, key: &'static str, say: Say<'_>) {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if local => {}
        _ => say(
            key,
            format!("`{uri}` is not https"),
            "write an `https://` URL; `http://` is for loopback only",
        ),
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        say(key, format!("`{uri}` names a user"), "write the URL without a user or password");
    }
}

fn audiences(settings: &IssuerSettings, key: &'static str, say: Say<'_>) {
    if settings.audiences.is_empty() {
        say(
            key,
            "there are no audiences".to_owned(),
            "write the audience that the gate's tokens are issued for",
        );
    }
    if settings.audiences.iter().any(|audience| audience.trim().is_empty()) {
        say(
            key,
            "an audience is empty".to_owned(),
            "write the audience that the gate's tokens are issued for",
        );
    }
}

fn bounds(settings: &IssuerSettings, say: Say<'_>) {
    if settings.algorithms.is_empty() {
        say("algorithms", "there are no algorithms".to_owned(), "leave the key out for the defaults");
    }
    if settings.leeway > MAX_LEEWAY {
        say(
            "leeway",
            format!("a leeway of {} s is too long", settings.leeway.as_secs()),
            "at most 60s; set the clocks",
        );
    }
    if settings.groups_claim.is_empty() {
        say(
            "oidc.groups_claim",
            "the name of the claim is empty".to_owned(),
            "leave the key out for `groups`",
        );
    }
}

fn accept(settings: &IssuerSettings, say: Say<'_>) {
    let Some(open) = open(settings) else { return };
    let confining = open.confining.join("`, `");
    let held = |accept: &Accept| open.confining.iter().any(|claim| accept.claims.contains_key(*claim));
    let hint = format!("write `accept: {{claims: {{...}}}}` with one of `{confining}`");
    match &settings.accept {
        None => say("accept", format!("anybody can get a token from {}", open.operator), &hint),
        Some(accept) if !held(accept) => say(
            "accept",
            format!("anybody can get a token from {} that holds these claims", open.operator),
            &hint,
        ),
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TENANT: &str = "aaaaaaaa-0000-4000-8000-000000000001";

    fn said(issuers: &[IssuerSettings]) -> Vec<String> {
        problems(issuers).into_iter().map(|p| format!("{}: {} ({})", p.key, p.message, p.hint)).collect()
    }

    fn oidc(issuer: &str) -> IssuerSettings {
        IssuerSettings::oidc("x", issuer, &["amlgate"]).unwrap()
    }

    fn accepting(mut settings: IssuerSettings, claims: Value) -> IssuerSettings {
        settings.accept = Some(Accept { claims: claims.as_object().unwrap().clone().into_iter().collect() });
        settings
    }

    #[test]
    fn good_issuers_are_admitted() {
        let github =
            IssuerSettings::oidc("github", "https://token.actions.githubusercontent.com", &["amlgate"])
                .unwrap();
        let issuers = [
            IssuerSettings::entra("corp", TENANT, &["api://amlgate"]),
            accepting(github, json!({"repository_owner_id": "1234567"})),
            oidc("http://127.0.0.1:9000"),
        ];
        assert_eq!(said(&issuers), Vec::<String>::new());
    }

    #[test]
    fn accept_is_demanded_where_anybody_can_get_a_token() {
        for (issuer, operator) in [
            ("https://token.actions.githubusercontent.com", "GitHub Actions"),
            ("https://token.actions.githubusercontent.com/octo-enterprise", "GitHub Actions"),
            ("https://TOKEN.actions.githubusercontent.com./", "GitHub Actions"),
            ("https://gitlab.com", "GitLab.com"),
            ("https://accounts.google.com", "Google"),
        ] {
            let settings = oidc(issuer);
            assert_eq!(open_to_anybody(&settings), Some(operator));
            for refused in [
                settings.clone(),
                accepting(settings.clone(), json!({})),
                accepting(settings, json!({"event_name": "push"})),
            ] {
                let said = said(&[refused]).join("\n");
                assert!(said.contains(&format!("accept: anybody can get a token from {operator}")), "{said}");
            }
        }
        for issuer in
            ["https://gitlab.example.com", "https://keycloak.example.com/realms/a", "https://notgitlab.com"]
        {
            assert_eq!(open_to_anybody(&oidc(issuer)), None);
        }
    }

    #[test]
    fn tenants_that_are_not_one_tenant_are_refused() {
        for tenant in ["common", "organizations", "consumers", "contoso.onmicrosoft.com", "", CONSUMERS] {
            let said = said(&[IssuerSettings::entra("corp", tenant, &["api://amlgate"])]);
            assert!(said.iter().any(|s| s.starts_with("entra.tenant")), "{tenant}: {said:?}");
        }
        for issuer in ["https://login.microsoftonline.com/common/v2.0", "https://sts.windows.net/x/"] {
            assert!(said(&[oidc(issuer)]).join("").contains("is an Entra tenant"));
        }
    }

    #[test]
    fn tokens_for_azure_itself_are_not_for_the_gate() {
        for audience in
            ["https://management.azure.com/", "https://graph.microsoft.com", "https://ml.azure.com"]
        {
            let said = said(&[IssuerSettings::entra("corp", TENANT, &[audience])]).join("");
            assert!(said.contains("tokens for Azure itself"), "{said}");
        }
    }

    #[test]
    fn plaintext_users_and_nonsense_are_refused() {
        for (issuer, why) in [
            ("http://issuer.example.com", "is not https"),
            ("https://u:p@issuer.example.com", "names a user"),
            ("https://issuer.example.com?x=1", "query"),
        ] {
            let said = said(&[oidc(issuer)]).join("");
            assert!(said.contains(why), "{issuer}: {said}");
        }
        assert!(IssuerSettings::oidc("x", "issuer", &["amlgate"]).is_err());
        assert!(said(&[oidc("/issuer")]).join("").contains("is not a URL"));
    }

    #[test]
    fn leeway_is_bounded_and_lists_are_not_empty() {
        let mut settings = IssuerSettings::entra("a b", TENANT, &[]);
        settings.leeway = MAX_LEEWAY + std::time::Duration::from_secs(1);
        settings.algorithms.clear();
        let said = said(&[settings]);
        let keys: Vec<_> = said.iter().map(|s| s.split(':').next().unwrap()).collect();
        assert_eq!(keys, ["name", "entra.audiences", "algorithms", "leeway"]);
    }

    #[test]
    fn two_entries_for_one_issuer_are_refused() {
        let (mut a, mut b) = (oidc("https://a.example"), oidc("https://a.example"));
        (a.name, b.name) = ("a".into(), "b".into());
        assert!(said(&[a.clone(), b]).join("").contains("are the same issuer"));
        assert!(said(&[a.clone(), a]).join("").contains("another issuer is called `a`"));
    }
}
