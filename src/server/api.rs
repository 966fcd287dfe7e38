//! The API's parts, the gate as an issuer, and the revocations that every core reads.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::{StartError, build, secrets::Secrets};
use crate::{
    admin::{
        Health,
        api::{Api, Doors, Elsewhere, LISTS, LogRead, RouteView, Stated},
        hooks::Hooks,
    },
    azureml::Protocol,
    config::Settings,
    identity::{
        OfflineCodes, OwnIssuer, Verifier,
        dpop::Replays,
        sessions::{Sessions, SignInSettings},
    },
    net::Scheme,
    policy::described::Door,
    proxy::{GateParts, RouteSettings, SharedParts},
    secrets::Seal,
    store::Store,
    time::SharedClock,
};

/// How often the store is asked for other revocations (DECISIONS 26).
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often what has ended is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Proofs of possession that are remembered: a caller needs one for each token.
const PROOFS: usize = 50_000;

pub(super) fn of(shared: &SharedParts, settings: &Settings, health: &Arc<Health>, hooks: &Arc<Hooks>) -> Api {
    let parts = shared.load();
    Api {
        verifier: Arc::clone(&parts.verifier),
        policies: Arc::clone(&parts.policies),
        gates: Arc::clone(&parts.gates),
        journal: parts.journal.clone(),
        store: parts.store.clone(),
        sessions: Arc::clone(&parts.sessions),
        proofs: Replays::new(PROOFS),
        elsewhere: elsewhere(shared),
        doors: doors(shared),
        stated: stated(shared),
        health: Arc::clone(health),
        hooks: Arc::clone(hooks),
        lists: Semaphore::new(LISTS),
        log: LogRead::new(&settings.audit.name, settings.audit.directory.clone()),
        clock: Arc::clone(&parts.clock),
    }
}

