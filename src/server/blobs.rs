//! A container of Azure's blob storage in which the record's heads and old segments are kept. Blobs
//! are added and read back, never overwritten and never removed: a role that may add and read is
//! enough, and an immutability policy on the container costs nothing.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};

use super::{StartError, build};
use crate::{
    config::settings::ContainerSettings,
    credentials::{Credentials, ServicePurpose},
    net::{Destination, FetchLimits},
    time::SharedClock,
};

/// The version of the protocol.
const VERSION: &str = "2023-11-03";
/// A blob is added in blocks of so many bytes, so that one that was cut off is not begun anew.
const BLOCK: usize = 4 << 20;
/// What is answered to a question is small; a block or a blob takes its time.
const LIMITS: FetchLimits = FetchLimits { body: 8 << 20, time: Duration::from_secs(60) };

/// A container, or what lies under one prefix in it.
pub(super) struct Container {
    credentials: Credentials,
    credential: Arc<str>,
    to: Destination,
    container: String,
    /// Ends with `/`, or is empty.
    prefix: String,
    clock: SharedClock,
}

/// What became of a blob that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It is there now.
    Stored,
    /// One of that name was there already.
    There,
}

/// Whether blobs of a container can be changed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// An immutability policy forbids it.
    Immutable,
    /// Whoever has the right can.
    Mutable,
}

impl Container {
    pub fn new(
        settings: &ContainerSettings,
        credentials: &Credentials,
        clock: &SharedClock,
    ) -> Result<Self, StartError> {
        let to = build::destination(&settings.url).at(settings.address);
        Ok(Self {
            credentials: credentials.clone(),
            credential: Arc::clone(&settings.credential),
            to: build::trusting(to, &settings.container, settings.trust.as_ref())?,
            container: settings.container.clone(),
            prefix: settings.prefix.clone(),
            clock: Arc::clone(clock),
        })
    }

    /// Where a blob is, for people.
    pub fn url(&self, name: &str) -> String {
        format!("https://{}/{}/{}{name}", self.to.authority(), self.container, self.prefix)
    }

    /// Adds a small blob whole.
    pub async fn add(&self, name: &str, bytes: Bytes) -> Result<Added, String> {
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-blob-type", header::HeaderValue::from_static("BlockBlob"));
        headers.insert(header::IF_NONE_MATCH, header::HeaderValue::from_static("*"));
        added(self.blob(Method::PUT, name, "", headers, bytes).await?, &self.credential)
    }

    /// Adds a blob in blocks; those that are there from before, for the same content, are not sent
    /// again. `mark` tells contents apart: their digest.
    pub async fn add_in_blocks(&self, name: &str, bytes: &Bytes, mark: &[u8; 32]) -> Result<Added, String> {
        let there = self.left(name).await?;
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for (id, part) in blocks(bytes, mark) {
            if !there.contains(&(id.clone(), part.len())) {
                let query = form_urlencoded::Serializer::new("comp=block".to_owned())
                    .append_pair("blockid", &id)
                    .finish();
                let answer = self.blob(Method::PUT, name, &query, HeaderMap::new(), part).await?;
                if answer.status() != StatusCode::CREATED {
                    return Err(refused(&answer, &self.credential));
                }
            }
            list.push_str(&format!("<Latest>{id}</Latest>"));
        }
        list.push_str("</BlockList>");
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, header::HeaderValue::from_static("*"));
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/xml"));
        added(self.blob(Method::PUT, name, "comp=blocklist", headers, list.into()).await?, &self.credential)
    }

    /// The blocks of a blob that is not whole yet, with their sizes.
    async fn left(&self, name: &str) -> Result<Vec<(String, usize)>, String> {
        let query = "comp=blocklist&blocklisttype=uncommitted";
        let answer = self.blob(Method::GET, name, query, HeaderMap::new(), Bytes::new()).await?;
        match answer.status() {
            StatusCode::OK => {
                let text = String::from_utf8_lossy(answer.body());
                let blocks = text.split("<Block>").skip(1);
                Ok(blocks
                    .filter_map(|block| {
                        Some((element(block, "Name")?, element(block, "Size")?.parse().ok()?))
                    })
                    .collect())
            }
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            _ => Err(refused(&answer, &self.credential)),
        }
    }

    /// Reads a part of a blob; `None` if there is no such blob. Fewer bytes than asked for are its end.
    pub async fn part(&self, name: &str, from: u64, most: usize) -> Result<Option<Bytes>, String> {
        let mut headers = HeaderMap::new();
        let range = format!("bytes={from}-{}", from.saturating_add(most as u64).saturating_sub(1));
        headers.insert("x-ms-range", range.parse().map_err(|_| "the range is none")?);
        let answer = self.blob(Method::GET, name, "", headers, Bytes::new()).await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => Ok(Some(answer.into_body())),
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Some(Bytes::new())),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refused(&answer, &self.credential)),
        }
    }

    /// Whether the container is there, and keeps what it was given.
    pub async fn kept(&self) -> Result<Kept, String> {
        let path = format!("/{}?restype=container", self.container);
        let answer = self.ask(Method::GET, path, HeaderMap::new(), Bytes::new()).await?;
        if answer.status() != StatusCode::OK {
            return Err(refused(&answer, &self.credential));
        }
        let says = |name: &str| answer.headers().get(name).is_some_and(|value| value == "true");
        let kept = ["x-ms-has-immutability-policy", "x-ms-immutable-storage-with-versioning-enabled"];
        Ok(if kept.into_iter().any(says) { Kept::Immutable } else { Kept::Mutable })
    }

    async fn blob(
        &self,
        method: Method,
        name: &str,
        query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, String> {
        let between = if query.is_empty() { "" } else { "?" };
        let path = format!("/{}/{}{name}{between}{query}", self.container, self.prefix);
        self.ask(method, path, headers, body).await
    }

    async fn ask(
        &self,
        method: Method,
        path: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, String> {
        let token = self.credentials.service(ServicePurpose::RecordStorage, &self.credential).await;
        let token = token.map_err(|error| error.to_string())?;
        let date = self.clock.now().to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-ms-version", VERSION)
            .header("x-ms-date", date)
            .body(body)
            .map_err(|error| error.to_string())?;
        request.headers_mut().extend(headers);
        self.credentials
            .call_within(&token, &self.to, request, LIMITS)
            .await
            .map_err(|error| error.to_string())
    }
}

/// The blocks of a blob, each with its id: of one length, and another for every content.
fn blocks(bytes: &Bytes, mark: &[u8; 32]) -> impl Iterator<Item = (String, Bytes)> {
    (0..bytes.len().div_ceil(BLOCK)).map(|number| {
        let from = number * BLOCK;
        let id = [mark.get(..20).unwrap_or_default(), &(number as u32).to_be_bytes()].concat();
        (STANDARD.encode(id), bytes.slice(from..bytes.len().min(from + BLOCK)))
    })
}

/// What an element of a flat XML says.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.to_owned())
}

