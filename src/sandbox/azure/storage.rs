//! Blob storage: what an upload and a download by signed URL need.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    Shared,
    access::{self, Service},
    call::Call,
    names,
    world::Blob,
};
use crate::time::Timestamp;

/// How long a signed URL lives.
const LIFE: std::time::Duration = std::time::Duration::from_secs(8 * 3_600);

/// The storage account's id.
pub fn account_id() -> String {
    format!("{}/providers/Microsoft.Storage/storageAccounts/{}", names::group_id(), names::ACCOUNT)
}

/// Signs and checks shared access signatures for a container.
#[derive(Debug)]
pub struct Sas {
    key: hmac::Key,
}

impl Sas {
    /// A new key.
    pub fn new() -> Self {
        let secret = uuid::Uuid::new_v4();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }

    fn sign(&self, container: &str, permissions: &str, expires: &str) -> String {
        let text = format!("{container}\n{permissions}\n{expires}");
        STANDARD.encode(hmac::sign(&self.key, text.as_bytes()))
    }

    /// The query of a URL that may do `permissions` anywhere in `container`.
    pub fn container(&self, container: &str, permissions: &str, now: Timestamp) -> String {
        let expires = now.plus(LIFE).to_utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        form_urlencoded::Serializer::new(String::new())
            .append_pair("sv", "2023-11-03")
            .append_pair("sr", "c")
            .append_pair("sp", permissions)
            .append_pair("se", &expires)
            .append_pair("sig", &self.sign(container, permissions, &expires))
            .finish()
    }

    /// Whether the query's signature stands and gives `permission`.
    fn allows(&self, call: &Call, container: &str, permission: char, now: Timestamp) -> bool {
        let get = |key: &str| call.query(key).unwrap_or_default();
        let (permissions, expires) = (get("sp"), get("se"));
        let signature = STANDARD.decode(get("sig")).unwrap_or_default();
        let text = format!("{container}\n{permissions}\n{expires}");
        let in_time = chrono::DateTime::parse_from_rfc3339(expires).is_ok_and(|e| e > now.to_utc());
        in_time
            && permissions.contains(permission)
            && hmac::verify(&self.key, text.as_bytes(), &signature).is_ok()
    }
}

/// An error in storage's shape: a header and a little XML.
fn refuse(status: StatusCode, code: &'static str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
    );
    (status, [("x-ms-error-code", code), ("content-type", "application/xml")], body).into_response()
}

/// Answers a request for `/{container}/{blob}`; `skip` segments come before the container.
pub fn serve(shared: &Shared, call: &Call, skip: usize) -> Response {
    let mut segments = call.segments.iter().skip(skip);
    let Some(container) = segments.next().cloned() else {
        return refuse(StatusCode::BAD_REQUEST, "InvalidUri");
    };
    let path: Vec<&str> = segments.map(String::as_str).collect();
    let path = path.join("/");
    let method = &call.method;
    let permission = match *method {
        Method::GET if path.is_empty() => 'l',
        Method::GET | Method::HEAD => 'r',
        Method::DELETE => 'd',
        _ => 'w',
    };
    if !may(shared, call, &container, permission) {
        return if call.query("sig").is_some() || access::bearer(call).is_some() {
            refuse(StatusCode::FORBIDDEN, "AuthenticationFailed")
        } else {
            refuse(StatusCode::UNAUTHORIZED, "NoAuthenticationInformation")
        };
    }
    if ![names::CONTAINER, names::IMMUTABLE_CONTAINER].contains(&&*container) {
        return refuse(StatusCode::NOT_FOUND, "ContainerNotFound");
    }
    let key = format!("{container}/{path}");
    let changes =
        *method == Method::DELETE || (*method == Method::PUT && call.query("comp") != Some("block"));
    if changes
        && container == names::IMMUTABLE_CONTAINER
        && shared.with(|world| world.blobs.contains_key(&key))
    {
        // A condition that does not hold is found first.
        let code = match call.header("if-none-match") {
            Some("*") => "BlobAlreadyExists",
            _ => "BlobImmutableDueToPolicy",
        };
        return refuse(StatusCode::CONFLICT, code);
    }
    if path.is_empty() {
        return match *method {
            Method::GET if call.query("comp") == Some("list") => list(shared, call, &container),
            Method::GET if call.query("restype") != Some("container") => {
                refuse(StatusCode::BAD_REQUEST, "InvalidQueryParameterValue")
            }
            _ => container_properties(method, &container),
        };
    }
    match *method {
        Method::GET | Method::HEAD => read(shared, call, &key),
        Method::PUT => write(shared, call, &key),
        Method::DELETE => {
            let gone = shared.with(|world| world.blobs.remove(&key).is_some());
            if gone {
                StatusCode::ACCEPTED.into_response()
            } else {
                refuse(StatusCode::NOT_FOUND, "BlobNotFound")
            }
        }
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb"),
    }
}

