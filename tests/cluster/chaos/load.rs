//! Clients that read and write without pause, whatever happens to the servers, and remember all that they were told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nworkflow_state::lifecycle::Lifecycle;
use reqwest::Method;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::cluster::client::{Answer, Client, From, state};
use crate::support::documents::Random;

/// Clients at once.
pub(super) const CLIENTS: usize = 24;
/// Keys of which each next one is asked for less often.
pub(super) const KEYS: usize = 200;
/// Keys that all ask for.
pub(super) const HOT: usize = 3;
/// Pause of a client that was told to come again.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client knows of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there; at this version, when the answer said so.
    Acknowledged(Option<i64>),
    /// A precondition failed, or there was nothing to delete.
    Refused,
    /// It did not happen, for a reason of the server.
    NotDone,
    /// It happened, or not.
    Unknown,
}

#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) id: Uuid,
    pub(super) key: usize,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) verdict: Verdict,
}

#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) key: usize,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    /// Of what was found; `None`: 404.
    pub(super) found: Option<(i64, String)>,
    pub(super) from: From,
    pub(super) strong: bool,
    /// What this client had written or been told by the same server in the same life of it, when it asked: as a writer, and as a reader of
    /// caches.
    pub(super) written: i64,
    pub(super) seen: i64,
    #[expect(dead_code, reason = "of the debug output")]
    pub(super) server: usize,
}

#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<Read>,
    /// Reads that were not answered.
    pub(super) unanswered: usize,
}

/// Clients at work.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Story>>,
}

impl Load {
    /// Clients of these servers, on keys that begin with this letter.
    pub(super) fn start(letter: char, seed: u64, servers: &[Client], lives: &[Arc<AtomicUsize>], lifecycle: &Lifecycle) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|number| {
            let worker = Worker {
                letter,
                random: Random::new(seed.wrapping_mul(1009).wrapping_add(number as u64)),
                servers: servers.to_vec(),
                lives: lives.to_vec(),
                server: number % servers.len(),
                life: 0,
                written: HashMap::new(),
                seen: HashMap::new(),
                story: Story::default(),
            };
            lifecycle.spawn(worker.run(Arc::clone(&over)))
        });
        Self { clients: clients.collect(), over }
    }

    pub(super) async fn finish(self) -> Story {
        self.over.store(true, Ordering::SeqCst);
        let mut all = Story::default();
        for client in self.clients {
            let story = client.await.unwrap();
            all.writes.extend(story.writes);
            all.reads.extend(story.reads);
            all.unanswered += story.unanswered;
        }
        all
    }
}

struct Worker {
    letter: char,
    random: Random,
    servers: Vec<Client>,
    /// How often each server has been started.
    lives: Vec<Arc<AtomicUsize>>,
    server: usize,
    life: usize,
    written: HashMap<usize, i64>,
    seen: HashMap<usize, i64>,
    story: Story,
}

pub(super) fn path(letter: char, key: usize) -> String {
    state(format_args!("{letter}{key}"))
}

impl Worker {
    async fn run(mut self, over: Arc<AtomicBool>) -> Story {
        while !over.load(Ordering::SeqCst) {
            let life = self.lives[self.server].load(Ordering::SeqCst);
            if life != self.life {
                self.begin_anew(life);
            }
            let key = self.key();
            let is_answered = if self.random.percent(70) { self.read(key).await } else { self.write(key).await };
            if !is_answered {
                tokio::time::sleep(PAUSE).await;
                if self.random.percent(20) {
                    self.server = self.random.below(self.servers.len());
                    self.begin_anew(self.lives[self.server].load(Ordering::SeqCst));
                }
            }
        }
        self.story
    }

    /// Another server, or another life of it, has promised nothing yet.
    fn begin_anew(&mut self, life: usize) {
        self.life = life;
        self.written.clear();
        self.seen.clear();
    }

    fn key(&mut self) -> usize {
        if self.random.percent(30) {
            return KEYS + self.random.below(HOT);
        }
        // Each power of two of the keys as often as the next: near enough to Zipf.
        let share = self.random.below(1_000_000) as f64 / 1e6;
        ((KEYS as f64).powf(share) as usize).saturating_sub(1)
    }

    async fn read(&mut self, key: usize) -> bool {
        let strong = self.random.percent(15);
        let mut request = self.servers[self.server].request(Method::GET, &path(self.letter, key)).timeout(PATIENCE);
        if strong {
            request = request.header("cache-control", "no-cache");
        }
        let begun = Instant::now();
        let answer = Client::try_send(request).await;
        let ended = Instant::now();
        let Ok(Answer { status: status @ (200 | 404), version, from, body, .. }) = answer else {
            self.story.unanswered += 1;
            return false;
        };
        let found = (status == 200).then(|| (version, body["metadata"]["op"].as_str().unwrap_or_default().to_owned()));
        let of = |map: &HashMap<usize, i64>| map.get(&key).copied().unwrap_or(0);
        let (written, seen) = (of(&self.written), of(&self.seen));
        if !strong && found.is_some() {
            self.seen.insert(key, seen.max(version));
        }
        self.story.reads.push(Read { key, begun, ended, found, from, strong, written, seen, server: self.server });
        true
    }

    async fn write(&mut self, key: usize) -> bool {
        let id = Uuid::from_u64_pair(self.random.next(), self.random.next());
        let (text, path) = (id.to_string(), path(self.letter, key));
        let client = &self.servers[self.server];
        let request = if self.random.percent(8) { client.request(Method::DELETE, &path) } else { client.write(&path, &text) };
        let mut request = request.timeout(PATIENCE).header("idempotency-key", &text).header("x-request-id", &text);
        let known = self.written.get(&key).or_else(|| self.seen.get(&key));
        if let Some(version) = known.filter(|version| **version > 0 && self.random.percent(10)) {
            request = request.header("if-match", format!("\"{version}\""));
        }
        let begun = Instant::now();
        let answer = Client::try_send(request).await;
        let ended = Instant::now();
        let verdict = match &answer {
            Ok(answer) => judge(answer, &text),
            Err(error) if error.is_connect() => Verdict::NotDone,
            Err(_) => Verdict::Unknown,
        };
        if let Verdict::Acknowledged(version) = verdict {
            // A deletion does not say its version: it is one more than what was there, whatever that was.
            let least = version.unwrap_or_else(|| self.written.get(&key).map_or(0, |version| version + 1));
            self.written.insert(key, least);
        }
        self.story.writes.push(Write { id, key, begun, ended, verdict });
        matches!(verdict, Verdict::Acknowledged(_) | Verdict::Refused)
    }
}

fn judge(answer: &Answer, operation: &str) -> Verdict {
    match answer.status {
        204 => Verdict::Acknowledged(None),
        200 | 201 => {
            assert_eq!(answer.body["metadata"]["op"], operation, "the answer is another write's");
            Verdict::Acknowledged(Some(answer.version))
        }
        404 | 412 => Verdict::Refused,
        _ => match answer.code() {
            "store_unavailable" | "queue_full" | "cache_unavailable" | "overloaded" | "shutting_down" | "idempotency_in_flight" => {
                Verdict::NotDone
            }
            "outcome_unknown" | "deadline_exceeded" => Verdict::Unknown,
            _ => panic!("{answer:?}"),
        },
    }
}
