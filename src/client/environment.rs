//! The variables that make programs go through a relay, and the files that they name.
//!
//! Which client reads which was measured: `reference/clients.md`, sections 3 to 5. Three of the four
//! variables for authorities replace a program's own roots, so that they name a bundle of both; Node
//! adds what it is given.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{Tool, describe, relay::IDENTITY, sessions};
use crate::net::{Connector, Trust};

/// What is never asked of a proxy: this machine, and Azure's instance metadata, which the gate refuses
/// and which programs should not wait for.
const NO_PROXY: [&str; 5] = ["localhost", "127.0.0.1", "::1", "169.254.169.254", "168.63.129.16"];
/// Variables that name a bundle which replaces a program's own roots: requests and what is built on it
/// (the Azure SDK, `az`, `mlflow`); curl; OpenSSL (httpx, openai, aiohttp, urllib); git; pip.
const BUNDLES: [&str; 5] =
    ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "GIT_SSL_CAINFO", "PIP_CERT"];

/// A shell's way to set a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Shell {
    /// sh, bash, zsh, dash.
    #[default]
    Sh,
    /// fish.
    Fish,
    /// PowerShell.
    Powershell,
}

/// The files that variables name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The gate's interception authorities alone.
    pub authorities: PathBuf,
    /// Those and every root that programs believe already.
    pub bundle: PathBuf,
}