/// By signature, or by an Entra token with a data role.
fn may(shared: &Shared, call: &Call, container: &str, permission: char) -> bool {
    if call.query("sig").is_some() {
        return shared.sas.allows(call, container, permission, shared.clock.now());
    }
    let right = match permission {
        'r' | 'l' => "read",
        'd' => "delete",
        _ => "write",
    };
    let action = format!("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/{right}");
    access::authenticate(shared, call, Service::Storage)
        .and_then(|caller| access::authorize(shared, &caller, &action, &account_id()))
        .is_ok()
}

fn container_properties(method: &Method, container: &str) -> Response {
    let immutable = if container == names::IMMUTABLE_CONTAINER { "true" } else { "false" };
    match *method {
        Method::GET | Method::HEAD => {
            ([("x-ms-has-immutability-policy", immutable), ("x-ms-has-legal-hold", "false")], ())
                .into_response()
        }
        _ => refuse(StatusCode::CONFLICT, "ContainerAlreadyExists"),
    }
}

fn headers(blob: &Blob) -> Vec<(HeaderName, HeaderValue)> {
    let date = blob.modified.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut all = vec![
        ("content-type".to_owned(), blob.content_type.clone()),
        ("etag".to_owned(), format!("\"{}\"", blob.etag)),
        ("last-modified".to_owned(), date),
        ("x-ms-blob-type".to_owned(), "BlockBlob".to_owned()),
        ("x-ms-version".to_owned(), "2023-11-03".to_owned()),
        ("accept-ranges".to_owned(), "bytes".to_owned()),
    ];
    all.extend(blob.metadata.iter().map(|(name, value)| (format!("x-ms-meta-{name}"), value.clone())));
    all.into_iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?))).collect()
}

fn with_headers(mut response: Response, blob: &Blob) -> Response {
    response.headers_mut().extend(headers(blob));
    response
}

fn read(shared: &Shared, call: &Call, key: &str) -> Response {
    if call.query("comp") == Some("blocklist") {
        return blocks(shared, call, key);
    }
    let Some(blob) = shared.with(|world| world.blobs.get(key).cloned()) else {
        return refuse(StatusCode::NOT_FOUND, "BlobNotFound");
    };
    if call.method == Method::HEAD {
        let mut response = with_headers(StatusCode::OK.into_response(), &blob);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(blob.bytes.len()));
        return response;
    }
    let range = call.header("x-ms-range").or_else(|| call.header("range"));
    let Some(range) = range.and_then(|r| r.strip_prefix("bytes=")) else {
        return with_headers(Body::from(blob.bytes.clone()).into_response(), &blob);
    };
    let total = blob.bytes.len();
    let (from, to) = range.split_once('-').unwrap_or((range, ""));
    let from: usize = from.parse().unwrap_or_default();
    let to = to.parse::<usize>().map_or(total, |t| t.saturating_add(1)).min(total);
    if from >= to {
        let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
        if let Ok(value) = HeaderValue::from_str(&format!("bytes */{total}")) {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        return response;
    }
    let mut response = (StatusCode::PARTIAL_CONTENT, Body::from(blob.bytes.slice(from..to))).into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{total}", to - 1)) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    with_headers(response, &blob)
}

fn metadata(call: &Call) -> BTreeMap<String, String> {
    call.headers
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().strip_prefix("x-ms-meta-")?.to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect()
}

