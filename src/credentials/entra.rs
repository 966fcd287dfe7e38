//! Tokens of Entra: client secret, certificate assertion, federated assertion.

use std::{path::Path, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{
    Challenge, CredentialError, CredentialSettings, Proof, challenge,
    error::{refused, refused_for_caller, retry_after},
};
use crate::{
    net::{Connector, FetchLimits},
    time::Timestamp,
};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ON_BEHALF_OF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// A federated token's file is no larger.
const MAX_ASSERTION: u64 = 64 << 10;

/// Room for a token request, in bytes: an assertion with its chain fits.
const FORM: usize = 16 << 10;

/// What a source answers.
pub(super) struct Fetched {
    pub token: SecretString,
    /// From now.
    pub expires_in: Duration,
    /// When the issuer wants it to be renewed, from now.
    pub refresh_in: Option<Duration>,
}

/// What a token is asked for with.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The resource, without `/.default`.
    pub resource: &'a str,
    /// Claims that Azure demanded.
    pub challenge: Option<&'a Challenge>,
    /// The token of the caller on whose behalf it is; none if the credential asks for itself.
    pub assertion: Option<&'a SecretString>,
    /// The machine's token that stands for the application's secret, where one does.
    pub machine: Option<&'a SecretString>,
}

/// Asks the token endpoint once.
pub(super) async fn fetch(
    settings: &CredentialSettings,
    connector: &Connector,
    asked: Asked<'_>,
    now: Timestamp,
) -> Result<Fetched, CredentialError> {
    let Asked { resource, challenge, assertion, machine } = asked;
    let tenant = given_or(settings.tenant.as_deref(), "AZURE_TENANT_ID", "add `tenant` to the credential")?;
    let client =
        given_or(settings.client_id.as_deref(), "AZURE_CLIENT_ID", "add `client_id` to the credential")?;
    let path = format!("/{tenant}/oauth2/v2.0/token");
    let scope = format!("{resource}/.default");
    let claims = challenge.map_or_else(|| challenge::capable().to_string(), |c| c.claims().to_owned());
    let (kind, proof) = proof(settings, &client, &path, machine, now).await?;
    let form = {
        // Large enough not to grow: what it grew out of would not be wiped.
        let room = FORM + assertion.map_or(0, |token| 3 * token.expose_secret().len());
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(room));
        match assertion {
            None => form.append_pair("grant_type", "client_credentials"),
            Some(token) => form
                .append_pair("grant_type", ON_BEHALF_OF)
                .append_pair("requested_token_use", "on_behalf_of")
                .append_pair("assertion", token.expose_secret()),
        };
        form.append_pair("client_id", &client)
            .append_pair("scope", &scope)
            .append_pair("claims", &claims)
            .append_pair(kind, proof.expose_secret());
        if kind == "client_assertion" {
            form.append_pair("client_assertion_type", ASSERTION);
        }
        Zeroizing::new(form.finish().into_bytes())
    };
    let request = Request::post(&path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Bytes::from_owner(form))
        .map_err(|_| CredentialError::local("the token request cannot be built", "check `tenant`"))?;
    let answer = connector
        .send(&settings.authority, request, FetchLimits::default())
        .await
        .map_err(|e| CredentialError::passing(e.to_string()))?;
    if !answer.status().is_success() {
        let pause = retry_after(answer.headers());
        return Err(match assertion {
            None => refused(answer.status(), answer.body(), pause),
            Some(_) => refused_for_caller(answer.status(), answer.body(), pause),
        });
    }
    read_answer(answer.body(), now)
}

/// What the credential, or else the environment, says.
fn given_or(given: Option<&str>, name: &'static str, mend: &'static str) -> Result<String, CredentialError> {
    given.map(str::to_owned).or_else(|| std::env::var(name).ok()).ok_or_else(|| {
        CredentialError::local(format!("`{name}` is not set and the credential names none"), mend)
    })
}

/// The parameter by which the credential proves itself, and its value.
async fn proof(
    settings: &CredentialSettings,
    client: &str,
    path: &str,
    machine: Option<&SecretString>,
    now: Timestamp,
) -> Result<(&'static str, SecretString), CredentialError> {
    match &settings.proof {
        Proof::Secret(secret) => Ok(("client_secret", secret.clone())),
        Proof::Certificate { certificate, private_key, send_chain } => {
            let url = format!("{}{path}", settings.authority);
            let claim = Claim { certificate: Arc::clone(certificate), client: client.to_owned(), url, now };
            let (key, chain) = (private_key.clone(), *send_chain);
            // RSA signing costs half a millisecond: not on a thread that serves requests.
            let signed = tokio::task::spawn_blocking(move || claim.sign(&key, chain))
                .await
                .map_err(|_| CredentialError::passing("the assertion could not be signed"))??;
            Ok(("client_assertion", signed))
        }
        Proof::WorkloadIdentity { token_file } => {
            let file = match token_file {
                Some(file) => file.clone(),
                None => given_or(
                    None,
                    "AZURE_FEDERATED_TOKEN_FILE",
                    "add `token_file`, or run with workload identity",
                )?
                .into(),
            };
            Ok(("client_assertion", read(&file).await?))
        }
        Proof::ManagedIdentity { .. } => {
            let token = machine.ok_or_else(|| {
                CredentialError::local(
                    "a managed identity has no token endpoint",
                    "this is a fault of the gate",
                )
            })?;
            Ok(("client_assertion", token.clone()))
        }
    }
}

