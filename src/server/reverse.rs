//! Who answers a request to the reverse listener: the gate, or the console and the API below the path
//! that is theirs.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::runtime::Handle;

use crate::{
    admin::{
        Mount, Mounted,
        api::{self, Api},
    },
    config::Settings,
    http::{Body, Connection, RESERVED, below_reserved, framing},
    identity::ConnectionMemo,
    listen::Handler,
    proxy::{self, Core},
};

/// The console and the API, and the name of the gate under which they are there.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub mounted: Mounted,
    /// In lower case, without a port.
    pub host: Arc<str>,
}

impl Own {
    /// As the configuration puts them there; `None` where it does not.
    pub fn of(settings: &Settings, api: &Arc<Api>) -> Option<Self> {
        let public = settings.reverse.as_ref().map(|reverse| &reverse.public_url)?;
        settings.admin.as_ref().filter(|admin| admin.on_reverse)?;
        let mount = Mount { base: RESERVED, origin: Some(public.to_text()), signs_in_at: None };
        let mounted = Mounted::new(api::router(Arc::clone(api), mount), Handle::current());
        let host = if public.host.contains(':') { format!("[{}]", public.host) } else { public.host.clone() };
        Some(Self { mounted, host: host.into() })
    }
}

/// Hands requests of a listener to one core's gate.
#[derive(Debug, Clone)]
pub(super) struct Reverse {
    pub core: Core,
    pub own: Option<Own>,
}

impl Handler for Reverse {
    type Memory = ConnectionMemo;

    async fn handle(
        &self,
        connection: &Rc<Connection<ConnectionMemo>>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let gate = self.core.gate();
        let request = match &self.own {
            Some(own) if is_own(&request) => {
                let (head, body) = request.into_parts();
                // What is refused of a head is refused by the gate, as everywhere.
                let named = framing::check(&head).is_ok_and(|host| host == *own.host);
                let request = Request::from_parts(head, body);
                if named {
                    let peer = gate.source(connection.peer, request.headers());
                    // Boxed: hardly any request is for people.
                    return Box::pin(own.mounted.answer(peer, request)).await;
                }
                request
            }
            Some(_) | None => request,
        };
        proxy::serve(&gate, connection, request).await
    }

    fn rejected(&self, peer: IpAddr, why: &'static str) {
        self.core.gate().parts().journal.refused(peer, why);
    }
}

fn is_own<B>(request: &Request<B>) -> bool {
    request.uri().path_and_query().is_some_and(|target| below_reserved(target.as_str()).is_some())
}
