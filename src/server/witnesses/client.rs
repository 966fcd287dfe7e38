//! A C2SP witness, asked to vouch that the log only grew.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};

use crate::{
    audit::{note::Head, proof, proved::Consistency, storage::Directory, tiles::Tiled, witness::WitnessKey},
    config::values::BaseUrl,
    net::{Connector, Destination, FetchLimits, Reach, Trust},
};

/// What a witness answers is a few lines.
pub(super) const LIMITS: FetchLimits =
    FetchLimits { body: 64 << 10, time: std::time::Duration::from_secs(10) };

/// A witness, and how much of the log it saw.
pub(super) struct Client {
    path: String,
    to: Destination,
    key: WitnessKey,
    seen: u64,
    connector: Connector,
}

impl Client {
    /// A witness at a prefix of a URL.
    ///
    /// # Errors
    /// Words for one that cannot be reached.
    pub fn new(
        (url, prefix): (&BaseUrl, &str),
        key: WitnessKey,
        trust: Option<&[u8]>,
        address: Option<SocketAddr>,
        connector: &Connector,
    ) -> Result<Self, String> {
        let to = Destination::of(&url.to_uri()).ok_or_else(|| format!("`{}` cannot be reached", url.host))?;
        let trust = trust.map(|pem| Trust::new(Some(pem))).transpose();
        let mut to = to.at(address).trusting(trust.map_err(|e| e.to_string())?);
        // It is configured, and may be a gate beside this one.
        if to.reach == Reach::Public {
            to.reach = Reach::Private;
        }
        let between = if prefix.is_empty() { "" } else { "/" };
        let path = format!("/{prefix}{between}add-checkpoint");
        Ok(Self { path, to, key, seen: 0, connector: connector.clone() })
    }

    /// Whether somebody who judges heads is there: what was seen.
    pub async fn probe(&self) -> Result<String, String> {
        let answer = self.ask(String::new()).await?;
        match answer.status() {
            // A request that is none is refused as one.
            StatusCode::BAD_REQUEST => Ok(format!("`{}` judges heads", self.to.authority())),
            status => Err(format!("it answered {status}: a witness answers 400 to a request that is none")),
        }
    }

    /// Shows a head; gives the line that vouches for it.
    pub async fn show(&mut self, head: &Head, checkpoint: &str, log: &Directory) -> Result<String, String> {
        // The second time with the size that it says it saw.
        for _ in 0..2 {
            if self.seen > head.size {
                return Err(format!("it saw {} records, and the log has {}", self.seen, head.size));
            }
            let path = proof::consistency(&mut Tiled::new(log, head.size), self.seen, head.size)
                .map_err(|e| format!("cannot prove that the log only grew: {e}"))?;
            let asked = Consistency { old: self.seen, path, checkpoint: checkpoint.to_owned() };
            let answer = self.ask(asked.to_string()).await?;
            let status = answer.status();
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            match status {
                StatusCode::OK if self.key.vouched(&format!("{checkpoint}{text}")).is_some() => {
                    self.seen = head.size;
                    let its = |line: &&str| self.key.vouched(&format!("{checkpoint}{line}\n")).is_some();
                    return Ok(text.lines().find(its).map(|l| format!("{l}\n")).unwrap_or_default());
                }
                StatusCode::OK => return Err("what it signed is not good under its key".to_owned()),
                StatusCode::CONFLICT => {
                    self.seen = text.trim().parse().map_err(|_| "it did not say what it saw last")?;
                }
                status => {
                    let why: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
                    return Err(format!("it answered {status}: {why}"));
                }
            }
        }
        Err("it does not know what it saw last".to_owned())
    }

    async fn ask(&self, body: String) -> Result<Response<Bytes>, String> {
        let request = Request::post(&*self.path)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Bytes::from(body))
            .map_err(|e| e.to_string())?;
        self.connector.send(&self.to, request, LIMITS).await.map_err(|e| e.to_string())
    }
}
