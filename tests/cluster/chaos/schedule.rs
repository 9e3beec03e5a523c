//! What happens to the servers and to all between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::oracle::Excuses;
use super::{LOCAL_TTL_MS, TIER_TTL_MS};
use crate::cluster::client::{Client, state};
use crate::cluster::flavour::Tier;
use crate::cluster::ground::{Database, Ground};
use crate::cluster::process::Process;
use crate::cluster::until;
use crate::support::documents::Random;
use crate::support::redis::RedisServer;
use crate::support::tcp_proxy::{Direction, Mode, TcpProxy};

/// How long a server that was cut off may take to tell the second tier what it could not: it looks for it every half second.
const REPAIR: Duration = Duration::from_millis(2500);

/// How long an entry may be believed that nobody takes away.
const WORST: Duration = Duration::from_millis(TIER_TTL_MS + LOCAL_TTL_MS);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    KillServer,
    KillTier,
    FlushTier,
    StallTier,
    CrashPostgres,
    KillBackends,
    /// The connections of one server to the second tier are reset; new ones are taken.
    Reset,
    /// One server does not reach the second tier: connections break, and new ones are refused.
    Refuse,
    /// The same without a word.
    Swallow,
    SlowLink,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::KillServer,
        Self::KillTier,
        Self::FlushTier,
        Self::StallTier,
        Self::CrashPostgres,
        Self::KillBackends,
        Self::Reset,
        Self::Refuse,
        Self::Swallow,
        Self::SlowLink,
    ];
}

/// Everything that faults happen to.
pub(super) struct Scene {
    pub(super) ground: Ground,
    pub(super) processes: Vec<Process>,
    /// How often each server has been started.
    pub(super) lives: Vec<Arc<AtomicUsize>>,
    pub(super) excuses: Excuses,
    pub(super) recoveries: Vec<(Fault, Duration)>,
    pub(super) strict: bool,
}

impl Scene {
    /// Lets it happen, and ends it.
    pub(super) async fn strike(&mut self, fault: Fault, random: &mut Random) {
        let number = random.below(self.processes.len());
        let lasts = Duration::from_millis(200 + random.below(2500) as u64);
        let begun = Instant::now();
        match fault {
            Fault::KillServer => {
                block_in_place(|| self.processes[number].kill());
                sleep(lasts / 4).await;
                self.lives[number].fetch_add(1, Ordering::SeqCst);
                self.processes[number].launch();
            }
            Fault::KillTier => {
                block_in_place(|| self.server().kill());
                sleep(lasts / 2).await;
                block_in_place(|| self.server().restart());
            }
            Fault::FlushTier => self.ground.tier.flush_all(),
            Fault::StallTier => {
                block_in_place(|| self.server().pause());
                sleep(lasts).await;
                block_in_place(|| self.server().resume());
            }
            Fault::CrashPostgres => {
                block_in_place(|| self.cluster().crash());
                sleep(lasts / 4).await;
                block_in_place(|| self.cluster().start());
            }
            Fault::KillBackends => {
                let options: PgConnectOptions = self.ground.database.superuser_url().parse().unwrap();
                let mut connection = options.connect().await.unwrap();
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                connection.execute(all).await.unwrap();
            }
            Fault::Reset => self.way(number).reset(),
            Fault::Refuse => {
                self.way(number).refuse().await;
                self.way(number).reset();
                sleep(lasts).await;
                self.way(number).accept().await;
            }
            Fault::Swallow => {
                self.way(number).set_both(Mode::Stall);
                sleep(lasts).await;
                self.way(number).set_both(Mode::Pass);
            }
            Fault::SlowLink => {
                let delay = Duration::from_millis(5 + random.below(60) as u64);
                self.way(number).set(Direction::ToServer, Mode::Delay(delay, delay / 2));
                sleep(lasts).await;
                self.way(number).set(Direction::ToServer, Mode::Pass);
            }
        }
        let over = Instant::now();
        match fault {
            // With a writer goes what it knew of its writes: then nothing but its time ends an entry that it could not replace.
            Fault::KillServer if self.excuses.iter().any(|(_, until)| *until > begun) => self.excuses.push((begun, over + WORST)),
            Fault::StallTier | Fault::Reset | Fault::Refuse | Fault::Swallow | Fault::SlowLink => self.excuses.push((begun, over + REPAIR)),
            _ => {}
        }
    }

    /// Waits until every server takes writes and uses both tiers.
    pub(super) async fn recover(&mut self) {
        for (number, process) in self.processes.iter_mut().enumerate() {
            let canary = state(format_args!("canary-{number}"));
            until("a server takes writes", async || {
                if !process.lives() {
                    // The database went away while it started, and it has said so: whoever runs it starts it again.
                    let last = process.said("").pop().unwrap_or_default();
                    assert!(last.starts_with("nworkflow-state: "), "server {number} has ended by itself: {last}");
                    self.lives[number].fetch_add(1, Ordering::SeqCst);
                    process.launch();
                }
                let request = process.client.write(&canary, "canary").timeout(Duration::from_secs(2));
                Client::try_send(request).await.is_ok_and(|answer| matches!(answer.status, 200 | 201))
            })
            .await;
            process.uses_both_tiers().await;
        }
    }

    fn server(&mut self) -> &mut RedisServer {
        match &mut self.ground.tier {
            Tier::One(server) => server,
            Tier::Nodes(_) => panic!("the chaos is for one server of the second tier"),
        }
    }

    fn cluster(&mut self) -> &mut crate::support::postgres_cluster::Cluster {
        match &mut self.ground.database {
            Database::Own(cluster) => cluster,
            Database::Shared(_) => panic!("others need this database"),
        }
    }

    fn way(&mut self, number: usize) -> &mut TcpProxy {
        self.ground.ways[number].tier.as_mut().unwrap()
    }

    /// What a cached read of each server tells of a key: its version and operation, when it is there.
    pub(super) async fn told(&self, path: &str) -> Vec<Option<(i64, String)>> {
        let mut told = Vec::new();
        for process in &self.processes {
            let answer = Client::send(process.client.request(Method::GET, path)).await;
            assert!(matches!(answer.status, 200 | 404), "{answer:?}");
            told.push((answer.status == 200).then(|| (answer.version, answer.body["metadata"]["op"].as_str().unwrap().to_owned())));
        }
        told
    }
}
