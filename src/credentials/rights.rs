//! What Azure lets callers do, read with the gate's own identity and kept fresh.
//!
//! [`LiveRights::of`] is asked before a request is judged, and only if an entry with `rights: azure`
//! could concern it. One reading serves all requests of a person at a scope ([`Readings`]); what could
//! not be read grants nothing.

mod arm;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    CredentialError, Credentials, ServicePurpose, ServiceToken,
    readings::{Ages, Readings},
};
use crate::{
    azureml::ResourceId,
    identity::Caller,
    net::Destination,
    policy::{
        Azure,
        rights::{Assignment, AzureRights, DenyAssignment, EntraObject, Unread},
        roles::RoleDefinition,
    },
    time::{SharedClock, Timestamp},
};
use arm::{Denying, Listed};

/// With which credential rights are read, and how old they may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RightsSettings {
    /// The credential's name; none if no route to Resource Manager has one.
    pub credential: Option<Arc<str>>,
    /// The credential's tenant, if it is known: rights of other tenants cannot be read.
    pub tenant: Option<Box<str>>,
    /// A reading is used without question for so long.
    pub fresh: Duration,
    /// A reading that could not be renewed is used for so long.
    pub stale: Duration,
}

impl RightsSettings {
    const fn ages(&self) -> Ages {
        Ages { fresh: self.fresh, stale: self.stale }
    }
}

/// Whose rights, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Which {
    object: Arc<str>,
    scope: ResourceId,
}

/// Something of Azure's that several readings share, with the instant that it was read at.
type Shared<K, V> = Arc<Mutex<HashMap<K, (Timestamp, V)>>>;

/// The rights of callers in Azure. Cheap to clone.
#[derive(Clone)]
pub struct LiveRights {
    credentials: Credentials,
    arm: Destination,
    settings: Arc<RightsSettings>,
    clock: SharedClock,
    readings: Readings<Which, AzureRights>,
    definitions: Shared<Box<str>, Arc<RoleDefinition>>,
    denials: Shared<ResourceId, Arc<[Denying]>>,
}

impl fmt::Debug for LiveRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveRights({:?})", self.readings)
    }
}

impl LiveRights {
    /// Reads through `arm` with a credential's service tokens.
    #[must_use]
    pub fn new(
        credentials: Credentials,
        arm: Destination,
        settings: RightsSettings,
        clock: SharedClock,
    ) -> Self {
        Self {
            credentials,
            arm,
            readings: Readings::new("rights", settings.ages(), Arc::clone(&clock)),
            settings: Arc::new(settings),
            clock,
            definitions: Shared::default(),
            denials: Shared::default(),
        }
    }

    /// The same under other settings. What another credential read, or another Resource Manager
    /// said, is not kept.
    #[must_use]
    pub fn through(&self, arm: Destination, settings: RightsSettings) -> Self {
        let as_before = self.settings.credential == settings.credential
            && self.settings.tenant == settings.tenant
            && self.arm.authority() == arm.authority();
        if as_before {
            let readings = self.readings.aged(settings.ages());
            return Self { arm, settings: Arc::new(settings), readings, ..self.clone() };
        }
        Self::new(self.credentials.clone(), arm, settings, Arc::clone(&self.clock))
    }

    /// What Azure lets `caller` do at `scopes`, each read if need be.
    pub async fn of(&self, caller: &Caller, scopes: Vec<ResourceId>) -> Azure {
        let object = match self.object(caller) {
            Ok(object) => object,
            Err(unread) => return Azure::new(scopes.into_iter().map(|s| (s, Err(unread.clone()))).collect()),
        };
        let mut readings = Vec::with_capacity(scopes.len());
        for scope in scopes {
            let which = Which { object: Arc::clone(&object), scope: scope.clone() };
            let read = self.readings.get(which.clone(), self.read(&which));
            readings.push((scope, read.await.map_err(Unread::Failed)));
        }
        Azure::new(readings)
    }

    /// What was read last of `caller` at the scopes of `azure`, without asking Azure: for streams that
    /// are judged again. They keep their reading in use, so that it is renewed in the background.
    #[must_use]
    pub fn again(&self, caller: &Caller, azure: &Azure) -> Azure {
        let object = self.object(caller);
        let read = |scope: &ResourceId| {
            let which = Which { object: object.clone()?, scope: scope.clone() };
            self.readings.last(&which).map_err(Unread::Failed)
        };
        Azure::new(azure.readings().iter().map(|(scope, _)| (scope.clone(), read(scope))).collect())
    }

