//! Managed identities: the machine vouches for the gate. Five machines, each with its own endpoint.
//!
//! These endpoints are dialled by nobody else, at addresses from the environment or fixed ones, and
//! never through a proxy.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use secrecy::{ExposeSecret, SecretString};

use super::{
    CredentialError, CredentialSettings, Proof,
    entra::{Fetched, read_answer},
    error::retry_after,
};
use crate::{
    net::{Connector, Destination, FetchLimits, Trust},
    time::{Clock, Timestamp},
};

/// The metadata service of a virtual machine.
const IMDS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// How long the metadata service is given between tries; it starts later than the machine.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
    Duration::from_millis(6_400),
    Duration::from_millis(12_800),
];
/// After a 410 it is being updated, which takes up to 70 seconds.
const UPDATING: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20), Duration::from_secs(40)];
/// Azure Arc's secret is no larger.
const MAX_ARC_SECRET: u64 = 4_096;
const ARC_TOKENS: &str = "/var/opt/azcmagent/tokens";

/// Which machine this is.
#[derive(Debug, Clone)]
enum Machine {
    ServiceFabric { endpoint: Uri, secret: SecretString, thumbprint: String },
    AppService { endpoint: Uri, secret: SecretString },
    AmlCompute { endpoint: Uri, secret: SecretString },
    Arc { endpoint: Uri },
    Vm { endpoint: Uri, address: Option<SocketAddr> },
}

/// Looks at the environment in the order in which Microsoft's libraries do.
fn machine(
    endpoint: Option<&Uri>,
    variable: impl Fn(&str) -> Option<String>,
    arc_installed: bool,
) -> Result<Machine, CredentialError> {
    let uri = |text: String| {
        text.parse::<Uri>().map_err(|_| {
            CredentialError::local(format!("`{text}` is not a URL"), "check the machine's environment")
        })
    };
    let secret = |name: &str| variable(name).map(SecretString::from);
    if let Some(endpoint) = endpoint {
        return Ok(Machine::Vm { endpoint: endpoint.clone(), address: None });
    }
    Ok(
        match (
            variable("IDENTITY_ENDPOINT"),
            secret("IDENTITY_HEADER"),
            variable("MSI_ENDPOINT"),
            secret("MSI_SECRET"),
        ) {
            (Some(endpoint), Some(secret), ..) => match variable("IDENTITY_SERVER_THUMBPRINT") {
                Some(thumbprint) => Machine::ServiceFabric { endpoint: uri(endpoint)?, secret, thumbprint },
                None => Machine::AppService { endpoint: uri(endpoint)?, secret },
            },
            (_, _, Some(endpoint), Some(secret)) => Machine::AmlCompute { endpoint: uri(endpoint)?, secret },
            _ if variable("IMDS_ENDPOINT").is_some() || arc_installed => {
                let base = variable("IDENTITY_ENDPOINT")
                    .unwrap_or_else(|| "http://localhost:40342/metadata/identity/oauth2/token".to_owned());
                Machine::Arc { endpoint: uri(base)? }
            }
            _ => Machine::Vm { endpoint: Uri::from_static("http://169.254.169.254"), address: Some(IMDS) },
        },
    )
}

/// Asks the machine for a token.
pub(super) async fn fetch(
    settings: &CredentialSettings,
    connector: &Connector,
    resource: &str,
    clock: &dyn Clock,
) -> Result<Fetched, CredentialError> {
    let Proof::ManagedIdentity { client_id, object_id, resource_id, endpoint } = &settings.proof else {
        return Err(CredentialError::local("not a managed identity", "this is a fault of the gate"));
    };
    let arc_installed = Path::new("/opt/azcmagent/bin/himds").exists();
    let machine = machine(endpoint.as_ref(), |name| std::env::var(name).ok(), arc_installed)?;
    let which = Which {
        client_id: client_id.as_deref(),
        object_id: object_id.as_deref(),
        resource_id: resource_id.as_deref(),
    };
    fetch_from(&machine, &which, connector, resource, clock).await
}

/// Asks this machine.
async fn fetch_from(
    machine: &Machine,
    which: &Which<'_>,
    connector: &Connector,
    resource: &str,
    clock: &dyn Clock,
) -> Result<Fetched, CredentialError> {
    which.can_be_chosen_on(machine)?;
    match machine {
        Machine::Vm { .. } => with_patience(machine, connector, resource, which, clock).await,
        Machine::Arc { .. } => arc(machine, connector, resource, clock.now()).await,
        Machine::ServiceFabric { .. } | Machine::AppService { .. } | Machine::AmlCompute { .. } => {
            let answer = ask(machine, connector, resource, which, None).await?;
            read(&answer, clock.now())
        }
    }
}

