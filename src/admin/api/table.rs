//! The table of the API's routes: from it both the router and the document are made, so that nothing
//! is served that is not described.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, any, on},
};

use super::{
    Api,
    call::{Refused, Said},
    openapi::Operation,
};

/// A route, as it is described.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, parameters in braces.
    pub path: &'static str,
    /// What is said of it.
    pub operation: &'static Operation,
}

/// Routes, and what is said of them.
#[derive(Debug, Default)]
pub struct Table {
    router: Router<Arc<Api>>,
    routes: Vec<Route>,
}

impl Table {
    /// Adds what a GET does.
    pub fn get<T: 'static>(
        self,
        path: &'static str,
        operation: &'static Operation,
        handler: impl Handler<T, Arc<Api>>,
    ) -> Self {
        self.with(Method::GET, MethodFilter::GET, path, operation, handler)
    }

    /// Adds what a POST does.
    pub fn post<T: 'static>(
        self,
        path: &'static str,
        operation: &'static Operation,
        handler: impl Handler<T, Arc<Api>>,
    ) -> Self {
        self.with(Method::POST, MethodFilter::POST, path, operation, handler)
    }

    /// Adds what a DELETE does.
    pub fn delete<T: 'static>(
        self,
        path: &'static str,
        operation: &'static Operation,
        handler: impl Handler<T, Arc<Api>>,
    ) -> Self {
        self.with(Method::DELETE, MethodFilter::DELETE, path, operation, handler)
    }

    fn with<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        operation: &'static Operation,
        handler: impl Handler<T, Arc<Api>>,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.routes.push(Route { method, path, operation });
        self
    }

    /// The routes.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The router: what it does not know below `/api` is refused in the words of the API.
    pub fn router(self) -> Router<Arc<Api>> {
        self.router.method_not_allowed_fallback(other_method).route("/api/{*rest}", any(unknown))
    }
}

async fn unknown() -> Response {
    Refused::new(StatusCode::NOT_FOUND, Said::NotFound, "the API has nothing of this name").into_response()
}

/// `Allow` says which ones it knows.
async fn other_method() -> Response {
    let why = "this is not done with that method: `Allow` names those that are";
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, Said::OtherMethod, why).into_response()
}