impl Files {
    /// Where they are below `folder`.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        Self { authorities: folder.join("gate-ca.pem"), bundle: folder.join("bundle.pem") }
    }

    /// Writes them: `authorities` are the gate's, `also` files whose roots programs believed so far.
    /// Says how many of the system's own roots there are.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, authorities: &str, also: &[PathBuf]) -> io::Result<usize> {
        if let Some(folder) = self.bundle.parent() {
            sessions::private_folder(folder)?;
        }
        let system = rustls_native_certs::load_native_certs();
        let mut bundle = String::new();
        for root in &system.certs {
            bundle.push_str(&pem::encode(&pem::Pem::new("CERTIFICATE", root.to_vec())));
        }
        for path in also.iter().filter(|path| **path != self.bundle && **path != self.authorities) {
            // A variable may name a file that is gone; the program that minds will say so.
            if let Ok(text) = fs::read_to_string(path) {
                bundle.push_str(text.trim_end());
                bundle.push('\n');
            }
        }
        bundle.push_str(authorities);
        sessions::write_private(&self.authorities, authorities.as_bytes())?;
        sessions::write_private(&self.bundle, bundle.as_bytes())?;
        Ok(system.certs.len())
    }

    /// Writes them with the roots that this process's own variables name besides, and says so on
    /// standard error if the system has none.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(&self, authorities: &str) -> io::Result<()> {
        let also = Environment::roots_in_use(|name| std::env::var(name).ok());
        if self.write(authorities, &also)? == 0 && also.is_empty() {
            eprintln!(
                "amlgate: this system has no roots of its own, so that programs will believe the gate alone; install `ca-certificates`"
            );
        }
        Ok(())
    }

    /// Writes them anew if the gate names other authorities than `known`: one that is exchanged has to
    /// be here before its first leaf is shown. A gate that does not answer changes nothing.
    ///
    /// # Errors
    /// What the system says.
    pub async fn renew(
        &self,
        connector: &Connector,
        gate: &str,
        trust: Option<Trust>,
        known: &str,
    ) -> io::Result<Option<String>> {
        let described = describe(connector, gate, trust).await.ok().and_then(|gate| gate.forward);
        let Some(authorities) = described.map(|door| door.ca).filter(|ca| ca != known && !ca.is_empty())
        else {
            return Ok(None);
        };
        self.keep(&authorities)?;
        Ok(Some(authorities))
    }

    /// Removes them; what is not there is no error.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self) -> io::Result<()> {
        for path in [&self.authorities, &self.bundle] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Variables and their values, in the order in which they are printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Environment(Vec<(&'static str, String)>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The relay's word stands in some of the values: whoever has it goes through the relay.
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Environment {
    /// What leads to a relay; `no_proxy` is what the variable holds already.
    #[must_use]
    pub fn through(relay: SocketAddr, word: &str, files: &Files, no_proxy: &str) -> Self {
        let proxy = format!("http://amlgate:{word}@{relay}");
        let mut direct: Vec<&str> = no_proxy.split(',').map(str::trim).filter(|h| !h.is_empty()).collect();
        let known: BTreeSet<&str> = direct.iter().copied().collect();
        direct.extend(NO_PROXY.iter().filter(|host| !known.contains(**host)));
        let direct = direct.join(",");
        let mut all = vec![
            ("HTTPS_PROXY", proxy.clone()),
            ("https_proxy", proxy.clone()),
            // Plaintext too: routes name such hosts, and what none names is refused with a reason.
            ("HTTP_PROXY", proxy.clone()),
            ("http_proxy", proxy),
            ("NO_PROXY", direct.clone()),
            ("no_proxy", direct),
            ("NODE_USE_ENV_PROXY", "1".to_owned()),
            ("NODE_EXTRA_CA_CERTS", files.authorities.display().to_string()),
        ];
        all.extend(BUNDLES.iter().map(|name| (*name, files.bundle.display().to_string())));
        all.push(("IDENTITY_ENDPOINT", format!("http://{relay}{IDENTITY}")));
        all.push(("IDENTITY_HEADER", word.to_owned()));
        Self(all)
    }

    /// The variables.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The files that other variables of this kind name now: a company's own roots.
    #[must_use]
    pub fn roots_in_use(variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
        let named: BTreeSet<PathBuf> = BUNDLES
            .iter()
            .chain(&["NODE_EXTRA_CA_CERTS"])
            .filter_map(|name| variable(name))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect();
        named.into_iter().collect()
    }

    /// Those of them that a client reads.
    #[must_use]
    pub fn of(mut self, tool: Tool) -> Self {
        self.0.retain(|(name, _)| tool.reads(name));
        self
    }

    /// Lines that a shell evaluates.
    #[must_use]
    pub fn lines(&self, shell: Shell) -> String {
        self.iter().map(|(name, value)| line(shell, name, value)).collect()
    }

    /// Lines that take every variable back; `no_proxy` is what the variable holds now, of which
    /// everything stays that is not of here.
    #[must_use]
    pub fn removal(shell: Shell, no_proxy: &str) -> String {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let all = Self::through(nowhere, "", &Files::below(Path::new("")), "");
        let own = |host: &&str| !host.is_empty() && !NO_PROXY.contains(host);
        let kept = no_proxy.split(',').map(str::trim).filter(own).collect::<Vec<_>>().join(",");
        let gone = |(name, _): (&str, &str)| match (name, shell) {
            ("NO_PROXY" | "no_proxy", _) if !kept.is_empty() => line(shell, name, &kept),
            (_, Shell::Sh) => format!("unset {name}\n"),
            (_, Shell::Fish) => format!("set -e {name}\n"),
            (_, Shell::Powershell) => format!("Remove-Item Env:{name} -ErrorAction Ignore\n"),
        };
        all.iter().map(gone).collect()
    }
}

fn line(shell: Shell, name: &str, value: &str) -> String {
    match shell {
        Shell::Sh => format!("export {name}='{}'\n", value.replace('\'', "'\\''")),
        Shell::Fish => {
            format!("set -gx {name} '{}'\n", value.replace('\\', "\\\\").replace('\'', "\\'"))
        }
        Shell::Powershell => format!("$env:{name} = '{}'\n", value.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(no_proxy: &str) -> Environment {
        let relay = SocketAddr::from(([127, 0, 0, 1], 3128));
        Environment::through(relay, "word", &Files::below(Path::new("/home/it's")), no_proxy)
    }

    #[test]
    fn the_relays_word_is_not_printed() {
        let printed = format!("{:?}", environment(""));
        assert!(printed.contains("HTTPS_PROXY") && !printed.contains("word"), "{printed}");
    }

    #[test]
    fn what_is_not_proxied_already_stays_so() {
        let all = environment("corp.example, 127.0.0.1");
        let direct = all.iter().find(|(name, _)| *name == "NO_PROXY").unwrap().1;
        assert_eq!(direct, "corp.example,127.0.0.1,localhost,::1,169.254.169.254,168.63.129.16");
    }

    #[test]
    fn every_variable_that_is_set_is_taken_back() {
        for shell in [Shell::Sh, Shell::Fish, Shell::Powershell] {
            let removal = Environment::removal(shell, "");
            for (name, _) in environment("").iter() {
                assert!(removal.contains(name), "{name}");
            }
            assert!(!removal.contains('='), "{removal}");
        }
        let kept = environment("corp.example");
        let held = kept.iter().find(|(name, _)| *name == "NO_PROXY").unwrap().1;
        let removal = Environment::removal(Shell::Sh, held);
        assert!(removal.contains("export NO_PROXY='corp.example'\n"), "{removal}");
    }

    #[test]
    fn a_shell_reads_values_as_they_are() {
        let lines = environment("").lines(Shell::Sh);
        assert!(lines.contains("export SSL_CERT_FILE='/home/it'\\''s/bundle.pem'\n"), "{lines}");
        assert!(lines.contains("export HTTPS_PROXY='http://amlgate:word@127.0.0.1:3128'\n"));
        assert!(environment("").lines(Shell::Powershell).contains("'/home/it''s/bundle.pem'"));
    }

    #[test]
    fn a_bundle_holds_the_gates_authorities_and_a_companys_own() {
        let folder = tempfile::tempdir().unwrap();
        let corporate = folder.path().join("corporate.pem");
        fs::write(&corporate, "CORPORATE").unwrap();
        let files = Files::below(&folder.path().join("amlgate"));
        files.write("GATE\n", &[corporate, files.bundle.clone(), "/nowhere.pem".into()]).unwrap();
        let bundle = fs::read_to_string(&files.bundle).unwrap();
        assert!(bundle.ends_with("CORPORATE\nGATE\n"), "{bundle}");
        assert_eq!(fs::read_to_string(&files.authorities).unwrap(), "GATE\n");
        files.remove().unwrap();
        files.remove().unwrap();
        assert!(!files.bundle.exists());
    }
}
