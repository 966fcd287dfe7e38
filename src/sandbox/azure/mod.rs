//! The simulated Azure: one TLS address that answers to all of Azure's names, and one plain address
//! for managed identity, as a machine in Azure has.
//!
//! It judges every request as Azure would: the token's signature, audience, tenant and time, the
//! role assignments of whoever it names, the mandatory `api-version`, the body against the official
//! SDK's models. State is kept in memory and moves on with polls and with the clock.

mod access;
mod arm;
mod call;
mod clouds;
mod entra;
mod front;
mod graph;
mod inference;
mod managed;
mod monitor;
pub mod names;
mod operations;
mod plane;
mod roles;
mod seed;
mod storage;
mod throttle;
mod vault;
mod world;

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use axum::{Router, middleware};
use serde_json::{Value, json};

pub use clouds::{CLOUDS, SimulatedCloud};
pub use entra::{App, FederatedCredential, TokenVersion, UserToken, inbound as inbound_claims};
pub use inference::Live;
pub use roles::{Assignment, DenyAssignment, ROLES, Role};
pub use throttle::Bucket;

use super::{KeyRing, Observer, Person, SandboxCa, SandboxError, SigningKey, jwt, observe, serve::Server};
use crate::time::SharedClock;

/// What the simulated Azure is started with.
#[derive(Debug)]
pub struct AzureSettings {
    /// Time.
    pub clock: SharedClock,
    /// Who signs its server certificate.
    pub ca: Arc<SandboxCa>,
    /// A loopback address.
    pub bind: IpAddr,
    /// Port of all of Azure's names; 0: any free one.
    pub port: u16,
    /// Port of the managed identity endpoint; 0: any free one.
    pub identity_port: u16,
    /// How often an operation says that it is still running.
    pub operation_polls: u32,
    /// `Retry-After` of operations. Zero makes the official SDK wait its own thirty seconds.
    pub retry_after: Duration,
    /// Items on a page of a list.
    pub page_size: usize,
    /// How long access tokens live.
    pub token_lifetime: Duration,
    /// The pause after each event of a stream.
    pub stream_interval: Duration,
    /// The buckets for reads and for writes (and deletes) of each principal at Resource Manager; none:
    /// no throttling.
    pub buckets: Option<(Bucket, Bucket)>,
    /// Entra's first signing key; a new one if none.
    pub key: Option<SigningKey>,
}

impl AzureSettings {
    /// Any free ports on 127.0.0.1; one poll until an operation is done, a second apart; three items
    /// on a page; tokens of an hour; streams without pauses.
    #[must_use]
    pub fn new(clock: SharedClock, ca: Arc<SandboxCa>) -> Self {
        Self {
            clock,
            ca,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            identity_port: 0,
            operation_polls: 1,
            retry_after: Duration::from_secs(1),
            page_size: 3,
            token_lifetime: Duration::from_secs(3_599),
            stream_interval: Duration::ZERO,
            buckets: None,
            key: None,
        }
    }
}

/// What every service shares.
#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    keys: KeyRing,
    world: Mutex<world::World>,
    apps: RwLock<Vec<App>>,
    trusted: RwLock<HashMap<String, Arc<KeyRing>>>,
    step_ups: RwLock<HashMap<String, String>>,
    sign_ins: entra::SignIns,
    /// Resources that nobody consented to the application's use of for people.
    unconsented: RwLock<HashSet<String>>,
    sas: storage::Sas,
    live: Live,
    buckets: Option<(Bucket, Bucket)>,
    levels: Mutex<throttle::Levels>,
    operation_polls: u32,
    retry_after: Duration,
    page_size: usize,
    token_lifetime: Duration,
    stream_interval: Duration,
}

impl Shared {
    /// Runs `f` on the state, after what the clock has finished is finished. Must not be nested.
    fn with<T>(&self, f: impl FnOnce(&mut world::World) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        operations::settle(&mut world, self.clock.now());
        f(&mut world)
    }