/// Reads a token answer; numbers may come as strings.
pub(super) fn read_answer(body: &[u8], now: Timestamp) -> Result<Fetched, CredentialError> {
    #[derive(serde::Deserialize)]
    struct Answer {
        access_token: SecretString,
        expires_in: Option<Number>,
        expires_on: Option<Number>,
        refresh_in: Option<Number>,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    let seconds = |n: Number| match n {
        Number::Number(n) => Some(n),
        Number::Text(text) => text.parse().ok(),
    };
    let wrong = || CredentialError::passing("the token endpoint's answer is no token");
    let answer: Answer = serde_json::from_slice(body).map_err(|_| wrong())?;
    let lives = answer.expires_in.and_then(seconds);
    let until = answer.expires_on.and_then(seconds).map(|on| on.saturating_sub(now.as_secs()));
    Ok(Fetched {
        token: answer.access_token,
        expires_in: Duration::from_secs(lives.or(until).ok_or_else(wrong)?),
        refresh_in: answer.refresh_in.and_then(seconds).map(Duration::from_secs),
    })
}

async fn read(file: &Path) -> Result<SecretString, CredentialError> {
    let failed = |why: String| {
        CredentialError::local(
            format!("the federated token in `{}` cannot be read: {why}", file.display()),
            "check that the volume is mounted and readable",
        )
    };
    let size = tokio::fs::metadata(file).await.map_err(|e| failed(e.to_string()))?.len();
    if size > MAX_ASSERTION {
        return Err(failed(format!("it has {size} bytes")));
    }
    let text = tokio::fs::read_to_string(file).await.map_err(|e| failed(e.to_string()))?;
    Ok(SecretString::from(text.trim().to_owned()))
}

/// A client assertion (RFC 7523) to be signed.
struct Claim {
    certificate: Arc<[u8]>,
    client: String,
    url: String,
    now: Timestamp,
}

impl Claim {
    fn sign(&self, key: &SecretString, send_chain: bool) -> Result<SecretString, CredentialError> {
        const MEND: &str = "give the certificate and its RSA key in PEM form";
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&self.certificate).filter_map(Result::ok).collect();
        let leaf = chain
            .first()
            .ok_or_else(|| CredentialError::local("the client certificate cannot be read", MEND))?;
        let key = EncodingKey::from_rsa_pem(key.expose_secret().as_bytes())
            .map_err(|_| CredentialError::local("the client certificate's key cannot be read", MEND))?;
        let mut head = Header::new(Algorithm::PS256);
        head.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, leaf).as_ref()));
        if send_chain {
            head.x5c =
                Some(chain.iter().map(|c| base64::engine::general_purpose::STANDARD.encode(c)).collect());
        }
        let issued = self.now.as_secs();
        let claims = serde_json::json!({
            "aud": self.url,
            "iss": self.client,
            "sub": self.client,
            "jti": uuid::Uuid::new_v4().to_string(),
            "nbf": issued.saturating_sub(5),
            "iat": issued,
            "exp": issued + 600,
        });
        jsonwebtoken::encode(&head, &claims, &key)
            .map(SecretString::from)
            .map_err(|_| CredentialError::local("the client assertion cannot be signed", MEND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_come_as_strings_and_as_instants() {
        let now = Timestamp::from_secs(1_000);
        let answer =
            |text: &str| read_answer(text.as_bytes(), now).map(|f| (f.expires_in.as_secs(), f.refresh_in));
        assert_eq!(answer(r#"{"access_token":"t","expires_in":3599}"#).unwrap(), (3_599, None));
        assert_eq!(answer(r#"{"access_token":"t","expires_in":"3599"}"#).unwrap().0, 3_599);
        assert_eq!(answer(r#"{"access_token":"t","expires_on":"4600"}"#).unwrap().0, 3_600);
        assert!(answer(r#"{"access_token":"t"}"#).is_err());
        assert!(answer(r#"{"error":"x"}"#).is_err());
    }

    #[test]
    fn an_assertion_is_what_entra_documents_and_verifies_with_the_certificate() {
        let key =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["gate".to_owned()]).unwrap().self_signed(&key).unwrap();
        let claim = Claim {
            certificate: certificate.pem().into_bytes().into(),
            client: "client".into(),
            url: "https://login.microsoftonline.com/t/oauth2/v2.0/token".into(),
            now: Timestamp::from_secs(1_800_000_000),
        };
        let signed = claim.sign(&SecretString::from(key.serialize_pem()), true).unwrap();
        let head = jsonwebtoken::decode_header(signed.expose_secret()).unwrap();
        assert_eq!(head.alg, Algorithm::PS256);
        assert_eq!(
            head.x5t_s256.unwrap(),
            URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate.der()).as_ref())
        );
        assert_eq!(head.x5c.unwrap().len(), 1);
        let mut validation = jsonwebtoken::Validation::new(Algorithm::PS256);
        validation.set_audience(&["https://login.microsoftonline.com/t/oauth2/v2.0/token"]);
        validation.validate_exp = false;
        let public = jsonwebtoken::DecodingKey::from_rsa_pem(key.public_key_pem().as_bytes()).unwrap();
        let claims = jsonwebtoken::decode::<serde_json::Value>(signed.expose_secret(), &public, &validation)
            .unwrap()
            .claims;
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("client"), Some("client")));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
    }
}
