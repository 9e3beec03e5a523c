//! Who calls, and whether over TLS: the other end of the connection, or what proxies say that are trusted.
//!
//! A list of addresses is read from its end, where the nearest proxy wrote, and only as far as those who wrote it are trusted: whatever a
//! client has put before that is its own word, and nobody's proof.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::config::{ProxyHeader, ServerConfig};

/// The one who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its address.
    pub(super) address: IpAddr,
    /// Whether a trusted proxy got the request over TLS.
    pub(super) is_secure: bool,
}

/// What one proxy says: whom it got the request from, and how. Either may be left out.
#[derive(Debug, Clone, Default)]
struct Hop {
    from: Option<IpAddr>,
    is_secure: bool,
}

impl Peer {
    /// Who calls through the connection of `connected`.
    pub(super) fn of(config: &ServerConfig, connected: IpAddr, headers: &HeaderMap) -> Self {
        let mut peer = Self { address: connected.to_canonical(), is_secure: false };
        if config.trusted_proxies.is_empty() {
            return peer;
        }
        let hops = match config.proxy_header {
            ProxyHeader::XForwarded => x_forwarded(headers),
            ProxyHeader::Forwarded => forwarded(headers),
        };
        for hop in hops.iter().rev() {
            if !config.is_trusted_proxy(peer.address) {
                break;
            }
            peer.is_secure = hop.is_secure;
            let Some(from) = hop.from else { break };
            peer.address = from.to_canonical();
        }
        peer
    }
}

/// The values of a header as one list.
fn texts<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default())
}

fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let list = |name| -> Vec<&str> { texts(headers, name).flat_map(|text| text.split(',')).map(str::trim).collect() };
    let (froms, schemes) = (list("x-forwarded-for"), list("x-forwarded-proto"));
    // Most proxies keep one scheme for the whole way.
    let is_secure = |index: usize| {
        let scheme = if schemes.len() == froms.len() { schemes.get(index) } else { schemes.last() };
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    };
    if froms.is_empty() {
        return vec![Hop { from: None, is_secure: schemes.last().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) }];
    }
    froms.iter().enumerate().map(|(index, from)| Hop { from: address(from), is_secure: is_secure(index) }).collect()
}

fn forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let elements = texts(headers, "forwarded").flat_map(|text| split(text, ','));
    elements
        .map(|element| {
            let mut hop = Hop::default();
            for (name, value) in split(element, ';').filter_map(|pair| pair.trim().split_once('=')) {
                let value = value.trim_matches('"');
                match name.to_ascii_lowercase().as_str() {
                    "for" => hop.from = address(value),
                    "proto" => hop.is_secure = value.eq_ignore_ascii_case("https"),
                    _ => {}
                }
            }
            hop
        })
        .collect()
}

/// Splits outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |character| {
        is_quoted ^= character == '"';
        character == separator && !is_quoted
    })
}

/// An address, maybe with a port. Names such as `unknown` are none.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::{Source, load};

    fn peer(proxies: &str, header: &str, connected: &str, headers: &[(&'static str, &'static str)]) -> (String, bool) {
        let flags = vec![("server.trusted_proxies".to_owned(), proxies.to_owned()), ("server.proxy_header".to_owned(), header.to_owned())];
        let config = load(&Source { flags, ..Source::default() }).unwrap().server;
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        let peer = Peer::of(&config, connected.parse().unwrap(), &map);
        (peer.address.to_string(), peer.is_secure)
    }

    const BOTH: &[(&str, &str)] =
        &[("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https"), ("forwarded", "for=198.51.100.9;proto=https")];

    #[test]
    fn nobody_is_believed_who_is_not_trusted() {
        for (proxies, connected) in [("", "10.0.0.1"), ("10.0.0.0/8", "192.0.2.1"), ("10.0.0.0/8", "::1"), ("10.0.0.1", "10.0.0.2")] {
            assert_eq!(peer(proxies, "x-forwarded", connected, BOTH), (connected.to_owned(), false), "{proxies} {connected}");
            assert_eq!(peer(proxies, "forwarded", connected, BOTH), (connected.to_owned(), false), "{proxies} {connected}");
        }
    }

    #[test]
    fn one_header_is_read_and_the_other_is_the_clients() {
        assert_eq!(peer("10.0.0.0/8", "x-forwarded", "10.0.0.1", BOTH), ("203.0.113.7".to_owned(), true));
        assert_eq!(peer("10.0.0.0/8", "forwarded", "10.0.0.1", BOTH), ("198.51.100.9".to_owned(), true));
        assert_eq!(peer("10.0.0.0/8", "forwarded", "10.0.0.1", &BOTH[..2]), ("10.0.0.1".to_owned(), false));
        // A dual-stack listener shows addresses of version 4 in those of version 6.
        assert_eq!(peer("10.0.0.0/8", "forwarded", "::ffff:10.0.0.1", BOTH), ("198.51.100.9".to_owned(), true));
    }

    #[test]
    fn a_list_is_believed_from_its_end_to_the_first_stranger() {
        for (list, expected) in [
            ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
            ("1.1.1.1, 203.0.113.7, 10.0.0.9", "203.0.113.7"),
            ("203.0.113.7:4711", "203.0.113.7"),
            ("[2001:db8::7]:4711, 10.1.1.1", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("unknown", "10.0.0.1"),
            ("203.0.113.7, garbage, 10.0.0.9", "10.0.0.9"),
            ("10.0.0.3", "10.0.0.3"),
            ("", "10.0.0.1"),
            (",,,", "10.0.0.1"),
        ] {
            assert_eq!(peer("10.0.0.0/8", "x-forwarded", "10.0.0.1", &[("x-forwarded-for", list)]).0, expected, "{list}");
        }
        let twice = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(peer("10.0.0.0/8", "x-forwarded", "10.0.0.1", &twice).0, "203.0.113.7");
        for (list, expected) in [
            ("for=1.1.1.1, for=203.0.113.7;proto=https", ("203.0.113.7", true)),
            ("for=203.0.113.7;proto=https, for=10.0.0.9;proto=http", ("203.0.113.7", true)),
            ("FOR=\"[2001:db8::7]:80\"; Proto=HTTPS;by=10.0.0.1", ("2001:db8::7", true)),
            ("for=1.1.1.1;proto=https, for=203.0.113.7;proto=http", ("203.0.113.7", false)),
            ("for=\"a,b;for=1.1.1.1\"", ("10.0.0.1", false)),
            ("for=_hidden;proto=https", ("10.0.0.1", true)),
        ] {
            let found = peer("10.0.0.0/8", "forwarded", "10.0.0.1", &[("forwarded", list)]);
            assert_eq!(found, (expected.0.to_owned(), expected.1), "{list}");
        }
    }

    #[test]
    fn a_scheme_is_believed_where_its_address_is() {
        let scheme = |list: &'static str, schemes: &'static str| {
            peer("10.0.0.0/8", "x-forwarded", "10.0.0.1", &[("x-forwarded-for", list), ("x-forwarded-proto", schemes)]).1
        };
        assert!(scheme("203.0.113.7, 10.0.0.9", "https"));
        assert!(scheme("203.0.113.7, 10.0.0.9", "https, http"));
        assert!(!scheme("1.1.1.1, 203.0.113.7", "https, http"));
        assert!(!scheme("203.0.113.7", "https, http"));
        assert_eq!(peer("10.0.0.0/8", "x-forwarded", "10.0.0.1", &[("x-forwarded-proto", "https")]), ("10.0.0.1".to_owned(), true));
    }
}