/// Which of the machine's identities.
struct Which<'a> {
    client_id: Option<&'a str>,
    object_id: Option<&'a str>,
    resource_id: Option<&'a str>,
}

impl Which<'_> {
    /// A machine that cannot be told which identity is meant would answer with another one than the
    /// configuration names.
    fn can_be_chosen_on(&self, machine: &Machine) -> Result<(), CredentialError> {
        let named = |given: &[(&'static str, Option<&str>)]| {
            given.iter().find(|(_, value)| value.is_some()).map(|(name, _)| *name)
        };
        let (client, object, resource) = (
            ("client_id", self.client_id),
            ("managed_identity.object_id", self.object_id),
            ("managed_identity.resource_id", self.resource_id),
        );
        let (place, wrong, mend) = match machine {
            Machine::Vm { .. } | Machine::AppService { .. } => return Ok(()),
            Machine::AmlCompute { .. } => {
                ("Azure ML compute", named(&[object, resource]), "name the identity by its `client_id`")
            }
            Machine::Arc { .. } => (
                "Azure Arc",
                named(&[client, object, resource]),
                "the machine has one identity: leave it out",
            ),
            Machine::ServiceFabric { .. } => (
                "Service Fabric",
                named(&[client, object, resource]),
                "the cluster's configuration chooses the identity: leave it out",
            ),
        };
        match wrong {
            None => Ok(()),
            Some(name) => {
                Err(CredentialError::local(format!("on {place} `{name}` chooses no identity"), mend))
            }
        }
    }
}

fn request(
    machine: &Machine,
    resource: &str,
    which: &Which<'_>,
    basic: Option<&SecretString>,
) -> Option<Request<Bytes>> {
    let (endpoint, path, version, client, by_resource) = match machine {
        Machine::ServiceFabric { endpoint, .. } => {
            (endpoint, None, "2019-07-01-preview", "client_id", "mi_res_id")
        }
        Machine::AppService { endpoint, .. } => (endpoint, None, "2019-08-01", "client_id", "mi_res_id"),
        Machine::AmlCompute { endpoint, .. } => (endpoint, None, "2017-09-01", "clientid", "mi_res_id"),
        Machine::Arc { endpoint } => (endpoint, None, "2020-06-01", "client_id", "mi_res_id"),
        Machine::Vm { endpoint, .. } => {
            (endpoint, Some("/metadata/identity/oauth2/token"), "2018-02-01", "client_id", "msi_res_id")
        }
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("api-version", version).append_pair("resource", resource);
    for (key, value) in
        [(client, which.client_id), ("object_id", which.object_id), (by_resource, which.resource_id)]
    {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    }
    let path = path.unwrap_or_else(|| endpoint.path());
    let mut request = Request::get(format!("{path}?{}", query.finish()));
    match machine {
        Machine::ServiceFabric { secret, .. } | Machine::AmlCompute { secret, .. } => {
            request = request.header("secret", secret.expose_secret());
        }
        Machine::AppService { secret, .. } => {
            request = request.header("x-identity-header", secret.expose_secret())
        }
        Machine::Arc { .. } | Machine::Vm { .. } => request = request.header("metadata", "true"),
    }
    if let Some(basic) = basic {
        request = request.header(header::AUTHORIZATION, format!("Basic {}", basic.expose_secret()));
    }
    request.body(Bytes::new()).ok()
}

async fn ask(
    machine: &Machine,
    connector: &Connector,
    resource: &str,
    which: &Which<'_>,
    basic: Option<&SecretString>,
) -> Result<Response<Bytes>, CredentialError> {
    const MEND: &str = "check the machine's environment";
    let (Machine::ServiceFabric { endpoint, .. }
    | Machine::AppService { endpoint, .. }
    | Machine::AmlCompute { endpoint, .. }
    | Machine::Arc { endpoint }
    | Machine::Vm { endpoint, .. }) = machine;
    let mut to = Destination::of(endpoint)
        .ok_or_else(|| CredentialError::local(format!("`{endpoint}` is not an endpoint"), MEND))?;
    match machine {
        Machine::Vm { address, .. } => to.address = *address,
        Machine::ServiceFabric { thumbprint, .. } => {
            let trust = Trust::pinned(thumbprint).map_err(|_| {
                CredentialError::local("`IDENTITY_SERVER_THUMBPRINT` is not a SHA-1 thumbprint", MEND)
            })?;
            to.trust = Some(trust);
        }
        Machine::AppService { .. } | Machine::AmlCompute { .. } | Machine::Arc { .. } => {}
    }
    if to.address.is_none()
        && let Ok(ip) = to.host.parse::<IpAddr>()
    {
        // The environment names an address of this machine or its host: dialled as it is, directly.
        to.address = Some(SocketAddr::new(ip, to.port));
    }
    let request = request(machine, resource, which, basic)
        .ok_or_else(|| CredentialError::local("the metadata request cannot be built", MEND))?;
    let limits = FetchLimits { body: 64 << 10, time: Duration::from_secs(10) };
    connector.send(&to, request, limits).await.map_err(|e| CredentialError::passing(e.to_string()))
}

fn read(answer: &Response<Bytes>, now: Timestamp) -> Result<Fetched, CredentialError> {
    let status = answer.status();
    if status.is_success() {
        return read_answer(answer.body(), now);
    }
    let text: String =
        String::from_utf8_lossy(answer.body()).chars().filter(|c| !c.is_control()).take(200).collect();
    if status == StatusCode::BAD_REQUEST
        || status == StatusCode::FORBIDDEN
        || status == StatusCode::UNAUTHORIZED
    {
        return Err(CredentialError::Fatal {
            code: status.as_str().to_owned(),
            what: format!("the machine gives no token: {text}"),
            mend: "assign a managed identity to the machine, and name the one meant if there are several",
        });
    }
    Err(CredentialError::Passing {
        what: format!("the machine's identity endpoint answered {status}: {text}"),
        retry_after: retry_after(answer.headers()),
    })
}

/// A virtual machine's metadata service is tried again where its documentation says so.
async fn with_patience(
    machine: &Machine,
    connector: &Connector,
    resource: &str,
    which: &Which<'_>,
    clock: &dyn Clock,
) -> Result<Fetched, CredentialError> {
    let mut tried = 0;
    loop {
        let answer = ask(machine, connector, resource, which, None).await;
        let pauses = match &answer {
            Ok(answer) if answer.status() == StatusCode::GONE => UPDATING,
            Ok(answer)
                if matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS)
                    || answer.status().is_server_error() =>
            {
                PAUSES
            }
            Ok(answer) => return read(answer, clock.now()),
            Err(_) => PAUSES,
        };
        match pauses.get(tried) {
            Some(pause) => clock.sleep(*pause).await,
            None => return read(&answer?, clock.now()),
        }
        tried += 1;
    }
}

