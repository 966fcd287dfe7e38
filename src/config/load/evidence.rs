//! `evidence`: with what the gate states where models came from, and as whom.

use super::{
    super::{Problems, raw, settings, settings::Reverse},
    Reader,
};
use crate::{
    lineage::PublicKey,
    yaml::{Place, Spanned},
};

/// The longest URI of a gate, in bytes.
const LONGEST: usize = 255;

impl Reader<'_> {
    /// How the gate states; `origin` is the name of its record, `kept` whether there is a store.
    pub(super) fn evidence(
        &self,
        found: &Spanned<raw::Evidence>,
        reverse: Option<&Reverse>,
        origin: &str,
        kept: bool,
        problems: &mut Problems,
    ) -> Option<settings::Evidence> {
        let raw = &found.value;
        if !kept {
            problems.error_with(
                Place::of(found),
                "statements are kept in a store, and there is none",
                "add `store: {sqlite: var/amlgate.db}`",
            );
        }
        let signing_key = self.reference(&raw.signing_key, problems);
        let mut previous = Vec::new();
        for path in &raw.previous {
            let Some(full) = self.existing(path, problems) else { continue };
            let text = std::fs::read_to_string(&full).map_err(|error| error.to_string());
            let keys = text.and_then(|text| PublicKey::all_from_pem(&text).map_err(|e| e.to_string()));
            if let Err(why) = keys {
                problems.error(Place::of(path), format!("`{}` cannot be used: {why}", full.display()));
            }
            previous.push(full);
        }
        let gate = match &raw.gate {
            Some(gate) => problems.read(gate, uri),
            None => Some(
                reverse
                    .map_or_else(|| format!("urn:amlgate:{origin}"), |reverse| reverse.public_url.to_text()),
            ),
        };
        Some(settings::Evidence { signing_key: signing_key?, previous, gate: gate?.into() })
    }
}

/// Something that names the gate to whoever reads its statements.
fn uri(text: &str) -> Result<String, String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let rest = text.get(scheme.len() + 1..).unwrap_or_default();
    let plain =
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b));
    if named && plain && text.len() <= LONGEST {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not a URI: write `https://gate.example.com`, up to {LONGEST} characters"))
}