    fn app(&self, client: &str) -> Option<App> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.iter().find(|a| a.client_id.eq_ignore_ascii_case(client)).cloned()
    }

    fn trusted_keys(&self, issuer: &str) -> Option<Arc<KeyRing>> {
        self.trusted.read().unwrap_or_else(PoisonError::into_inner).get(issuer).cloned()
    }

    fn challenge_for(&self, principal: &str) -> Option<String> {
        self.with(|world| world.challenges.get(principal).cloned())
    }

    /// Draws a request from the caller's bucket, if there are buckets.
    fn throttle(
        &self,
        principal: &str,
        method: &http::Method,
    ) -> Result<Option<(&'static str, http::HeaderValue)>, call::Refusal> {
        let Some((reads, writes)) = self.buckets else { return Ok(None) };
        let class = throttle::Class::of(method);
        let bucket = if class == throttle::Class::Reads { reads } else { writes };
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.draw(bucket, principal, class, self.clock.now()).map(Some)
    }

    fn is_consented(&self, resource: &str) -> bool {
        let all = self.unconsented.read().unwrap_or_else(PoisonError::into_inner);
        !all.contains(resource.trim_end_matches('/'))
    }

    fn step_up_for(&self, principal: &str) -> Option<String> {
        self.step_ups.read().unwrap_or_else(PoisonError::into_inner).get(principal).cloned()
    }

    fn sign(&self, claims: &Value) -> Result<String, SandboxError> {
        let key = self.keys.current().ok_or_else(|| SandboxError::Nobody("signing key".to_owned()))?;
        jwt::sign(&key, claims)
    }

    /// A token for one endpoint with `AMLToken` authentication.
    fn endpoint_token(&self, endpoint: &str, by: &str, life: Duration) -> Result<String, SandboxError> {
        let now = self.clock.now();
        self.sign(&json!({
            "iss": "azureml-endpoints",
            "aud": endpoint,
            "sub": by,
            "iat": now.as_secs(),
            "exp": now.plus(life).as_secs(),
        }))
    }

    fn check_endpoint_token(&self, endpoint: &str, token: &str) -> Result<(), jwt::Flaw> {
        let claims = jwt::verify(&self.keys, token, self.clock.now())?;
        let is = |name: &str, value: &str| claims.get(name).and_then(Value::as_str) == Some(value);
        if is("iss", "azureml-endpoints") && is("aud", endpoint) { Ok(()) } else { Err(jwt::Flaw::Signature) }
    }
}

/// A running simulated Azure; stops when dropped.
#[derive(Debug)]
pub struct SimulatedAzure {
    server: Server,
    identity: Server,
    shared: Arc<Shared>,
    observer: Observer,
    identity_observer: Observer,
}

impl SimulatedAzure {
    /// Starts it, with the workspace of [`names`] in it.
    ///
    /// # Errors
    /// [`SandboxError`] if an address is not loopback or taken, or a key cannot be made.
    pub async fn start(settings: AzureSettings) -> Result<Self, SandboxError> {
        let clock = settings.clock;
        let shared = Arc::new(Shared {
            keys: KeyRing::new(settings.key.map_or_else(SigningKey::generate, Ok)?),
            world: Mutex::new(seed::world(clock.now())),
            apps: RwLock::new(seed::apps()),
            trusted: RwLock::default(),
            step_ups: RwLock::default(),
            sign_ins: entra::SignIns::default(),
            unconsented: RwLock::default(),
            sas: storage::Sas::new(),
            live: Live::default(),
            buckets: settings.buckets,
            levels: Mutex::default(),
            operation_polls: settings.operation_polls,
            retry_after: settings.retry_after,
            page_size: settings.page_size.max(1),
            token_lifetime: settings.token_lifetime,
            stream_interval: settings.stream_interval,
            clock: Arc::clone(&clock),
        });
        let (observer, identity_observer) = (Observer::new(Arc::clone(&clock)), Observer::new(clock));
        let router = Router::new()
            .fallback(front::serve)
            .with_state(Arc::clone(&shared))
            .layer(middleware::from_fn_with_state(observer.clone(), observe::layer));
        let identity = Router::new()
            .fallback(front::serve_identity)
            .with_state(Arc::clone(&shared))
            .layer(middleware::from_fn_with_state(identity_observer.clone(), observe::layer));
        let tls = settings.ca.server(&clouds::certified().iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self {
            server: Server::start(settings.bind, settings.port, Some(tls), router).await?,
            identity: Server::start(settings.bind, settings.identity_port, None, identity).await?,
            shared,
            observer,
            identity_observer,
        })
    }