fn write(shared: &Shared, call: &Call, key: &str) -> Response {
    let now = shared.clock.now();
    let etag = uuid::Uuid::new_v4().simple().to_string();
    let content_type = call
        .header("x-ms-blob-content-type")
        .or_else(|| call.header("content-type"))
        .unwrap_or("application/octet-stream")
        .to_owned();
    match call.query("comp") {
        Some("block") => {
            let id = call.query("blockid").unwrap_or_default().to_owned();
            shared.with(|world| world.blocks.insert((key.to_owned(), id), call.body.clone()));
            StatusCode::CREATED.into_response()
        }
        Some("blocklist") => {
            if call.header("if-none-match") == Some("*") && shared.with(|world| world.blobs.contains_key(key))
            {
                return refuse(StatusCode::CONFLICT, "BlobAlreadyExists");
            }
            let listed = block_ids(&String::from_utf8_lossy(&call.body));
            let whole: Option<Vec<Bytes>> = shared.with(|world| {
                listed.iter().map(|id| world.blocks.remove(&(key.to_owned(), id.clone()))).collect()
            });
            let Some(whole) = whole else { return refuse(StatusCode::BAD_REQUEST, "InvalidBlockList") };
            let bytes = whole.concat().into();
            store(shared, key, Blob { bytes, content_type, metadata: metadata(call), modified: now, etag })
        }
        Some("metadata") => {
            let updated = shared.with(|world| {
                let blob = world.blobs.get_mut(key)?;
                blob.metadata = metadata(call);
                blob.etag = etag;
                blob.modified = now;
                Some(blob.clone())
            });
            updated.map_or_else(
                || refuse(StatusCode::NOT_FOUND, "BlobNotFound"),
                |blob| with_headers(StatusCode::OK.into_response(), &blob),
            )
        }
        Some(_) => refuse(StatusCode::BAD_REQUEST, "InvalidQueryParameterValue"),
        None => {
            if call.header("x-ms-blob-type") != Some("BlockBlob") {
                return refuse(StatusCode::BAD_REQUEST, "MissingRequiredHeader");
            }
            if call.header("if-none-match") == Some("*") && shared.with(|world| world.blobs.contains_key(key))
            {
                return refuse(StatusCode::CONFLICT, "BlobAlreadyExists");
            }
            let bytes = call.body.clone();
            store(shared, key, Blob { bytes, content_type, metadata: metadata(call), modified: now, etag })
        }
    }
}

fn store(shared: &Shared, key: &str, blob: Blob) -> Response {
    let response = with_headers(StatusCode::CREATED.into_response(), &blob);
    shared.with(|world| world.blobs.insert(key.to_owned(), blob));
    response
}

/// The blocks of a blob that were not committed.
fn blocks(shared: &Shared, call: &Call, key: &str) -> Response {
    let blocks: Vec<(String, usize)> = shared.with(|world| {
        let of_blob = world.blocks.iter().filter(|((blob, _), _)| blob == key);
        of_blob.map(|((_, id), bytes)| (id.clone(), bytes.len())).collect()
    });
    if !matches!(call.query("blocklisttype"), Some("uncommitted")) {
        return refuse(StatusCode::BAD_REQUEST, "InvalidQueryParameterValue");
    }
    if blocks.is_empty() && !shared.with(|world| world.blobs.contains_key(key)) {
        return refuse(StatusCode::NOT_FOUND, "BlobNotFound");
    }
    let blocks: String = blocks
        .iter()
        .map(|(id, size)| format!("<Block><Name>{id}</Name><Size>{size}</Size></Block>"))
        .collect();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><UncommittedBlocks>{blocks}</UncommittedBlocks></BlockList>"
    );
    ([("content-type", "application/xml")], body).into_response()
}

/// The ids in a block list: a flat XML of `Latest`, `Uncommitted` and `Committed` elements.
fn block_ids(xml: &str) -> Vec<String> {
    xml.split("</")
        .filter_map(|part| {
            let (element, id) = part.rsplit_once('>')?;
            let (_, name) = element.rsplit_once('<')?;
            matches!(name, "Latest" | "Uncommitted" | "Committed").then(|| id.to_owned())
        })
        .collect()
}

fn list(shared: &Shared, call: &Call, container: &str) -> Response {
    let prefix = format!("{container}/{}", call.query("prefix").unwrap_or_default());
    let blobs: String = shared.with(|world| {
        world
            .blobs
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(key, blob)| {
                let name = key.strip_prefix(&format!("{container}/")).unwrap_or(key);
                let name = name.replace('&', "&amp;").replace('<', "&lt;");
                format!(
                    "<Blob><Name>{name}</Name><Properties><Content-Length>{}</Content-Length><BlobType>BlockBlob</BlobType><Etag>{}</Etag></Properties></Blob>",
                    blob.bytes.len(),
                    blob.etag
                )
            })
            .collect()
    });
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{container}\"><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
    );
    ([("content-type", "application/xml")], body).into_response()
}
