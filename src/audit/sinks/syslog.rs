//! Syslog over TLS: RFC 5424 messages with octet counting (RFC 5425).
//!
//! Syslog acknowledges nothing. So each batch has a connection of its own, and counts as taken when
//! the receiver, told that nothing more comes (`close_notify`), has closed its side in order: it does
//! that when it has read everything. A connection that is reset, or not closed in time, was a failure.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{BatchLimits, Delivered, Exported, Format, Pending, Sink, Undelivered, mapping};
use crate::net::{Connector, Destination, Protocols};

/// How long a receiver has for a batch.
const PATIENCE: Duration = Duration::from_secs(30);

/// A syslog receiver.
#[derive(Debug)]
pub struct Syslog {
    connector: Connector,
    to: Destination,
    format: Format,
    facility: u8,
}

impl Syslog {
    /// A receiver; `facility` is 0 to 23 (13 is `log audit`).
    #[must_use]
    pub const fn new(connector: Connector, to: Destination, format: Format, facility: u8) -> Self {
        Self { connector, to, format, facility }
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.connector.dial(&self.to, Protocols::None).await?;
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut rest = [0; 512];
        loop {
            match stream.read(&mut rest).await {
                Ok(0) => return Ok(()),
                // Nobody has anything to say in syslog; whoever does is not listened to.
                Ok(_) => {}
                // Many close without `close_notify` of their own.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn within(&self, bytes: &[u8]) -> Result<(), String> {
        match timeout(PATIENCE, self.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("`{}`: {error}", self.to.authority())),
            Err(_) => Err(format!(
                "`{}` did not close the connection within {} s",
                self.to.authority(),
                PATIENCE.as_secs()
            )),
        }
    }
}

impl Sink for Syslog {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 500, bytes: 1 << 20 }
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            for record in batch {
                let message = mapping::syslog(record, self.format, self.facility);
                bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
                bytes.extend_from_slice(message.as_bytes());
            }
            self.within(&bytes).await.map_err(Undelivered::later)?;
            Ok(Delivered::all(batch))
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async move {
            self.within(&[]).await?;
            Ok(format!("`{}` takes connections over TLS", self.to.authority()))
        })
    }
}
