//! The request target: parsed once, judged and forwarded from the same value.

use std::fmt;

/// A request target that admits one reading only: host, decoded path segments, decoded query.
///
/// What is authorised is what is forwarded: policy reads the decoded segments, the upstream gets
/// [`Target::path_and_query`], and both come from this value.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    host: Box<str>,
    path: Box<str>,
    segments: Vec<Box<str>>,
    query: Query,
}

/// The decoded query: each key once (keys are compared without case), order kept.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Query {
    raw: Box<str>,
    pairs: Vec<(Box<str>, Box<str>)>,
}

/// Why a target is refused, in words for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(pub Box<str>);

impl Target {
    /// Parses `host` (as in `Host`, port removed by the caller) and an origin-form target.
    ///
    /// # Errors
    /// Anything that two parsers could read differently: encoded slashes, dots or backslashes,
    /// empty or dot segments, control bytes, `;`, a second layer of encoding, repeated query keys.
    pub fn parse(host: &str, path_and_query: &str) -> Result<Self, TargetError> {
        let (path, raw) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let segments = path.split('/').skip(1).map(Into::into).collect();
        let pairs = form_urlencoded::parse(raw.as_bytes())
            .map(|(k, v)| (k.into_owned().into(), v.into_owned().into()))
            .collect();
        Ok(Self {
            host: host.to_ascii_lowercase().into(),
            path: path.into(),
            segments,
            query: Query { raw: raw.into(), pairs },
        })
    }

    /// The host in lower case, without port or trailing dot.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path as it is forwarded (percent-encoded, canonical).
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The decoded path segments, in order, none empty.
    #[must_use]
    pub fn segments(&self) -> &[Box<str>] {
        &self.segments
    }

    /// The decoded query.
    #[must_use]
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// What the upstream's request line carries: path, and `?` with the query's exact bytes if any.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        if self.query.raw.is_empty() {
            self.path.to_string()
        } else {
            format!("{}?{}", self.path, self.query.raw)
        }
    }

    /// The same target without the route's path prefix (whole segments, compared exactly);
    /// `None` if the path does not start with it.
    #[must_use]
    pub fn without_prefix(&self, prefix: &str) -> Option<Self> {
        let rest = self.path.strip_prefix(prefix.trim_end_matches('/'))?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let path: Box<str> = if rest.is_empty() { "/".into() } else { rest.into() };
        let skip = prefix.split('/').filter(|s| !s.is_empty()).count();
        let segments = self.segments.get(skip..).unwrap_or_default().to_vec();
        Some(Self { host: self.host.clone(), path, segments, query: self.query.clone() })
    }

    /// The same target without one query parameter, all other query bytes kept exactly
    /// (the polling capability of DECISIONS 16 is removed so).
    #[must_use]
    pub fn without_query(&self, key: &str) -> Self {
        let raw = self
            .query
            .raw
            .split('&')
            .filter(|pair| !pair.split('=').next().is_some_and(|k| k.eq_ignore_ascii_case(key)))
            .collect::<Vec<_>>()
            .join("&");
        let pairs = self.query.pairs.iter().filter(|(k, _)| !k.eq_ignore_ascii_case(key)).cloned().collect();
        Self { query: Query { raw: raw.into(), pairs }, ..self.clone() }
    }
}

impl fmt::Debug for Target {
    /// The query's values stay out: they may hold signatures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

impl Query {
    /// The value of `key`, compared without case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.as_ref())
    }

    /// The exact bytes after `?`.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// All pairs in order, decoded.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(k, v)| (k.as_ref(), v.as_ref()))
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(k, _)| k)).finish()
    }
}
