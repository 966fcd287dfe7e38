//! What a CONNECT says, read one way or not at all.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};
use secrecy::zeroize::Zeroizing;

use super::Identities;
use crate::proxy::routes::is_below;

/// The host, in lower case and without a dot at its end, and the port of a CONNECT's target.
pub(super) fn target(authority: &Authority) -> Option<(String, u16)> {
    let (host, port) = authority_of(authority)?;
    Some((host, port?))
}

fn authority_of(authority: &Authority) -> Option<(String, Option<u16>)> {
    let port = authority.port_u16();
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host).trim_matches(['[', ']']).to_ascii_lowercase();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
    // Neither a user nor an escape: an authority that two readers could read differently.
    let exact = authority.as_str().bytes().all(|b| plain(b) || matches!(b, b'[' | b']'));
    // `host:` without a port is read as either scheme's.
    let whole = !authority.as_str().ends_with(':');
    (exact && whole && !host.is_empty() && host.bytes().all(plain)).then_some((host, port))
}

/// The same of a request's absolute URL in plaintext.
pub(super) fn plain(uri: &Uri) -> Option<(String, u16)> {
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"))?;
    let (host, port) = authority_of(authority)?;
    Some((host, port.unwrap_or(80)))
}

/// Whether a host is one of `passthrough`.
pub(super) fn is_named(host: &str, known: &str) -> bool {
    known.strip_prefix("*.").map_or(known == host, |domain| is_below(host, domain))
}

/// Whether a host is an address that is not the internet's, however it is written: dotted, as one
/// number, in octal or hexadecimal, IPv6 with or without an IPv4 address in it. A name that leads to
/// one is found where it is resolved.
pub(super) fn is_inside(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let numeric = host
        .split('.')
        .all(|part| !part.is_empty() && (part.bytes().all(|b| b.is_ascii_digit()) || part.starts_with("0x")));
    numeric || host.contains(':') || host.eq_ignore_ascii_case("localhost") || host.ends_with(".localhost")
}