/// What is said of callers elsewhere, by the parts that are in force when it is asked.
fn elsewhere(shared: &SharedParts) -> Elsewhere {
    let (groups, rights, route) = (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    Elsewhere {
        groups: Box::new(move |(principal, about)| {
            let groups = groups.load().groups.clone();
            Box::pin(async move { groups.of(principal, about).await })
        }),
        rights: Box::new(move |(caller, scopes)| {
            let rights = rights.load().rights.clone();
            Box::pin(async move { rights.of(&caller, scopes).await })
        }),
        route: Box::new(move || {
            let parts = route.load();
            let arm = parts.routes.iter().find(|route| route.settings.protocol == Protocol::Arm);
            arm.map_or_else(|| "arm".into(), |route| Arc::clone(&route.settings.name))
        }),
    }
}

/// The routes of the parts that are in force when they are asked for.
fn doors(shared: &SharedParts) -> Doors {
    let (routes, door) = (Arc::clone(shared), Arc::clone(shared));
    Doors {
        routes: Box::new(move || routes.load().routes.iter().map(|route| view(&route.settings)).collect()),
        door: Box::new(move |host| {
            let host = host.to_ascii_lowercase();
            let parts = door.load();
            let route = parts.routes.to_host(&host)?;
            let mut naming = route.naming.clone();
            naming.upstream_host = host.as_str().into();
            Some(Door { route: Arc::clone(&route.settings.name), naming })
        }),
    }
}

/// The statements of the parts that are in force when they are asked for.
fn stated(shared: &SharedParts) -> Stated {
    let parts = Arc::clone(shared);
    Stated(Box::new(move || parts.load().statements.clone()))
}

fn view(route: &RouteSettings) -> RouteView {
    let upstream = &route.upstream;
    let (scheme, usual) = match upstream.scheme {
        Scheme::Http => ("http", 80),
        Scheme::Https => ("https", 443),
    };
    let port = if upstream.port == usual { String::new() } else { format!(":{}", upstream.port) };
    RouteView {
        name: Arc::clone(&route.name),
        protocol: route.protocol,
        upstream: format!("{scheme}://{}{port}", upstream.host),
        paths: route.paths.clone(),
        hosts: route.hosts.clone(),
        credentials: route.credential.as_ref().map(|choice| choice.names()).unwrap_or_default(),
        resource: route.resource.as_ref().map(ToString::to_string),
    }
}

/// Tokens of its own name the gate by the admin listener's URL, and are for the reverse proxy. They
/// can be revoked, so that without a store there are none.
pub(super) fn issue(parts: &GateParts, settings: &Settings, seal: &Seal) {
    let url = settings.admin_url();
    let own = url.filter(|_| parts.store.is_some()).and_then(|url| {
        let audience = settings.reverse.as_ref().map_or_else(|| url.clone(), |r| r.public_url.to_text());
        OwnIssuer::new(seal, &url, &audience)
            .inspect_err(|_| tracing::error!("no key for tokens of the gate can be made: it gives out none"))
            .ok()
    });
    parts.verifier.issue_as(own.map(Arc::new));
    parts.verifier.seal_codes_with(Some(Arc::new(OfflineCodes::new(seal))));
}

/// Browsers sign in as the configuration says from here on.
pub(super) async fn sign_in(
    parts: &GateParts,
    settings: &Settings,
    secrets: &mut Secrets,
    seal: &Seal,
) -> Result<(), StartError> {
    let admin = settings.admin.as_ref();
    let found = admin.and_then(|admin| Some((admin.sign_in.as_ref()?, settings.admin_url()?)));
    let (Some((sign_in, base)), Some(store)) = (found, &parts.store) else {
        parts.sessions.store(None);
        return Ok(());
    };
    let Some(reached) = settings.issuers.iter().find(|issuer| issuer.name == sign_in.issuer) else {
        parts.sessions.store(None);
        return Ok(());
    };
    let client_secret = match &sign_in.client_secret {
        Some(reference) => Some(secrets.read(reference, "listen.admin.sign_in").await?),
        None => None,
    };
    let at = SignInSettings {
        name: Arc::clone(&reached.name),
        issuer: reached.forms().first().map(|form| form.iss.to_string()).unwrap_or_default(),
        reached: reached.clone(),
        client_id: sign_in.client_id.clone(),
        client_secret,
        scopes: sign_in.scopes.clone(),
        callback: format!("{base}/callback"),
        signed_out: format!("{base}/signed-out"),
        idle: sign_in.idle,
        max_age: sign_in.max_age,
    };
    let connector = build::connector(settings, &parts.clock)?;
    let (verifier, clock) = (Arc::clone(&parts.verifier), Arc::clone(&parts.clock));
    let sessions = Sessions::new(at, verifier, store.clone(), seal, connector, clock);
    parts.sessions.store(Some(Arc::new(sessions)));
    Ok(())
}

/// Reads the revocations once.
pub(super) async fn look(store: &Store, verifier: &Verifier, clock: &SharedClock) {
    let (revoked, now) = (verifier.revoked(), clock.now());
    match store.revocations(revoked.version(), now).await {
        Ok(news) => revoked.follow(news, now),
        Err(error) => tracing::debug!(%error, "revocations cannot be read"),
    }
}

/// Keeps them fresh, and the store small, for ever.
pub(super) async fn follow(store: &Store, verifier: &Verifier, clock: &SharedClock) {
    tokio::join!(store.listen(), look_on(store, verifier, clock));
}

async fn look_on(store: &Store, verifier: &Verifier, clock: &SharedClock) {
    let mut forgotten = clock.now();
    let mut heard = store.heard();
    loop {
        tokio::select! {
            () = clock.sleep(LOOK_EVERY) => {}
            () = store.changed(&mut heard) => {}
        }
        look(store, verifier, clock).await;
        let now = clock.now();
        if now.since(forgotten) >= FORGET_EVERY {
            forgotten = now;
            if let Err(error) = store.forget_expired(now).await {
                tracing::warn!(%error, "what has ended could not be forgotten");
            }
        }
    }
}