    fn object(&self, caller: &Caller) -> Result<Arc<str>, Unread> {
        let found = EntraObject::of(caller).ok_or(Unread::NoObject)?;
        match &self.settings.tenant {
            Some(tenant) if !tenant.eq_ignore_ascii_case(&found.tenant) => {
                Err(Unread::OtherTenant(found.tenant))
            }
            Some(_) | None => Ok(found.object.into()),
        }
    }

    /// Waits a while, then renews what was used lately: to be repeated on the control runtime.
    pub async fn renew_soon(&self) {
        self.readings.wait().await;
        self.renew_once().await;
    }

    /// Renews what was used lately and will not be fresh at the next look.
    pub async fn renew_once(&self) {
        for (which, before) in self.readings.due() {
            self.readings.renew(&which, before, self.read(&which)).await;
        }
    }

    async fn token(&self) -> Result<ServiceToken, CredentialError> {
        let none = || {
            CredentialError::local(
                "no credential reads role assignments",
                "name a `credential` at the route to Resource Manager",
            )
        };
        let credential = self.settings.credential.as_ref().ok_or_else(none)?;
        self.credentials.service(ServicePurpose::Rights, credential).await
    }

    async fn read(&self, which: &Which) -> Result<AzureRights, CredentialError> {
        let now = self.clock.now();
        let token = self.token().await?;
        let reader = arm::Reader { credentials: &self.credentials, arm: &self.arm, token: &token };
        let mut assignments = Vec::new();
        for Listed { id, principal, scope, definition, condition } in
            reader.assignments(&which.scope, &which.object).await?
        {
            let Some(role) = self.definition(&reader, &definition, now).await? else { continue };
            let through = (!principal.eq_ignore_ascii_case(&which.object)).then_some(&*principal);
            let place = (scope, &which.scope);
            assignments.push(Assignment::new(&id, through, place, role, condition.as_deref()));
        }
        let denying = self.denying(&reader, &which.scope, now).await?;
        let unsure = denying.iter().any(|d| d.may_concern(&which.object));
        let named = if unsure { reader.denied_to(&which.scope, &which.object).await? } else { Vec::new() };
        let denials = denying
            .iter()
            .filter(|d| d.concerns(&which.object, &named))
            .map(|d| {
                let place = (d.scope.clone(), &which.scope);
                DenyAssignment::new(&d.name, place, d.only_there, Arc::clone(&d.denied))
            })
            .collect();
        Ok(AzureRights::new(assignments, denials, now))
    }

    /// A role definition; `None` if there is none any more: its assignments grant nothing.
    async fn definition(
        &self,
        reader: &arm::Reader<'_>,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<RoleDefinition>>, CredentialError> {
        let key = id.to_ascii_lowercase();
        if let Some(known) = recall(&self.definitions, &*key, now, self.settings.fresh) {
            return Ok(Some(known));
        }
        let Some(found) = reader.definition(id).await?.map(Arc::new) else { return Ok(None) };
        keep(&self.definitions, key.into(), Arc::clone(&found), now);
        Ok(Some(found))
    }

    async fn denying(
        &self,
        reader: &arm::Reader<'_>,
        scope: &ResourceId,
        now: Timestamp,
    ) -> Result<Arc<[Denying]>, CredentialError> {
        if let Some(known) = recall(&self.denials, scope, now, self.settings.fresh) {
            return Ok(known);
        }
        let found: Arc<[Denying]> = reader.denials(scope).await?.into();
        keep(&self.denials, scope.clone(), Arc::clone(&found), now);
        Ok(found)
    }
}

/// At most so many definitions, and scopes with deny assignments.
const SHARED: usize = 10_000;

/// What is shared is believed for half as long as a reading: a reading is then never older than
/// `fresh` and a half in any of its parts.
fn recall<K, Q, V: Clone>(shared: &Shared<K, V>, key: &Q, now: Timestamp, fresh: Duration) -> Option<V>
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (read, value) = shared.get(key)?;
    (now.since(*read) < fresh / 2 && now >= *read).then(|| value.clone())
}

fn keep<K: Eq + std::hash::Hash, V>(shared: &Shared<K, V>, key: K, value: V, now: Timestamp) {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.len() >= SHARED {
        shared.clear();
    }
    shared.insert(key, (now, value));
}
