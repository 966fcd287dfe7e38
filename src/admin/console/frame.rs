//! What stands around every page.

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::identity::{Principal, sessions::Sessions};

/// Who looks, at what.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// What stands before the paths of all pages.
    pub base: &'static str,
    /// Who is signed in; empty for nobody.
    pub who: String,
    /// The gate's name for them.
    pub principal: String,
    /// The path of the page in the menu.
    pub active: &'static str,
    /// Whether there is a session to end.
    pub signs_out: bool,
    /// Where the page leads by itself after some seconds.
    pub next: Option<(u32, String)>,
    /// The policy for browsers, if it is not the usual one.
    policy: Option<HeaderValue>,
}

/// A page of the menu.
pub(super) struct Place {
    pub path: &'static str,
    pub name: &'static str,
}

/// One of several things to choose from.
pub(super) struct Choice {
    pub name: &'static str,
    pub chosen: bool,
}

impl Choice {
    /// Of these, the one of this name.
    pub fn of<const N: usize>(names: [&'static str; N], chosen: &str) -> [Self; N] {
        names.map(|name| Self { name, chosen: name == chosen })
    }
}

const PLACES: [Place; 9] = [
    Place { path: "/access", name: "My access" },
    Place { path: "/requests", name: "Requests" },
    Place { path: "/grants", name: "Grants" },
    Place { path: "/break-glass", name: "Break-glass" },
    Place { path: "/decisions", name: "Decisions" },
    Place { path: "/audit", name: "Record" },
    Place { path: "/lineage", name: "Lineage" },
    Place { path: "/routes", name: "Routes" },
    Place { path: "/policies", name: "Policies" },
];

impl Frame {
    /// Of somebody who came.
    pub fn of(
        base: &'static str,
        principal: &Principal,
        active: &'static str,
        sessions: Option<&Sessions>,
    ) -> Self {
        let id = principal.id.to_string();
        let who = principal.display.as_deref().map_or_else(|| id.clone(), str::to_owned);
        // Signing out ends at the issuer, where the form's answer leads.
        let policy = sessions.and_then(|sessions| {
            let policy = super::POLICY
                .replace("form-action 'self'", &format!("form-action 'self' {}", origin(sessions.issuer())?));
            HeaderValue::from_str(&policy).ok()
        });
        Self { base, who, principal: id, active, signs_out: sessions.is_some(), next: None, policy }
    }

    /// Of nobody.
    pub const fn nobody(base: &'static str) -> Self {
        Self {
            base,
            who: String::new(),
            principal: String::new(),
            active: "",
            signs_out: false,
            next: None,
            policy: None,
        }
    }

    /// Where a page is.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The menu.
    pub const fn places(&self) -> &'static [Place] {
        &PLACES
    }
}

/// Scheme, host and port of a URL, as a policy names them.
fn origin(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let authority = uri.authority()?.as_str();
    let scheme = uri.scheme_str()?;
    authority.chars().all(plain).then(|| format!("{scheme}://{authority}"))
}

/// A page, made.
pub(super) fn html(status: StatusCode, frame: &Frame, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let mut response =
                (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response();
            if let Some(policy) = &frame.policy {
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
            }
            response
        }
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "notice.html")]
pub(super) struct Notice<'a> {
    frame: Frame,
    title: &'a str,
    lines: Vec<&'a str>,
}

impl Notice<'_> {
    /// Says it.
    pub fn page(status: StatusCode, frame: Frame, message: &str) -> Response {
        let title = match status {
            StatusCode::FORBIDDEN => "You may not see this",
            StatusCode::NOT_FOUND => "There is nothing here",
            StatusCode::BAD_REQUEST => "That was no question",
            _ => "This does not work now",
        };
        let notice = Notice { frame, title, lines: message.lines().collect() };
        html(status, &notice.frame, &notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_an_issuers_origin_and_nothing_that_would_end_its_directive() {
        assert_eq!(
            origin("https://login.example:8443/tenant/v2.0").as_deref(),
            Some("https://login.example:8443")
        );
        assert_eq!(origin("https://login.example; script-src *"), None);
        assert_eq!(origin("https://a'b/"), None);
        assert_eq!(origin("urn:x"), None);
    }

    #[test]
    fn what_callers_chose_is_shown_as_text() {
        let mut frame = Frame::nobody("");
        frame.who = "<script>alert(1)</script>".to_owned();
        let notice = Notice { frame, title: "t", lines: vec!["\"><img src=x onerror=y>"] };
        let page = notice.render().unwrap();
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    }
}
