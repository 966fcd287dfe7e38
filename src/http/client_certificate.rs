//! The caller's certificate as a terminator in front of the gate passes it on: RFC 9440, or Envoy's
//! `X-Forwarded-Client-Cert`.
//!
//! Whether the peer is one that may say so is not known here. What it says is read one way or
//! refused: a header that somebody else got in would make another caller of the request.

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sfv::{BareItem, Item, List, ListEntry, Parser};

/// The form of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateHeader {
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
    ClientCert,
    /// `X-Forwarded-Client-Cert` with `Cert` or `Chain`, one element.
    Xfcc,
}

/// What a terminator said cannot be read, or can be read in several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate that the terminator passed on cannot be read: {0}")]
pub struct BadCertificateHeader(pub &'static str);

/// A chain is at most this long, the caller's own certificate included.
const MAX_CHAIN: usize = 8;

/// The chain that a request's headers carry, the caller's own certificate first; empty if they carry
/// none.
///
/// # Errors
/// [`BadCertificateHeader`].
pub fn forwarded_chain(
    headers: &HeaderMap,
    form: CertificateHeader,
) -> Result<Vec<CertificateDer<'static>>, BadCertificateHeader> {
    let chain = match form {
        CertificateHeader::ClientCert => rfc9440(headers)?,
        CertificateHeader::Xfcc => xfcc(headers)?,
    };
    if chain.len() > MAX_CHAIN {
        return Err(BadCertificateHeader("more certificates than a chain has"));
    }
    Ok(chain)
}

/// The value of a header that stands once or not at all.
fn sole<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, BadCertificateHeader> {
    let name = HeaderName::try_from(name).map_err(|_| BadCertificateHeader("its name"))?;
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(BadCertificateHeader("the header stands more than once"));
    }
    first.to_str().map(Some).map_err(|_| BadCertificateHeader("it is no ASCII text"))
}

fn rfc9440(headers: &HeaderMap) -> Result<Vec<CertificateDer<'static>>, BadCertificateHeader> {
    let unread = |_| BadCertificateHeader("it is not a byte sequence of a structured field (RFC 9440)");
    // A list may stand on several lines; nobody writes this one so, and a second line may be a forged one.
    let chain = sole(headers, "client-cert-chain")?;
    let Some(own) = sole(headers, "client-cert")? else {
        return match chain {
            None => Ok(Vec::new()),
            Some(_) => Err(BadCertificateHeader("there is a chain without a certificate")),
        };
    };
    let item: Item = Parser::new(own).parse().map_err(unread)?;
    let mut all = vec![bytes(item)?];
    if let Some(chain) = chain {
        let list: List = Parser::new(chain).parse().map_err(unread)?;
        for entry in list {
            match entry {
                ListEntry::Item(item) => all.push(bytes(item)?),
                ListEntry::InnerList(_) => {
                    return Err(BadCertificateHeader("the chain holds something else than certificates"));
                }
            }
        }
    }
    Ok(all)
}

fn bytes(item: Item) -> Result<CertificateDer<'static>, BadCertificateHeader> {
    if let BareItem::ByteSequence(bytes) = item.bare_item
        && !bytes.is_empty()
    {
        return Ok(CertificateDer::from(bytes));
    }
    Err(BadCertificateHeader("it is not a byte sequence of a structured field (RFC 9440)"))
}

fn xfcc(headers: &HeaderMap) -> Result<Vec<CertificateDer<'static>>, BadCertificateHeader> {
    let Some(text) = sole(headers, "x-forwarded-client-cert")? else { return Ok(Vec::new()) };
    let (mut own, mut chain) = (None, None);
    for (key, value) in element(text)? {
        let place = if key.eq_ignore_ascii_case("cert") {
            &mut own
        } else if key.eq_ignore_ascii_case("chain") {
            &mut chain
        } else {
            continue;
        };
        if place.replace(certificates(&value)?).is_some() {
            return Err(BadCertificateHeader("it holds a certificate twice"));
        }
    }
    match (own, chain) {
        (None, None) => {
            Err(BadCertificateHeader("it holds neither `Cert` nor `Chain`: have the terminator set them"))
        }
        (Some(own), None) if own.len() == 1 => Ok(own),
        (None, Some(chain)) => Ok(chain),
        (Some(own), Some(chain)) if own.len() == 1 && own.first() == chain.first() => Ok(chain),
        (Some(_), _) => Err(BadCertificateHeader("`Cert` is not one certificate, the first of `Chain`")),
    }
}

/// The pairs of the only element. Envoy appends one for each proxy on the way unless it is told to
/// replace (`SANITIZE_SET`), and the first of several was written by whoever came first.
fn element(text: &str) -> Result<Vec<(&str, String)>, BadCertificateHeader> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    loop {
        let (key, after) = rest.split_once('=').ok_or(BadCertificateHeader("it is not `Key=value;...`"))?;
        let (value, after) = value(after)?;
        pairs.push((key.trim(), value));
        match after.as_bytes().first() {
            None => return Ok(pairs),
            Some(b';') => rest = after.trim_start_matches(';'),
            Some(_) => {
                return Err(BadCertificateHeader(
                    "it holds several elements: have the terminator replace what it gets (SANITIZE_SET)",
                ));
            }
        }
    }
}