    /// Where all of Azure's names are served, over TLS.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where managed identity is served, over plain HTTP: `/metadata/identity/oauth2/token` as the
    /// metadata service does, `/msi/token` as App Service does.
    #[must_use]
    pub const fn identity_address(&self) -> SocketAddr {
        self.identity.address()
    }

    /// The requests that reached Azure's names, and faults to put in their way.
    #[must_use]
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The requests that reached the managed identity endpoint, and faults to put in their way.
    #[must_use]
    pub const fn identity_observer(&self) -> &Observer {
        &self.identity_observer
    }

    /// The event streams that are open.
    #[must_use]
    pub fn streams(&self) -> &Live {
        &self.shared.live
    }

    /// Gives `principal` (an object id) a role at a scope.
    ///
    /// # Errors
    /// [`SandboxError::Nobody`] if there is no such role.
    pub fn assign(&self, principal: &str, role: &str, scope: &str) -> Result<(), SandboxError> {
        let role = Role::find(role).ok_or_else(|| SandboxError::Nobody(role.to_owned()))?;
        self.shared.with(|world| {
            world.assignments.push(Assignment {
                id: uuid::Uuid::new_v4().to_string(),
                principal: principal.to_owned(),
                principal_type: "ServicePrincipal",
                role,
                scope: scope.to_owned(),
                condition: None,
            });
        });
        Ok(())
    }

    /// Gives a role as the assignment says; a role of one's own becomes known.
    pub fn assign_as(&self, assignment: Assignment) {
        self.shared.with(|world| {
            if Role::find(assignment.role.id).is_none() {
                world.roles.retain(|role| role.id != assignment.role.id);
                world.roles.push(assignment.role);
            }
            world.assignments.push(assignment);
        });
    }

    /// Denies as the assignment says.
    pub fn deny(&self, denial: DenyAssignment) {
        self.shared.with(|world| world.denials.push(denial));
    }

    /// Azure's own judgement: whether `person` may do `action` at `scope`.
    #[must_use]
    pub fn judges(&self, person: &Person, action: &str, scope: &str) -> bool {
        let principals: Vec<_> =
            std::iter::once(person.object_id).chain(person.group_ids.iter().copied()).collect();
        access::is_allowed(&self.shared, &principals, action, scope)
    }

    /// Takes every role from `principal`.
    pub fn unassign(&self, principal: &str) {
        self.shared.with(|world| world.assignments.retain(|a| a.principal != principal));
    }

    /// Gives `principal` (an object id) these application permissions for Microsoft Graph and no others:
    /// they are in the tokens that are issued from now on.
    pub fn permit_at_graph(&self, principal: &str, permissions: &[&str]) {
        let permissions = permissions.iter().map(|p| (*p).to_owned()).collect();
        self.shared.with(|world| world.graph_permissions.insert(principal.to_owned(), permissions));
    }

    /// From now on Graph says that an object is in these groups and no others. Tokens say what they
    /// said before.
    pub fn regroup(&self, object_id: &str, groups: &[&str]) {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        self.shared.with(|world| world.groups.insert(object_id.to_owned(), groups));
    }

    /// Registers an application, in place of one with the same client id.
    pub fn register(&self, app: App) {
        let mut apps = self.shared.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.retain(|a| a.client_id != app.client_id);
        apps.push(app);
    }

    /// The application of that client id, to be changed and registered again.
    #[must_use]
    pub fn app(&self, client: &str) -> Option<App> {
        self.shared.app(client)
    }

    /// Makes the keys of another issuer known, so that its tokens can stand for a secret.
    pub fn trust(&self, issuer: &str, keys: Arc<KeyRing>) {
        let mut trusted = self.shared.trusted.write().unwrap_or_else(PoisonError::into_inner);
        trusted.insert(issuer.to_owned(), keys);
    }

