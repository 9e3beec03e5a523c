//! How much of the server one tenant may have: a share of the requests at work, and so many requests each second.
//!
//! A tenant that sends more than its share is told so (429) before its body is read, and the rest of the server stays with the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::ServerConfig;
use crate::domain::id::TenantId;
use crate::error::{Code, Error};

/// Most tenants that are remembered. Beyond it, those that have nothing at work are forgotten, and begin anew with a full bucket.
const MAX_TENANTS: usize = 16_384;

/// The shares of all tenants.
#[derive(Debug)]
pub struct Shares {
    most_at_work: usize,
    rate: Option<Rate>,
    tenants: Mutex<HashMap<TenantId, Share>>,
}

/// A token bucket's size and how soon it is full again.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u64,
    burst: f64,
}

/// What one tenant has.
#[derive(Debug)]
struct Share {
    at_work: usize,
    /// Requests that it may send at once.
    tokens: f64,
    /// As of when.
    at: Instant,
}

/// A request of a tenant that is at work until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct AtWork {
    shares: Arc<Shares>,
    tenant: TenantId,
}

/// Which limit a request has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// The tenant has so many requests at work.
    AtWork(usize),
    /// The tenant has sent more than so many requests a second; the next one is due after this time.
    Rate(u64, Duration),
}

impl Excess {
    /// The limit's name in the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtWork(_) => "in_flight",
            Self::Rate(..) => "rate",
        }
    }
}

impl From<Excess> for Error {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::AtWork(limit) => {
                Self::new(Code::TooManyRequests, format!("The tenant has {limit} requests at work.")).with_limit(limit as u64)
            }
            Excess::Rate(limit, due) => {
                let seconds = u32::try_from(due.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
                Self::new(Code::TooManyRequests, format!("The tenant sends more than {limit} requests a second."))
                    .with_limit(limit)
                    .with_retry_after(seconds)
            }
        }
    }
}

impl Rate {
    /// The tokens of a bucket at this moment.
    fn tokens(&self, share: &Share, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(share.at).as_secs_f64() * self.per_second as f64;
        (share.tokens + gained).min(self.burst)
    }
}

impl Shares {
    /// The shares that these settings give.
    #[must_use]
    pub fn new(config: &ServerConfig) -> Arc<Self> {
        let rate = (config.tenant_requests_per_second > 0)
            .then(|| Rate { per_second: config.tenant_requests_per_second, burst: config.tenant_burst.max(1) as f64 });
        Arc::new(Self { most_at_work: config.max_in_flight_per_tenant, rate, tenants: Mutex::default() })
    }