fn code(answer: &Response<Bytes>) -> &str {
    let code = answer.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok());
    code.filter(|code| code.bytes().all(|b| b.is_ascii_alphanumeric())).unwrap_or("no code")
}

fn added(answer: Response<Bytes>, credential: &str) -> Result<Added, String> {
    match (answer.status(), code(&answer)) {
        (StatusCode::CREATED, _) => Ok(Added::Stored),
        (
            StatusCode::CONFLICT,
            "BlobAlreadyExists" | "BlobImmutableDueToPolicy" | "BlobImmutableDueToLegalHold",
        )
        | (StatusCode::PRECONDITION_FAILED, _) => Ok(Added::There),
        _ => Err(refused(&answer, credential)),
    }
}

/// A refusal, and what mends it.
fn refused(answer: &Response<Bytes>, credential: &str) -> String {
    let (status, code) = (answer.status(), code(answer));
    let mend = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!(
                ": `{credential}` needs Storage Blob Data Contributor at the container, or a role that may add and read blobs there"
            )
        }
        StatusCode::NOT_FOUND => ": there is no such container".to_owned(),
        _ => String::new(),
    };
    format!("storage answered {status} ({code}){mend}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn blocks_make_up_the_blob_and_are_told_apart_by_place_and_content() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let whole: Bytes = (0..length).map(|n| (n % 251) as u8).collect();
            let (one, other) = ([1; 32], [2; 32]);
            let parts: Vec<_> = blocks(&whole, &one).collect();
            assert_eq!(parts.iter().map(|(_, part)| &part[..]).collect::<Vec<_>>().concat(), whole);
            assert_eq!(blocks(&whole, &one).collect::<Vec<_>>(), parts, "the same again");
            let ids: BTreeSet<_> = parts.iter().map(|(id, _)| id.clone()).collect();
            assert_eq!(ids.len(), parts.len());
            assert!(ids.iter().all(|id| id.len() == 32), "storage wants ids of one length");
            assert!(blocks(&whole, &other).all(|(id, _)| !ids.contains(&id)));
        }
    }

    #[test]
    fn only_what_says_that_a_blob_is_there_counts_as_that() {
        let answer = |status: u16, code: &'static str| {
            let answer = Response::builder().status(status).header("x-ms-error-code", code);
            added(answer.body(Bytes::new()).unwrap(), "gate")
        };
        assert_eq!(answer(201, ""), Ok(Added::Stored));
        assert_eq!(answer(409, "BlobAlreadyExists"), Ok(Added::There));
        assert_eq!(answer(409, "BlobImmutableDueToPolicy"), Ok(Added::There));
        for (status, code) in
            [(409, "ContainerBeingDeleted"), (403, "AuthorizationPermissionMismatch"), (500, "x")]
        {
            assert!(answer(status, code).is_err_and(|why| why.contains(code)), "{status}");
        }
    }
}