/// One value, plain or in quotes, and what stands behind it.
fn value(text: &str) -> Result<(String, &str), BadCertificateHeader> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        return if value.contains('"') {
            Err(BadCertificateHeader("a quote stands inside a value"))
        } else {
            Ok((value.to_owned(), rest))
        };
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = quoted.get(at + 1..).unwrap_or_default();
                return if rest.is_empty() || rest.starts_with([';', ',']) {
                    Ok((value, rest))
                } else {
                    Err(BadCertificateHeader("something stands behind a value"))
                };
            }
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    Err(BadCertificateHeader("a quote is not closed"))
}

/// The certificates of a URL-encoded PEM text.
fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, BadCertificateHeader> {
    let unread = BadCertificateHeader("its certificate is no URL-encoded PEM text");
    let pem: Vec<u8> = percent_decode_str(text).collect();
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or(unread)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        map
    }

    fn read(pairs: &[(&str, &str)], form: CertificateHeader) -> Option<Vec<Vec<u8>>> {
        let chain = forwarded_chain(&headers(pairs), form).ok()?;
        Some(chain.iter().map(|one| one.as_ref().to_vec()).collect())
    }

    fn pem(bytes: &[u8]) -> String {
        let text =
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(bytes));
        percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn rfc_9440_is_one_byte_sequence_and_a_list_of_them() {
        let form = CertificateHeader::ClientCert;
        assert_eq!(read(&[], form), Some(vec![]));
        assert_eq!(read(&[("client-cert", ":AQI=:")], form), Some(vec![vec![1, 2]]));
        let with_chain = [("client-cert", ":AQI=:"), ("client-cert-chain", ":Aw==:, :BA==:")];
        assert_eq!(read(&with_chain, form), Some(vec![vec![1, 2], vec![3], vec![4]]));
        for bad in [
            &[("client-cert", ":AQI=:"), ("client-cert", ":AQI=:")][..],
            &[("client-cert", ":AQI=:, :AQI=:")],
            &[("client-cert", "AQI=")],
            &[("client-cert", "\"AQI=\"")],
            &[("client-cert", "::")],
            &[("client-cert", "")],
            &[("client-cert-chain", ":Aw==:")],
            &[("client-cert", ":AQI=:"), ("client-cert-chain", "(:Aw==:)")],
            &[("client-cert", ":AQI=:"), ("client-cert-chain", ":Aw==:"), ("client-cert-chain", ":Aw==:")],
            &[
                ("client-cert", ":AQI=:"),
                ("client-cert-chain", ":Aw==:,:Aw==:,:Aw==:,:Aw==:,:Aw==:,:Aw==:,:Aw==:,:Aw==:"),
            ],
        ] {
            assert_eq!(read(bad, form), None, "{bad:?}");
        }
    }

    #[test]
    fn xfcc_is_one_element_with_the_certificate_itself() {
        let form = CertificateHeader::Xfcc;
        let (one, two) = (pem(&[1]), pem(&[2]));
        let of = |text: &str| read(&[("x-forwarded-client-cert", text)], form);
        assert_eq!(read(&[], form), Some(vec![]));
        assert_eq!(of(&format!("By=spiffe://a/b;Hash=ab;Cert=\"{one}\"")), Some(vec![vec![1]]));
        assert_eq!(of(&format!("cert={one};Subject=\"CN=a\\\"b,O=c;d\"")), Some(vec![vec![1]]));
        assert_eq!(of(&format!("Chain=\"{one}{two}\"")), Some(vec![vec![1], vec![2]]));
        assert_eq!(of(&format!("Cert=\"{one}\";Chain=\"{one}{two}\"")), Some(vec![vec![1], vec![2]]));
        for bad in [
            String::new(),
            "Hash=ab".to_owned(),
            "By=a;URI=spiffe://a/b".to_owned(),
            format!("Cert=\"{one}\",Cert=\"{two}\""),
            format!("By=a,Cert=\"{one}\""),
            format!("Cert=\"{one}\";Cert=\"{two}\""),
            format!("Cert=\"{one}\";Chain=\"{two}{one}\""),
            format!("Cert=\"{one}"),
            format!("Cert=\"{one}\"x"),
            format!("Cert=x\"{one}\""),
            "Cert=x".to_owned(),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
        let twice = format!("Cert=\"{one}\"");
        let twice = [("x-forwarded-client-cert", twice.as_str()), ("x-forwarded-client-cert", &twice)];
        assert_eq!(read(&twice, form), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~]{0,200}") {
            let map = [("client-cert", text.as_str()), ("x-forwarded-client-cert", &text)];
            let _ = read(&map, CertificateHeader::ClientCert);
            let _ = read(&map, CertificateHeader::Xfcc);
        }
    }
}