    /// Rotates Entra's signing key; the one before stays published.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`].
    pub fn rotate(&self) -> Result<(), SandboxError> {
        self.shared.keys.rotate()
    }

    /// A person's token for the gate, as Entra would issue it.
    ///
    /// # Errors
    /// [`SandboxError::Token`].
    pub fn user_token(&self, person: &Person, wanted: &UserToken) -> Result<String, SandboxError> {
        self.user_token_with(person, wanted, |_| ())
    }

    /// As [`user_token`](Self::user_token), with claims that `change` has been at.
    ///
    /// # Errors
    /// [`SandboxError::Token`].
    pub fn user_token_with(
        &self,
        person: &Person,
        wanted: &UserToken,
        change: impl FnOnce(&mut serde_json::Map<String, Value>),
    ) -> Result<String, SandboxError> {
        let mut claims = inbound_claims(self.shared.clock.now(), person, wanted);
        change(&mut claims);
        self.shared.sign(&Value::Object(claims))
    }

    /// A token of a service principal for an Azure resource, as the token endpoint would issue it.
    ///
    /// # Errors
    /// [`SandboxError::Token`].
    pub fn machine_token(
        &self,
        client: &str,
        principal: &str,
        resource: &str,
    ) -> Result<String, SandboxError> {
        self.shared.sign(&Value::Object(entra::machine(&self.shared, client, principal, resource)))
    }

    /// From now on every service answers tokens of `principal` with a claims challenge, until it
    /// presents one that was asked for with the challenge's claims.
    pub fn challenge(&self, principal: &str) {
        let value = self.shared.clock.now().as_secs().to_string();
        self.shared.with(|world| world.challenges.insert(principal.to_owned(), value));
    }

    /// On-behalf-of requests for this person's tokens need this authentication context from now on.
    pub fn demand_step_up(&self, object_id: &str, context: &str) {
        let mut all = self.shared.step_ups.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(object_id.to_owned(), context.to_owned());
    }

    /// From now on no application may use this resource (without a slash at the end) for people: the
    /// delegated permission is withdrawn.
    pub fn withdraw_consent(&self, resource: &str) {
        let mut all = self.shared.unconsented.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(resource.to_owned());
    }

    /// The next long-running operation that starts will fail with this error.
    pub fn fail_next_operation(&self, code: &str, message: &str) {
        self.shared.with(|world| world.next_failure = Some((code.to_owned(), message.to_owned())));
    }

    /// The resource of that id as it is now (without what depends on who asks), if it exists.
    #[must_use]
    pub fn resource(&self, id: &str) -> Option<Value> {
        self.shared.with(|world| world.get(id).map(|r| r.body.clone()))
    }

    /// What no `GET` of a resource shows: an endpoint's keys, a connection's credentials.
    #[must_use]
    pub fn secret_of(&self, id: &str) -> Option<Value> {
        self.shared.with(|world| world.get(id).map(|r| r.secret.clone()))
    }

    /// The rows that a stream of Azure Monitor was given.
    #[must_use]
    pub fn rows(&self, stream: &str) -> Vec<Value> {
        self.shared.with(|world| world.tables.get(stream).cloned().unwrap_or_default())
    }

    /// Sets a secret of the vault: a new version.
    pub fn set_vault_secret(&self, name: &str, value: &str) {
        let now = self.shared.clock.now();
        self.shared.with(|world| world.set_secret(name, value, now));
    }

    /// The blobs whose `container/path` begins so, in their order.
    #[must_use]
    pub fn blobs(&self, beginning: &str) -> Vec<(String, bytes::Bytes)> {
        self.shared.with(|world| {
            let found = world.blobs.iter().filter(|(path, _)| path.starts_with(beginning));
            found.map(|(path, blob)| (path.clone(), blob.bytes.clone())).collect()
        })
    }

    /// A blob's bytes, by `container/path`.
    #[must_use]
    pub fn blob(&self, path: &str) -> Option<bytes::Bytes> {
        self.shared.with(|world| world.blobs.get(path).map(|b| b.bytes.clone()))
    }
}
