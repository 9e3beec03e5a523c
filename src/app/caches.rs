//! The caches: which there are, what tells them of commits, and the tasks that keep them right.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::cache::bus;
use crate::cache::dragonfly::Address;
use crate::cache::{Dragonfly, LocalTier, Tiers};
use crate::config::Config;
use crate::domain::clock::Clock;
use crate::domain::commit::CommitObserver;
use crate::domain::store_life::StoreLife;
use crate::lifecycle::Lifecycle;
use crate::store::postgres::Presence;

/// How long a server that was alone at its last look believes to be.
const BELIEVED_ALONE: Duration = Duration::from_secs(3);

/// A name that no other process has: 128 bits of the seeds of hash maps.
fn random_name() -> String {
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}

/// The caches of a server and what they are told by.
#[derive(Debug, Clone)]
pub struct Caches {
    /// The tiers and their protocol.
    pub tiers: Tiers,
    /// What the store tells of its clock and its life.
    pub life: StoreLife,
    local_wanted: bool,
}

impl Caches {
    /// The caches of these settings; nothing is connected yet.
    ///
    /// With PostgreSQL the local tier begins off: other servers write to the database too, and only the bus of a second tier tells this one.
    ///
    /// # Errors
    /// A sentence for the operator: the settings of the second tier cannot be used.
    pub fn new(config: &Config, clock: Clock, lifecycle: &Lifecycle) -> Result<Self, String> {
        if config.database.is_embedded() {
            return Ok(Self::local_only(Arc::new(LocalTier::new(&config.cache, clock.clone())), clock, lifecycle));
        }
        let life = StoreLife::database(clock.clone());
        let local = Arc::new(LocalTier::over(&config.cache, clock, life.clone()));
        local.set_enabled(false);
        let tiers = if config.dragonfly.is_configured() {
            let address = Address::new(&config.dragonfly)?;
            let origin = random_name();
            let second = Dragonfly::new(address, config.dragonfly.clone(), config.cache.negative_ttl_ms.into(), life.clone(), origin);
            Tiers::both(local, Arc::new(second), lifecycle.clone())
        } else {
            Tiers::local_only(local, lifecycle.clone())
        };
        Ok(Self { tiers, life, local_wanted: config.cache.local })
    }

    /// A local tier over a store with this process's clock.
    #[must_use]
    pub fn local_only(local: Arc<LocalTier>, clock: Clock, lifecycle: &Lifecycle) -> Self {
        let local_wanted = local.is_enabled();
        Self { tiers: Tiers::local_only(local, lifecycle.clone()), life: StoreLife::embedded(clock), local_wanted }
    }

    /// What the store is to tell of its commits.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn CommitObserver> {
        Arc::new(self.tiers.clone())
    }

    /// Begins to keep this server's place among those of the database. One that is alone, without a second tier, believes its own memory
    /// while it is.
    pub fn keep_place(&self, presence: Presence, alone: bool, lifecycle: &Lifecycle) {
        let believes = alone && self.local_wanted && self.tiers.second().is_none();
        let tiers = self.tiers.clone();
        let held = move |held: bool| {
            if believes {
                // A process that slept may have lost the place without knowing.
                tiers.local().trust_for(BELIEVED_ALONE);
                if tiers.local().is_enabled() != held {
                    tiers.local().set_enabled(held);
                }
            }
        };
        held(true);
        let stop = lifecycle.soft().clone();
        lifecycle.supervise("place among the servers", async move {
            if let Err(error) = presence.keep(stop, held).await {
                tracing::error!(%error, "this server must not serve any more");
            }
        });
    }

    /// After the last write: tells the second tier what it has not been told yet.
    pub async fn finish(&self) {
        if let Some(second) = self.tiers.second() {
            second.finish().await;
        }
    }

    /// Starts what keeps the second tier connected and the local one right.
    pub fn start(&self, lifecycle: &Lifecycle) {
        let Some(second) = self.tiers.second() else { return };
        lifecycle.supervise("second cache tier", Arc::clone(second).run(lifecycle.clone()));
        lifecycle.supervise("heartbeat", bus::beat(self.tiers.clone(), Arc::clone(second), lifecycle.clone()));
        let listening = bus::run(self.tiers.clone(), Arc::clone(second), self.local_wanted, lifecycle.clone());
        lifecycle.supervise("bus", listening);
    }
}
