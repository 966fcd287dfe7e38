//! Logout tokens of an issuer (OpenID Connect Back-Channel Logout 1.0, 2.6).

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Reason, Rejection, Verifier, claims, jws::Jws};
use crate::time::Timestamp;

/// The one event that a logout token speaks of.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// A logout token is no older than this, whatever it says of its end.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The longest `jti`, `sid` and `sub`, in bytes.
const MAX_TEXT: usize = 1_024;

/// Whose sessions end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutToken {
    /// `jti`: it is good once.
    pub id: String,
    /// `sub`: all sessions of this subject, or the one of `session`.
    pub subject: Option<String>,
    /// `sid`.
    pub session: Option<String>,
    /// Until when it must be remembered, so that it is good once.
    pub remember_until: Timestamp,
}

impl Verifier {
    /// Verifies a logout token of the issuer called `issuer` for `client`. Whether it was used before
    /// is not known here.
    ///
    /// # Errors
    /// [`Rejection`].
    pub async fn logout_token(
        &self,
        issuer: &str,
        client: &str,
        token: &str,
    ) -> Result<LogoutToken, Rejection> {
        let jws = Jws::parse_logout(token)?;
        let keyring = self.keyring(&jws)?;
        if *keyring.issuer.name != *issuer {
            return Err(Rejection::new(Reason::Issuer).found(&keyring.issuer.name).expected(issuer));
        }
        super::verifier::accepted(&keyring.issuer, jws.algorithm)?;
        let now = self.now();
        let named = read(&jws.claims, client, keyring.issuer.leeway, now)?;
        self.signed(&keyring, jws.algorithm, &jws.key_id, jws.signed, jws.signature).await?;
        Ok(named)
    }
}

/// What the claims say: pure.
fn read(
    claims: &Map<String, Value>,
    client: &str,
    leeway: Duration,
    now: Timestamp,
) -> Result<LogoutToken, Rejection> {
    let wrong = |what: &str| Rejection::new(Reason::Claim).expected(what);
    let text = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= MAX_TEXT => Ok(Some(text.clone())),
        Some(_) => Err(wrong("`jti`, `sub` and `sid` are short strings")),
    };
    let ours = match claims.get("aud") {
        Some(Value::String(one)) => one == client,
        Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(|one| one == client),
        Some(_) | None => false,
    };
    if !ours {
        return Err(Rejection::new(Reason::Audience).expected(client));
    }
    let event = claims.get("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(wrong("`events` with the event of back-channel logout"));
    }
    // What has one is an ID token that somebody would pass off as this.
    if claims.contains_key("nonce") {
        return Err(wrong("no `nonce`"));
    }
    let id = text("jti")?.ok_or_else(|| wrong("`jti`"))?;
    let (subject, session) = (text("sub")?, text("sid")?);
    if subject.is_none() && session.is_none() {
        return Err(wrong("`sub`, `sid` or both"));
    }
    let issued = claims::date(claims, "iat")?.ok_or_else(|| wrong("`iat`"))?;
    if now.plus(leeway) < issued {
        return Err(Rejection::new(Reason::IssuedInFuture));
    }
    let oldest = issued.plus(MAX_AGE);
    let ends = claims::date(claims, "exp")?.map_or(oldest, |end| end.min(oldest));
    if now >= ends.plus(leeway) {
        return Err(Rejection::new(Reason::Expired));
    }
    Ok(LogoutToken { id, subject, session, remember_until: ends.plus(leeway).plus(leeway) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(change: impl FnOnce(&mut Map<String, Value>)) -> Result<LogoutToken, Reason> {
        let claims = json!({
            "iss": "https://idp", "aud": "console", "iat": 1_000, "exp": 1_100, "jti": "j",
            "sub": "ada", "sid": "s", "events": {EVENT: {}},
        });
        let mut claims = claims.as_object().unwrap().clone();
        change(&mut claims);
        read(&claims, "console", Duration::from_secs(10), Timestamp::from_secs(1_050)).map_err(|r| r.reason())
    }

    fn with(name: &str, value: Value) -> Result<LogoutToken, Reason> {
        judged(|claims| drop(claims.insert(name.to_owned(), value)))
    }

    fn without(name: &str) -> Result<LogoutToken, Reason> {
        judged(|claims| drop(claims.remove(name)))
    }

    #[test]
    fn a_logout_token_names_a_subject_a_session_or_both() {
        let both = judged(|_| ()).unwrap();
        assert_eq!((both.subject.as_deref(), both.session.as_deref()), (Some("ada"), Some("s")));
        assert_eq!(without("sub").unwrap().subject, None);
        assert_eq!(without("sid").unwrap().session, None);
        assert!(with("aud", json!(["other", "console"])).is_ok());
        assert!(without("exp").is_ok());
        let neither = judged(|claims| {
            claims.remove("sub");
            claims.remove("sid");
        });
        assert_eq!(neither, Err(Reason::Claim));
    }

    #[test]
    fn what_is_not_a_logout_token_for_this_client_now_is_refused() {
        for (name, value, reason) in [
            ("aud", json!("other"), Reason::Audience),
            ("aud", json!(["console", 1]), Reason::Audience),
            ("aud", json!({"a": "console"}), Reason::Audience),
            ("events", json!({}), Reason::Claim),
            ("events", json!([EVENT]), Reason::Claim),
            ("events", json!({EVENT: true}), Reason::Claim),
            ("nonce", json!("n"), Reason::Claim),
            ("jti", json!(1), Reason::Claim),
            ("jti", json!(""), Reason::Claim),
            ("sid", json!(null), Reason::Claim),
            ("iat", json!("1000"), Reason::Claim),
            ("iat", json!(1_061), Reason::IssuedInFuture),
            ("iat", json!(700), Reason::Expired),
            ("exp", json!(1_040), Reason::Expired),
            ("exp", json!(false), Reason::Claim),
        ] {
            assert_eq!(with(name, value.clone()), Err(reason), "{name}: {value}");
        }
        for name in ["aud", "events", "jti", "iat"] {
            assert!(without(name).is_err(), "{name}");
        }
    }

    #[test]
    fn no_token_of_another_type_is_one_and_it_is_no_callers() {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let token = |typ: Option<&str>| {
            let mut header = json!({"alg": "RS256", "kid": "k"});
            if let Some(typ) = typ {
                header["typ"] = typ.into();
            }
            format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode("{}"))
        };
        for typ in [None, Some("logout+jwt"), Some("application/logout+jwt"), Some("JWT")] {
            assert!(Jws::parse_logout(&token(typ)).is_ok(), "{typ:?}");
        }
        for typ in ["at+jwt", "vnd.backstage.user", "dpop+jwt", "secevent+jwt", ""] {
            let refused = Jws::parse_logout(&token(Some(typ))).map(drop).unwrap_err();
            assert_eq!(refused.reason(), Reason::Type, "{typ}");
        }
        assert!(Jws::parse(&token(Some("logout+jwt"))).is_err());
    }

    #[test]
    fn it_is_remembered_for_longer_than_it_is_good() {
        let named = judged(|_| ()).unwrap();
        assert_eq!(named.remember_until, Timestamp::from_secs(1_120));
    }
}
