//! A branch of a git repository as a place where heads are kept: each is a commit on top of the one
//! before, and the remote's history must hold them all.
//!
//! It is git's own program that speaks to the remote: its transports, its ssh and its helpers are
//! those that the operator has set up, and no library that is linked here pushes without bringing a
//! second TLS and SSH along. The clone beside the log is bare, and can be thrown away.

use std::{ffi::OsString, io, path::PathBuf, process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::{
    audit::{
        folder_of,
        note::{self, Head},
        storage::Directory,
    },
    config::settings::{self, GitSettings},
    secrets,
    time::SharedClock,
};

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So much is read of what git prints: the remote decides what that is.
const MOST_PRINTED: u64 = 1 << 20;
/// Another gate may push between: so often it is tried again at once.
const TIMES: usize = 4;
/// What was pushed last.
const SHOWN: &str = "refs/amlgate/shown";
/// The branch as the remote has it.
const REMOTE: &str = "refs/amlgate/remote";

/// A branch of a repository.
pub(super) struct Git {
    remote: String,
    branch: String,
    clone: PathBuf,
    token: Option<Token>,
    environment: Vec<(&'static str, OsString)>,
    clock: SharedClock,
}

/// What the remote is shown, where it is reached over HTTPS.
enum Token {
    /// Read each time, so that it can be exchanged.
    File(PathBuf),
    /// As it was when the gate started.
    Read(SecretString),
}

impl Git {
    /// `token` is what the reference in the settings was when the gate started.
    pub fn new(
        settings: &GitSettings,
        clone: PathBuf,
        token: Option<SecretString>,
        outgoing: &settings::Outgoing,
        clock: &SharedClock,
    ) -> Self {
        let token = match (&settings.token, token) {
            (Some(settings::Reference::File(path)), _) => Some(Token::File(path.clone())),
            (_, token) => token.map(Token::Read),
        };
        let mut environment = Vec::new();
        if let Some(proxy) = &outgoing.proxy {
            let except = outgoing.no_proxy.iter().cloned().collect::<Vec<_>>().join(",");
            environment.push(("https_proxy", proxy.to_text().into()));
            environment.push(("http_proxy", proxy.to_text().into()));
            environment.push(("no_proxy", except.into()));
        }
        if let Some(trust) = &settings.trust {
            environment.push(("GIT_SSL_CAINFO", trust.clone().into()));
        }
        Self {
            remote: settings.remote.clone(),
            branch: format!("refs/heads/{}", settings.branch),
            clone,
            token,
            environment,
            clock: SharedClock::clone(clock),
        }
    }

    /// Whether the remote can be had: what was seen.
    pub async fn probe(&self) -> Result<String, String> {
        std::fs::create_dir_all(&self.clone).map_err(|e| format!("`{}`: {e}", self.clone.display()))?;
        match self.tip().await? {
            Some(tip) => Ok(format!("`{}` is at {tip}", self.branch)),
            None => Ok(format!("the repository answers; `{}` will be made", self.branch)),
        }
    }

    /// Commits and pushes a head, unless the branch has it; then the remote's history holds it.
    pub async fn show(&self, head: &Head, checkpoint: &str, log: &Directory) -> Result<(), String> {
        if !self.clone.join("HEAD").exists() {
            std::fs::create_dir_all(&self.clone).map_err(|e| format!("`{}`: {e}", self.clone.display()))?;
            self.git(&["init", "--quiet", "--bare", "."]).await?;
        }
        let path = format!("{}/checkpoint", folder_of(&head.origin));
        let mut refused = String::new();
        for _ in 0..TIMES {
            let tip = self.fetched().await?;
            if let Some(tip) = &tip {
                let there = self.there(tip, &path).await?;
                if let Some(there) = there.as_deref().and_then(note::unverified) {
                    super::follows(&there, head, log)?;
                    if there == *head {
                        return self.git(&["update-ref", SHOWN, tip]).await.map(drop);
                    }
                }
            }
            let commit = self.commit(tip.as_deref(), &path, head, checkpoint).await?;
            let refspec = format!("{commit}:{}", self.branch);
            match self.git(&["push", "--quiet", "--", &self.remote, &refspec]).await {
                Ok(_) => {
                    self.git(&["update-ref", SHOWN, &commit]).await?;
                    // It counts when the remote says so.
                    return self.fetched().await.map(drop);
                }
                Err(error) => refused = error,
            }
            if self.tip().await? == tip {
                return Err(refused); // It was not that others came first.
            }
        }
        Err(format!("others pushed to the branch each time: {refused}"))
    }

    /// Where the branch stands at the remote; `None` if there is none.
    async fn tip(&self) -> Result<Option<String>, String> {
        let listed = self.git(&["ls-remote", "--refs", "--", &self.remote, &self.branch]).await?;
        // The name that is asked for matches the end of others, too.
        let id =
            listed.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == self.branch);
        match id.map(|(id, _)| id.to_owned()) {
            Some(id) if id.len() < 40 || !id.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Err("the remote names a commit that is none".to_owned())
            }
            id => Ok(id),
        }
    }

    /// The branch's newest commit, fetched; everything that was pushed to it must be in its history.
    async fn fetched(&self) -> Result<Option<String>, String> {
        let shown = self.git(&["rev-parse", "--quiet", "--verify", SHOWN]).await.ok();
        let shown = shown.map(|id| id.trim().to_owned());
        if self.tip().await?.is_none() {
            return match shown {
                None => Ok(None),
                Some(shown) => Err(format!(
                    "the branch is gone from the remote, which had the commit {shown} of the record"
                )),
            };
        }
        let refspec = format!("+{}:{REMOTE}", self.branch);
        self.git(&["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", &self.remote, &refspec])
            .await?;
        let fetched = self.git(&["rev-parse", "--verify", REMOTE]).await?.trim().to_owned();
        if let Some(shown) = shown
            && self.git(&["merge-base", "--is-ancestor", &shown, &fetched]).await.is_err()
        {
            return Err(format!(
                "the remote's history does not hold the commit {shown} that it took: it was rewritten"
            ));
        }
        Ok(Some(fetched))
    }

    /// The head of this log in a commit.
    async fn there(&self, commit: &str, path: &str) -> Result<Option<String>, String> {
        let blob = format!("{commit}:{path}");
        let Ok(size) = self.git(&["cat-file", "-s", &blob]).await else { return Ok(None) };
        if size.trim().parse::<u64>().map_or(true, |size| size > 64 << 10) {
            return Err(format!("`{path}` in the branch is no head"));
        }
        self.git(&["cat-file", "blob", &blob]).await.map(Some)
    }

    /// A commit that adds the head to what the branch holds.
    async fn commit(
        &self,
        parent: Option<&str>,
        path: &str,
        head: &Head,
        checkpoint: &str,
    ) -> Result<String, String> {
        let blob = self.fed(&["hash-object", "-w", "--stdin"], checkpoint).await?;
        match parent {
            Some(parent) => self.git(&["read-tree", parent]).await?,
            None => self.git(&["read-tree", "--empty"]).await?,
        };
        let entry = format!("100644,{},{path}", blob.trim());
        self.git(&["update-index", "--add", "--cacheinfo", &entry]).await?;
        let tree = self.git(&["write-tree"]).await?;
        let message = format!("{}: {} records", folder_of(&head.origin), head.size);
        let mut arguments = vec!["commit-tree", tree.trim(), "-m", message.as_str()];
        arguments.extend(parent.into_iter().flat_map(|parent| ["-p", parent]));
        Ok(self.git(&arguments).await?.trim().to_owned())
    }

    async fn git(&self, arguments: &[&str]) -> Result<String, String> {
        self.fed(arguments, "").await
    }

    /// Runs git to its end; what it printed.
    async fn fed(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(&self.clone);
        for inherited in ["GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_TRACE"] {
            command.env_remove(inherited);
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        let date = format!("@{} +0000", self.clock.now().as_secs());
        command
            .env("GIT_DIR", ".")
            .env("GIT_INDEX_FILE", "heads.index")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "https:ssh:file")
            .env("LC_ALL", "C");
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "amlgate")
                .env(format!("GIT_{who}_EMAIL"), "amlgate@localhost");
            command.env(format!("GIT_{who}_DATE"), &date);
        }
        if let Some(header) = self.authorization()? {
            // The environment of a process is its user's own; a command line is everybody's.
            command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "http.extraHeader");
            command.env("GIT_CONFIG_VALUE_0", header.expose_secret());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| format!("cannot run `git`: {e}"))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let run = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // One that reads nothing has ended, and says why itself.
                    drop(stdin.write_all(input.as_bytes()).await);
                }
                Ok(())
            };
            let ((), stdout, stderr) = tokio::try_join!(feed, printed(stdout), printed(stderr))?;
            Ok::<_, io::Error>((child.wait().await?, stdout, stderr))
        };
        let verb = arguments.first().copied().unwrap_or_default();
        let (status, stdout, stderr) = tokio::select! {
            done = run => done.map_err(|e| format!("cannot run `git {verb}`: {e}"))?,
            () = self.clock.sleep(PATIENCE) => {
                return Err(format!("`git {verb}` did not end within {} s", PATIENCE.as_secs()));
            }
        };
        if !status.success() {
            let said = String::from_utf8_lossy(&stderr);
            let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
            return Err(format!("`git {verb}` failed: {}", said.trim()));
        }
        String::from_utf8(stdout).map_err(|_| format!("`git {verb}` printed no text"))
    }

    fn authorization(&self) -> Result<Option<SecretString>, String> {
        let token = match &self.token {
            None => return Ok(None),
            Some(Token::Read(token)) => token.clone(),
            Some(Token::File(path)) => secrets::from_file(path).map_err(|error| error.to_string())?,
        };
        // Whichever name stands before it: forges look at the token alone.
        let basic = STANDARD.encode(format!("amlgate:{}", token.expose_secret()));
        Ok(Some(SecretString::from(format!("Authorization: Basic {basic}"))))
    }
}

/// All that is printed, unless it is too much: then nobody reads on, and who prints is ended.
async fn printed(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MOST_PRINTED + 1).read_to_end(&mut all).await?;
    }
    if all.len() as u64 > MOST_PRINTED {
        return Err(io::Error::other(format!("it printed more than {} MiB", MOST_PRINTED >> 20)));
    }
    Ok(all)
}