/// `Bearer TOKEN` of the only `Proxy-Authorization`: Bearer and DPoP as they are, Basic with the token as
/// password (RFC 7617), which is what the URL of HTTPS_PROXY can carry.
pub(super) fn authorization(
    headers: &HeaderMap,
    identities: Identities,
) -> Result<HeaderValue, &'static str> {
    if !identities.proxy_authorization {
        return Err("no_credentials");
    }
    let mut all = headers.get_all(header::PROXY_AUTHORIZATION).iter();
    let value = all.next().ok_or("no_credentials")?;
    if all.next().is_some() {
        return Err("several_credentials");
    }
    let text = value.to_str().map_err(|_| "malformed_credentials")?;
    let (scheme, rest) = text.split_once(' ').ok_or("malformed_credentials")?;
    if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("dpop") {
        return Ok(sensitive(value.clone()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err("other_scheme");
    }
    let bytes = Zeroizing::new(STANDARD.decode(rest.trim()).map_err(|_| "malformed_credentials")?);
    let text = str::from_utf8(&bytes).map_err(|_| "malformed_credentials")?;
    let (user, password) = text.split_once(':').ok_or("malformed_credentials")?;
    // Some tools put the token where the user stands, and nothing behind it.
    let token = if password.is_empty() { user } else { password };
    let header = Zeroizing::new(format!("Bearer {token}"));
    HeaderValue::from_str(&header).map(sensitive).map_err(|_| "malformed_credentials")
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;

    use super::*;

    fn of(text: &str) -> Option<(String, u16)> {
        target(&text.parse().ok()?)
    }

    #[test]
    fn a_tunnels_target_has_one_reading() {
        let some = |host: &str| Some((host.to_owned(), 443));
        assert_eq!(of("Management.Azure.com:443"), some("management.azure.com"));
        assert_eq!(of("management.azure.com.:443"), some("management.azure.com"));
        assert_eq!(of("[::1]:443"), some("::1"));
        for text in ["management.azure.com", "user@management.azure.com:443", "a%2e.b:443", ":443"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn an_absolute_url_is_read_in_plaintext_only_and_has_one_reading() {
        let of = |text: &str| plain(&text.parse().ok()?);
        assert_eq!(of("http://Tracking.Example/a?b"), Some(("tracking.example".to_owned(), 80)));
        assert_eq!(of("http://tracking.example.:5000"), Some(("tracking.example".to_owned(), 5000)));
        for text in [
            "https://tracking.example/",
            "ftp://tracking.example/",
            "http://u@tracking.example/",
            "http://a%2e.b/",
            "/a",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_inside_however_it_is_written() {
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "168.63.129.16",
            "127.1",
            "[::1]",
            "::ffff:169.254.169.254",
            "[fe80::1%25eth0]",
            "localhost",
            "a.localhost",
            "10.0.0.1",
            "0x7f.1",
        ] {
            assert!(is_inside(host), "{host}");
        }
        for host in ["management.azure.com", "1.azure.com", "0xa.azure.com"] {
            assert!(!is_inside(host), "{host}");
        }
    }

    /// Every way in which resolvers read an IPv4 address, and the IPv6 forms that hide one.
    fn forms(ip: std::net::Ipv4Addr) -> Vec<String> {
        let [a, b, c, d] = ip.octets().map(u32::from);
        let whole = u32::from(ip);
        let (three, two) = (c << 8 | d, b << 16 | c << 8 | d);
        let (high, low) = (a << 8 | b, c << 8 | d);
        vec![
            format!("{ip}"),
            format!("{ip}."),
            format!("{whole}"),
            format!("0x{whole:x}"),
            format!("0X{whole:X}"),
            format!("0{whole:o}"),
            format!("{a}.{two}"),
            format!("{a}.{b}.{three}"),
            format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("{a}.0x{b:x}.0{c:o}.{d}"),
            format!("00000{a}.{b}.{c}.{d}"),
            format!("[::ffff:{ip}]"),
            format!("[::FFFF:{high:x}:{low:x}]"),
            format!("[::{ip}]"),
            format!("[0:0:0:0:0:ffff:{high:x}:{low:x}]"),
            format!("[64:ff9b::{high:x}:{low:x}]"),
            format!("[2002:{high:x}:{low:x}::1]"),
            format!("[::ffff:{ip}%25eth0]"),
        ]
    }

    proptest::proptest! {
        #[test]
        fn no_form_of_an_address_that_is_not_the_internets_passes_for_a_name(
            ip in proptest::prelude::prop_oneof![
                proptest::prelude::Just(std::net::Ipv4Addr::new(169, 254, 169, 254)),
                proptest::prelude::Just(std::net::Ipv4Addr::new(168, 63, 129, 16)),
                proptest::prelude::any::<[u8; 3]>().prop_map(|[b, c, d]| std::net::Ipv4Addr::new(127, b, c, d)),
                proptest::prelude::any::<[u8; 3]>().prop_map(|[b, c, d]| std::net::Ipv4Addr::new(10, b, c, d)),
                proptest::prelude::any::<[u8; 2]>().prop_map(|[c, d]| std::net::Ipv4Addr::new(169, 254, c, d)),
                proptest::prelude::any::<[u8; 2]>().prop_map(|[c, d]| std::net::Ipv4Addr::new(192, 168, c, d)),
            ]
        ) {
            for form in forms(ip) {
                // Refused where it is read, or told apart from every name.
                let tunnel = of(&format!("{form}:443"));
                proptest::prop_assert!(tunnel.is_none_or(|(host, _)| is_inside(&host)), "{}", form);
                let url = format!("http://{form}/metadata/identity").parse().ok().and_then(|uri| plain(&uri));
                proptest::prop_assert!(url.is_none_or(|(host, _)| is_inside(&host)), "{}", form);
            }
        }
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_a_password() {
        let read = |values: &[&str]| {
            let map: HeaderMap = values
                .iter()
                .map(|v| (header::PROXY_AUTHORIZATION, HeaderValue::from_str(v).unwrap()))
                .collect();
            authorization(&map, Identities::default()).map(|v| v.to_str().unwrap().to_owned())
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let token = Ok("Bearer a.b.c".to_owned());
        assert_eq!(read(&["Bearer a.b.c"]), token);
        assert_eq!(read(&[&basic("token:a.b.c")]), token);
        assert_eq!(read(&[&basic("a.b.c:")]), token);
        assert_eq!(read(&[]), Err("no_credentials"));
        assert_eq!(read(&["Bearer a.b.c", "Bearer a.b.c"]), Err("several_credentials"));
        assert_eq!(read(&["Digest x"]), Err("other_scheme"));
        assert_eq!(read(&["Basic !!"]), Err("malformed_credentials"));
        assert_eq!(read(&[&basic("nothing")]), Err("malformed_credentials"));
        let inner = Identities { proxy_authorization: false, inner: true, certificate: false };
        assert_eq!(authorization(&HeaderMap::new(), inner), Err("no_credentials"));
    }

    #[test]
    fn passthrough_names_hosts_to_the_letter_or_one_label_below_a_domain() {
        assert!(is_named("login.microsoftonline.com", "login.microsoftonline.com"));
        assert!(is_named("a.pypi.org", "*.pypi.org"));
        for host in ["pypi.org", "a.b.pypi.org", "evilpypi.org", ".pypi.org"] {
            assert!(!is_named(host, "*.pypi.org"), "{host}");
        }
    }
}
