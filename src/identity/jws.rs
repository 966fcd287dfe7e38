//! The form of a token, before anything in it is believed: a compact JWS (RFC 7515) of two JSON
//! objects.
//!
//! Everything here is cheap and bounded, so that junk costs the sender more than the gate. Keys
//! that a header carries or points to (`jwk`, `jku`, `x5c`, `x5u`) are never read: the key comes
//! from the configured issuer's set.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    json,
    rejection::{Reason, Rejection},
    settings::SignatureAlgorithm,
};

/// The longest token that is looked at, in bytes: real Entra tokens with many groups reach 32 KiB.
pub const MAX_TOKEN: usize = 48 << 10;
/// The longest `kid`, in bytes.
const MAX_KEY_ID: usize = 256;
/// How deep header and payload may nest.
const MAX_DEPTH: u8 = 16;

/// What `typ` says that the token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// An access token of the usual kind, or nothing is said.
    Access,
    /// A Backstage user's.
    BackstageUser,
    /// A Backstage plugin's, for a user or for itself.
    BackstagePlugin,
    /// A Backstage user's that counts inside a plugin's alone.
    BackstageLimited,
}

/// A well-formed token: nothing in it is verified.
pub(super) struct Jws<'a> {
    /// From the header: one of ours, so never `none` or an HMAC.
    pub algorithm: SignatureAlgorithm,
    /// From the header.
    pub key_id: Box<str>,
    /// From the header.
    pub kind: TokenKind,
    /// All claims.
    pub claims: Map<String, Value>,
    /// What is signed: header and payload as sent.
    pub signed: &'a str,
    /// The signature, base64url.
    pub signature: &'a str,
}

impl<'a> Jws<'a> {
    /// Takes a token apart that somebody bears.
    pub fn parse(token: &'a str) -> Result<Self, Rejection> {
        let jws = Self::of_kind(token, of_caller)?;
        // It proves who the user is to whoever already trusts the sender: no right goes with it.
        if jws.kind == TokenKind::BackstageLimited {
            return Err(Rejection::new(Reason::LimitedUser)
                .found("`typ` vnd.backstage.limited-user")
                .expected("`vnd.backstage.user`, the user's own token"));
        }
        Ok(jws)
    }

    /// Takes the limited user token apart that a plugin's token holds.
    pub fn limited(token: &'a str) -> Result<Self, Rejection> {
        let jws = Self::of_kind(token, of_caller)?;
        if jws.kind == TokenKind::BackstageLimited {
            return Ok(jws);
        }
        let rejection = Rejection::new(Reason::Type).found("`obo`: another kind of token");
        Err(rejection.expected("`obo`: `typ` vnd.backstage.limited-user"))
    }

    /// Takes a logout token apart: its own `typ`, or the one that any token may have
    /// (OpenID Connect Back-Channel Logout 1.0, 2.4).
    pub fn parse_logout(token: &'a str) -> Result<Self, Rejection> {
        Self::of_kind(token, of_logout)
    }

    fn of_kind(token: &'a str, kind: Kind) -> Result<Self, Rejection> {
        let malformed = |what: &str| Rejection::new(Reason::Malformed).found(what);
        if token.len() > MAX_TOKEN {
            return Err(malformed("a longer token").expected(format_args!("at most {MAX_TOKEN} bytes")));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| segments(token))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| segments(token))?;
        if payload.contains('.') {
            return Err(segments(token));
        }
        let header = part(header, "header")?;
        let (algorithm, key_id, kind) = head(&header, kind)?;
        let claims = part(payload, "payload")?;
        if signature.is_empty() || URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(malformed("a signature that is no canonical base64url"));
        }
        Ok(Self { algorithm, key_id, kind, claims, signed, signature })
    }
}

fn segments(token: &str) -> Rejection {
    let found = match token.split('.').take(6).count() {
        5 => "an encrypted token (5 segments)".to_owned(),
        count => format!("{count} segments"),
    };
    Rejection::new(Reason::Malformed).found(found).expected("a signed token: 3 segments")
}

/// Decodes canonical base64url (no padding, no spare bits, no other alphabet) into an object.
fn part(text: &str, name: &str) -> Result<Map<String, Value>, Rejection> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| {
        Rejection::new(Reason::Malformed).found(format_args!("a {name} that is no canonical base64url"))
    })?;
    json::object(&bytes, MAX_DEPTH).map_err(|error| {
        Rejection::new(Reason::Malformed)
            .found(format_args!("a {name} that is no JSON object of one reading: {error}"))
    })
}

/// Which kind of token a `typ` says it is, if that kind is wanted.
type Kind = fn(Option<&Value>) -> Result<TokenKind, Rejection>;

fn head(
    header: &Map<String, Value>,
    kind: Kind,
) -> Result<(SignatureAlgorithm, Box<str>, TokenKind), Rejection> {
    for name in ["crit", "b64", "zip", "enc"] {
        if header.contains_key(name) {
            return Err(Rejection::new(Reason::Header).found(format_args!("the header `{name}`")));
        }
    }
    let algorithm = match header.get("alg") {
        Some(Value::String(name)) => name.parse().map_err(|_| {
            Rejection::new(Reason::Algorithm).found(name).expected("a signature with a public key")
        })?,
        other => return Err(absent_or_odd(Reason::Algorithm, "alg", other)),
    };
    let kind = kind(header.get("typ"))?;
    let key_id = match header.get("kid") {
        Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= MAX_KEY_ID => kid.as_str().into(),
        other => return Err(absent_or_odd(Reason::KeyId, "kid", other)),
    };
    Ok((algorithm, key_id, kind))
}

/// `typ` of a caller's token.
fn of_caller(typ: Option<&Value>) -> Result<TokenKind, Rejection> {
    Ok(match typ {
        None => TokenKind::Access,
        // Backstage's own types are compared to the letter, as Backstage does.
        Some(Value::String(name)) if name == "vnd.backstage.user" => TokenKind::BackstageUser,
        Some(Value::String(name)) if name == "vnd.backstage.plugin" => TokenKind::BackstagePlugin,
        Some(Value::String(name)) if name == "vnd.backstage.limited-user" => TokenKind::BackstageLimited,
        // Media types are compared without case, `application/` may be left out (RFC 7515, 4.1.9).
        Some(Value::String(name))
            if ["jwt", "at+jwt", "application/jwt", "application/at+jwt"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known)) =>
        {
            TokenKind::Access
        }
        Some(other) => {
            return Err(Rejection::new(Reason::Type)
                .found(format_args!("`typ` {other}"))
                .expected("`JWT`, `at+jwt` or none"));
        }
    })
}

/// `typ` of a logout token.
fn of_logout(typ: Option<&Value>) -> Result<TokenKind, Rejection> {
    const KNOWN: [&str; 4] = ["logout+jwt", "application/logout+jwt", "jwt", "application/jwt"];
    match typ {
        None => Ok(TokenKind::Access),
        Some(Value::String(name)) if KNOWN.iter().any(|known| name.eq_ignore_ascii_case(known)) => {
            Ok(TokenKind::Access)
        }
        Some(other) => Err(Rejection::new(Reason::Type)
            .found(format_args!("`typ` {other}"))
            .expected("`logout+jwt`, `JWT` or none")),
    }
}

fn absent_or_odd(reason: Reason, name: &str, value: Option<&Value>) -> Rejection {
    let rejection = Rejection::new(reason).expected(format_args!("`{name}`, a string"));
    match value {
        None => rejection.found("none"),
        Some(value) => rejection.found(value),
    }
}
