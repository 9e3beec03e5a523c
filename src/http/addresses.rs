//! How many connections each address holds, so that one cannot take them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::ServerConfig;

/// The connections of every address that holds one.
#[derive(Debug)]
pub(super) struct Addresses {
    limit: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Counted {
    addresses: Arc<Addresses>,
    /// Who holds it; `None`: it is not counted.
    holder: Option<IpAddr>,
}

impl Addresses {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: Mutex::default() })
    }

    /// Counts a connection of this address; `None` when it holds all that it may. Trusted proxies and this machine come for many.
    pub(super) fn enter(self: &Arc<Self>, config: &ServerConfig, address: IpAddr) -> Option<Counted> {
        let address = address.to_canonical();
        if address.is_loopback() || config.is_trusted_proxy(address) {
            return Some(Counted { addresses: Arc::clone(self), holder: None });
        }
        let holder = network(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(holder).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Counted { addresses: Arc::clone(self), holder: Some(holder) })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(holder) = self.holder else { return };
        let mut held = self.addresses.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&holder);
            }
        }
    }
}

/// Of IPv6 a customer has a /64 at least, and so any number of addresses.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    #[test]
    fn an_address_holds_so_many_and_no_more() {
        let flags = vec![("server.trusted_proxies".to_owned(), "10.0.0.0/8".to_owned())];
        let config = load(&Source { flags, ..Source::default() }).unwrap().server;
        let addresses = Addresses::new(2);
        let enter = |address: &str| addresses.enter(&config, address.parse().unwrap());
        let held = [enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && enter("192.0.2.1").is_none());
        let others = [enter("192.0.2.2"), enter("2001:db8::1"), enter("2001:db8::2"), enter("2001:db8:0:1::1")];
        assert!(others.iter().all(Option::is_some) && enter("2001:db8::3").is_none(), "a /64 is one holder");
        let free: Vec<_> = ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3"]
            .iter()
            .flat_map(|address| [enter(address), enter(address), enter(address)])
            .collect();
        assert!(free.iter().all(Option::is_some));
        drop(held);
        assert!(enter("192.0.2.1").is_some());
        drop((others, free));
        assert!(addresses.held.lock().unwrap().is_empty(), "nobody is remembered who holds none");
    }
}