/// Azure Arc proves that the asker is privileged: it names a file that only such a one can read.
async fn arc(
    machine: &Machine,
    connector: &Connector,
    resource: &str,
    now: Timestamp,
) -> Result<Fetched, CredentialError> {
    let which = Which { client_id: None, object_id: None, resource_id: None };
    let first = ask(machine, connector, resource, &which, None).await?;
    if first.status() != StatusCode::UNAUTHORIZED {
        return read(&first, now);
    }
    let secret = arc_secret(&first, Path::new(ARC_TOKENS)).await?;
    read(&ask(machine, connector, resource, &which, Some(&secret)).await?, now)
}

/// Reads the named file, but only in the fixed directory: the answer chooses the name, not the place.
async fn arc_secret(challenge: &Response<Bytes>, directory: &Path) -> Result<SecretString, CredentialError> {
    const MEND: &str = "run the gate as a member of the group `himds`";
    let wrong = |why: String| {
        CredentialError::local(format!("Azure Arc's challenge cannot be answered: {why}"), MEND)
    };
    let named = challenge
        .headers()
        .get(header::WWW_AUTHENTICATE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split_once("realm="))
        .map(|(_, path)| path.trim_matches('"').to_owned())
        .ok_or_else(|| wrong("it names no file".to_owned()))?;
    let name = named.rsplit(['/', '\\']).next().unwrap_or_default();
    if !name.ends_with(".key") || name.starts_with('.') {
        return Err(wrong("it names no key file".to_owned()));
    }
    let file = directory.join(name);
    let size = tokio::fs::metadata(&file).await.map_err(|e| wrong(e.to_string()))?.len();
    if size > MAX_ARC_SECRET {
        return Err(wrong(format!("the file has {size} bytes")));
    }
    let text = tokio::fs::read_to_string(&file).await.map_err(|e| wrong(e.to_string()))?;
    Ok(SecretString::from(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(variables: &[(&str, &str)], arc: bool) -> Machine {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        machine(None, get, arc).unwrap()
    }

    fn sent(machine: &Machine, which: &Which<'_>) -> (String, Vec<(String, String)>) {
        let request = request(machine, "https://management.azure.com", which, None).unwrap();
        let headers =
            request.headers().iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned())).collect();
        (request.uri().to_string(), headers)
    }

    const NONE: Which<'_> = Which { client_id: None, object_id: None, resource_id: None };

    #[test]
    fn each_of_the_five_machines_is_asked_in_its_own_way() {
        let resource = "resource=https%3A%2F%2Fmanagement.azure.com";
        let app = [("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi/token"), ("IDENTITY_HEADER", "h")];
        let fabric = [
            ("IDENTITY_ENDPOINT", "https://10.0.0.4:2377/t"),
            ("IDENTITY_HEADER", "h"),
            ("IDENTITY_SERVER_THUMBPRINT", "AA"),
        ];
        let ml = [("MSI_ENDPOINT", "http://127.0.0.1:46808/MSI/auth"), ("MSI_SECRET", "s")];
        for (machine, path, header) in [
            (on(&fabric, false), format!("/t?api-version=2019-07-01-preview&{resource}"), ("secret", "h")),
            (
                on(&app, false),
                format!("/msi/token?api-version=2019-08-01&{resource}"),
                ("x-identity-header", "h"),
            ),
            (on(&ml, false), format!("/MSI/auth?api-version=2017-09-01&{resource}"), ("secret", "s")),
            (
                on(&[], true),
                format!("/metadata/identity/oauth2/token?api-version=2020-06-01&{resource}"),
                ("metadata", "true"),
            ),
            (
                on(&[], false),
                format!("/metadata/identity/oauth2/token?api-version=2018-02-01&{resource}"),
                ("metadata", "true"),
            ),
        ] {
            let (uri, headers) = sent(&machine, &NONE);
            assert_eq!(uri, path, "{machine:?}");
            assert_eq!(headers, [(header.0.to_owned(), header.1.to_owned())], "{machine:?}");
        }
    }

    #[test]
    fn a_user_assigned_identity_is_named_as_each_machine_wants_it() {
        let which = Which { client_id: Some("c"), object_id: None, resource_id: Some("/r") };
        assert!(sent(&on(&[], false), &which).0.ends_with("&client_id=c&msi_res_id=%2Fr"));
        let ml = on(&[("MSI_ENDPOINT", "http://127.0.0.1:1/a"), ("MSI_SECRET", "s")], false);
        assert!(sent(&ml, &which).0.contains("&clientid=c"));
    }

    #[test]
    fn an_identity_that_a_machine_cannot_choose_is_refused_instead_of_replaced() {
        let fabric = [
            ("IDENTITY_ENDPOINT", "https://10.0.0.4:2377/t"),
            ("IDENTITY_HEADER", "h"),
            ("IDENTITY_SERVER_THUMBPRINT", "AA"),
        ];
        let ml = [("MSI_ENDPOINT", "http://127.0.0.1:1/a"), ("MSI_SECRET", "s")];
        let by_client = Which { client_id: Some("c"), ..NONE };
        let by_resource = Which { resource_id: Some("/r"), ..NONE };
        let refused = |machine: &Machine, which: &Which<'_>| {
            which.can_be_chosen_on(machine).err().map(|e| e.to_string()).unwrap_or_default()
        };
        for machine in [on(&[], true), on(&fabric, false)] {
            assert!(refused(&machine, &by_client).contains("`client_id` chooses no identity"), "{machine:?}");
            assert_eq!(refused(&machine, &NONE), "");
        }
        assert!(refused(&on(&ml, false), &by_resource).contains("by its `client_id`"));
        assert_eq!(refused(&on(&ml, false), &by_client), "");
        assert_eq!(refused(&on(&[], false), &by_resource), "");
    }

    #[tokio::test]
    async fn arc_chooses_the_name_of_the_secret_but_not_its_place() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.key"), "secret\n").unwrap();
        let challenge = |realm: &str| {
            Response::builder()
                .status(401)
                .header("www-authenticate", format!("Basic realm={realm}"))
                .body(Bytes::new())
                .unwrap()
        };
        let secret =
            arc_secret(&challenge("/var/opt/azcmagent/tokens/a.key"), directory.path()).await.unwrap();
        assert_eq!(secret.expose_secret(), "secret");
        for realm in ["/etc/passwd", "/a/b/.key", "/a/../missing.key"] {
            assert!(arc_secret(&challenge(realm), directory.path()).await.is_err(), "{realm}");
        }
        std::fs::write(directory.path().join("b.key"), vec![b'x'; 5_000]).unwrap();
        assert!(arc_secret(&challenge("/b.key"), directory.path()).await.is_err());
    }
}
