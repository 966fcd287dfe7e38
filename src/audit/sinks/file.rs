//! A file that a collector follows: one line a record.

use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use super::{BatchLimits, Delivered, Exported, Format, Pending, Sink, Undelivered};

/// Appends to a file, which is opened anew for each batch: whoever rotates it need not ask.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    format: Format,
}

impl FileSink {
    /// A file at a path, which is made when it is needed.
    #[must_use]
    pub const fn new(path: PathBuf, format: Format) -> Self {
        Self { path, format }
    }
}

fn opened(path: &Path) -> io::Result<fs::File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true).read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o640);
    }
    let mut file = options.open(path)?;
    // A crash may have left half a line: it is ended, so that the next one is whole.
    if file.seek(io::SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(io::SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

impl Sink for FileSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 1_000, bytes: 4 << 20 }
    }

    fn deliver<'a>(&'a mut self, batch: &'a [Exported]) -> Pending<'a, Result<Delivered, Undelivered>> {
        Box::pin(async move {
            let mut lines = String::new();
            for record in batch {
                lines.push_str(&self.format.line(record));
                lines.push('\n');
            }
            let path = self.path.clone();
            let written = spawn_blocking(move || {
                let mut file = opened(&path)?;
                file.write_all(lines.as_bytes())?;
                file.sync_data()
            });
            match written.await.map_err(io::Error::other).and_then(|written| written) {
                Ok(()) => Ok(Delivered::all(batch)),
                Err(error) => Err(Undelivered::later(format!("`{}`: {error}", self.path.display()))),
            }
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async move {
            match opened(&self.path) {
                Ok(_) => Ok(format!("`{}` can be written", self.path.display())),
                Err(error) => Err(format!("`{}`: {error}", self.path.display())),
            }
        })
    }
}