    /// Counts a request of this tenant that comes now.
    ///
    /// # Errors
    /// It is one too many, and not counted.
    pub fn enter(self: &Arc<Self>, tenant: &TenantId, now: Instant) -> Result<AtWork, Excess> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= MAX_TENANTS && !tenants.contains_key(tenant) {
            self.forget(&mut tenants, now);
        }
        let burst = self.rate.map_or(0.0, |rate| rate.burst);
        let share = tenants.entry(tenant.clone()).or_insert(Share { at_work: 0, tokens: burst, at: now });
        if share.at_work >= self.most_at_work {
            return Err(Excess::AtWork(self.most_at_work));
        }
        if let Some(rate) = &self.rate {
            let tokens = rate.tokens(share, now);
            if tokens < 1.0 {
                return Err(Excess::Rate(rate.per_second, Duration::from_secs_f64((1.0 - tokens) / rate.per_second as f64)));
            }
            // A request that comes before `at` (two threads, each with its moment) leaves that as it is.
            (share.tokens, share.at) = (tokens - 1.0, now.max(share.at));
        }
        share.at_work += 1;
        Ok(AtWork { shares: Arc::clone(self), tenant: tenant.clone() })
    }

    /// Forgets the tenants that have all that they may have, and, when that makes no room, those that have nothing at work.
    fn forget(&self, tenants: &mut HashMap<TenantId, Share>, now: Instant) {
        tenants.retain(|_, share| share.at_work > 0 || !self.is_full(share, now));
        if tenants.len() >= MAX_TENANTS / 2 {
            tenants.retain(|_, share| share.at_work > 0);
        }
    }

    fn is_full(&self, share: &Share, now: Instant) -> bool {
        self.rate.is_none_or(|rate| rate.tokens(share, now) >= rate.burst)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut tenants = self.shares.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = tenants.get_mut(&self.tenant) {
            share.at_work -= 1;
            // With a rate the bucket is remembered until it is full again.
            if share.at_work == 0 && self.shares.rate.is_none() {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    fn shares(settings: &[(&str, &str)]) -> Arc<Shares> {
        let flags = settings.iter().map(|(key, value)| (format!("server.{key}"), (*value).to_owned())).collect();
        Shares::new(&load(&Source { flags, ..Source::default() }).unwrap().server)
    }

    fn tenant(name: impl Into<String>) -> TenantId {
        TenantId::parse(&name.into()).unwrap()
    }

    #[test]
    fn a_tenant_has_its_share_at_work_and_no_more() {
        let shares = shares(&[("max_in_flight_per_tenant", "2")]);
        let (acme, other, now) = (tenant("acme"), tenant("other"), Instant::now());
        let first = shares.enter(&acme, now).unwrap();
        let second = shares.enter(&acme, now).unwrap();
        assert_eq!(shares.enter(&acme, now).unwrap_err(), Excess::AtWork(2));
        let others = shares.enter(&other, now).unwrap();
        drop(first);
        let third = shares.enter(&acme, now).unwrap();
        assert_eq!(shares.enter(&acme, now).unwrap_err(), Excess::AtWork(2));
        drop((second, third, others));
        assert!(shares.tenants.lock().unwrap().is_empty(), "nobody is remembered who has nothing at work");
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_the_rate() {
        let shares = shares(&[("tenant_requests_per_second", "10"), ("tenant_burst", "5")]);
        let (acme, begin) = (tenant("acme"), Instant::now());
        let sent = |at: Duration, count: usize| (0..count).filter(|_| shares.enter(&acme, begin + at).is_ok()).count();
        assert_eq!(sent(Duration::ZERO, 20), 5);
        let Err(Excess::Rate(10, due)) = shares.enter(&acme, begin) else { panic!("the bucket is empty") };
        assert!((Duration::from_millis(99)..=Duration::from_millis(101)).contains(&due), "{due:?}");
        // A clock that stands still or goes back gives nothing.
        assert_eq!(sent(Duration::ZERO, 20), 0);
        assert_eq!(sent(Duration::from_millis(1000), 20), 5, "never more than the burst");
        assert_eq!((1..=100).map(|step| sent(Duration::from_millis(1000 + step * 50), 3)).sum::<usize>(), 50);
        assert!(shares.enter(&tenant("other"), begin).is_ok());
        let error = Error::from(Excess::Rate(10, Duration::from_millis(1500)));
        assert_eq!((error.code, error.limit, error.retry_after_seconds), (Code::TooManyRequests, Some(10), Some(2)));
    }

    #[test]
    fn the_memory_of_tenants_has_an_end() {
        let shares = shares(&[("tenant_requests_per_second", "1"), ("tenant_burst", "1")]);
        let begin = Instant::now();
        let held = shares.enter(&tenant("held"), begin).unwrap();
        for number in 0..MAX_TENANTS * 3 {
            drop(shares.enter(&tenant(format!("t{number}")), begin).unwrap());
        }
        let count = |shares: &Shares| shares.tenants.lock().unwrap().len();
        assert!(count(&shares) <= MAX_TENANTS, "{}", count(&shares));
        assert!(matches!(shares.enter(&tenant("held"), begin), Err(Excess::Rate(..))), "whoever has something at work is not forgotten");
        drop(held);
        // Buckets that are full again are the first to go.
        let mut tenants = shares.tenants.lock().unwrap();
        shares.forget(&mut tenants, begin + Duration::from_secs(2));
        assert!(tenants.is_empty());
    }
}
