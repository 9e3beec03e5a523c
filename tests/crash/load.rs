//! Clients that write without pause, whatever happens to the server, and remember what they were told.

use std::sync::Arc;
use std::time::Duration;

use nworkflow_state::lifecycle::Lifecycle;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::server::Target;
use crate::support::documents::Random;

/// Clients at once.
const CLIENTS: usize = 8;
/// Keys of each kind.
const KEYS: usize = 5;
/// Longest wait for an answer, and for the acknowledged writes to grow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which kind of resource a write is of: its number in the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    State = 1,
    Variable = 2,
}

impl Kind {
    pub(super) fn path(self, key: usize) -> String {
        match self {
            Self::State => format!("/workflows/w/executions/e{key}/state"),
            Self::Variable => format!("/variables/workflow:w/v{key}"),
        }
    }
}

/// What a client knows of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there, at this version.
    Acknowledged { version: i64, replayed: bool },
    /// It was refused: a precondition, or nothing to delete.
    Refused,
    /// It did not happen, for a reason of the server: no connection, or an answer that promises it.
    NotDone,
    /// It happened, or not.
    Unknown,
}

/// One write. Its id is the request id, the idempotency key, and part of the document.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
    pub(super) key: usize,
    is_delete: bool,
    if_match: Option<i64>,
    pub(super) verdict: Verdict,
}

/// Sends requests as a client that has a token.
#[derive(Clone)]
pub(super) struct Sender(Client);

impl Sender {
    pub(super) fn new() -> Self {
        Self(Client::builder().no_proxy().timeout(PATIENCE).build().unwrap())
    }

    pub(super) fn request(&self, target: &Target, method: Method, path: &str) -> RequestBuilder {
        self.0.request(method, format!("{}{path}", target.base)).bearer_auth(&target.token)
    }

    /// A GET that must be answered.
    pub(super) async fn get(&self, target: &Target, path: &str) -> (u16, Value) {
        let answer = self.request(target, Method::GET, path).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    /// Sends a write.
    pub(super) async fn write(&self, target: &Target, operation: &Operation) -> Verdict {
        let method = if operation.is_delete { Method::DELETE } else { Method::PUT };
        let id = operation.id.to_string();
        let mut request = self.request(target, method, &operation.kind.path(operation.key));
        request = request.header("idempotency-key", &id).header("x-request-id", &id);
        if let Some(version) = operation.if_match {
            request = request.header("if-match", format!("\"{version}\""));
        }
        if !operation.is_delete {
            let document = match operation.kind {
                Kind::State => json!({"marking": {"p": operation.key}, "metadata": {"op": id}}),
                Kind::Variable => json!({"value": {"op": id}}),
            };
            request = request.header("content-type", "application/json").body(document.to_string());
        }
        match request.send().await {
            Ok(answer) => judge(answer, operation).await,
            Err(error) if error.is_connect() => Verdict::NotDone,
            Err(_) => Verdict::Unknown,
        }
    }
}

async fn judge(answer: Response, operation: &Operation) -> Verdict {
    let status = answer.status().as_u16();
    let replayed = answer.headers().contains_key("idempotency-replayed");
    assert!(status != 503 || answer.headers().contains_key("retry-after"), "503 without Retry-After");
    let Ok(body) = answer.bytes().await else { return Verdict::Unknown };
    if status == 204 {
        // A deletion has no representation: its version is in the log.
        return Verdict::Acknowledged { version: 0, replayed };
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return Verdict::Unknown };
    match status {
        200 | 201 => {
            let version = body["version"].as_i64().unwrap();
            let op = [&body["metadata"]["op"], &body["value"]["op"]].into_iter().find_map(Value::as_str);
            assert_eq!(op, Some(&*operation.id.to_string()), "the answer is another write's");
            Verdict::Acknowledged { version, replayed }
        }
        404 | 412 => Verdict::Refused,
        _ => match body["code"].as_str().unwrap() {
            "store_unavailable" | "queue_full" | "cache_unavailable" | "overloaded" | "shutting_down" | "idempotency_in_flight" => {
                Verdict::NotDone
            }
            "outcome_unknown" | "deadline_exceeded" => Verdict::Unknown,
            _ => panic!("{status} {body}"),
        },
    }
}

/// What the clients find.
#[derive(Clone)]
enum Phase {
    /// A server that may be away; a client that finds it so waits a little.
    At(Target),
    /// No server.
    Away,
    Over,
}

/// Clients at work.
pub(super) struct Load {
    phase: watch::Sender<Phase>,
    acknowledged: watch::Receiver<usize>,
    clients: Vec<JoinHandle<Vec<Operation>>>,
}

impl Load {
    pub(super) fn start(seed: u64, lifecycle: &Lifecycle) -> Self {
        let phase = watch::Sender::new(Phase::Away);
        let (counter, acknowledged) = watch::channel(0);
        let counter = Arc::new(counter);
        let clients = (0..CLIENTS).map(|client| {
            let random = Random::new(seed.wrapping_mul(31).wrapping_add(client as u64));
            lifecycle.spawn(work(random, phase.subscribe(), Arc::clone(&counter)))
        });
        Self { clients: clients.collect(), phase, acknowledged }
    }

    pub(super) fn goes_to(&self, target: &Target) {
        self.phase.send_replace(Phase::At(target.clone()));
    }

    pub(super) fn pauses(&self) {
        self.phase.send_replace(Phase::Away);
    }

    /// Waits until so many more writes are acknowledged.
    pub(super) async fn progress(&mut self, count: usize) {
        let goal = *self.acknowledged.borrow() + count;
        let waited = tokio::time::timeout(PATIENCE, self.acknowledged.wait_for(|count| *count >= goal)).await;
        assert!(matches!(waited, Ok(Ok(_))), "the server acknowledges no more writes");
    }

    /// All operations that there were.
    pub(super) async fn finish(self) -> Vec<Operation> {
        self.phase.send_replace(Phase::Over);
        let mut operations = Vec::new();
        for client in self.clients {
            operations.extend(client.await.unwrap());
        }
        operations
    }
}

async fn work(mut random: Random, mut phase: watch::Receiver<Phase>, acknowledged: Arc<watch::Sender<usize>>) -> Vec<Operation> {
    let sender = Sender::new();
    let mut operations = Vec::new();
    let mut seen = [[None; KEYS]; 2];
    loop {
        let found = phase.borrow_and_update().clone();
        let target = match found {
            Phase::At(target) => target,
            Phase::Over => return operations,
            Phase::Away => {
                phase.changed().await.unwrap();
                continue;
            }
        };
        let kind = if random.percent(50) { Kind::State } else { Kind::Variable };
        let key = random.below(KEYS);
        let seen = &mut seen[kind as usize - 1][key];
        let mut operation = Operation {
            id: Uuid::from_u64_pair(random.next(), random.next()),
            kind,
            key,
            is_delete: random.percent(8),
            if_match: seen.filter(|_| random.percent(25)),
            verdict: Verdict::Unknown,
        };
        operation.verdict = sender.write(&target, &operation).await;
        match operation.verdict {
            Verdict::Acknowledged { version, .. } => {
                *seen = (version > 0).then_some(version);
                acknowledged.send_modify(|count| *count += 1);
            }
            Verdict::Refused => *seen = None,
            // Away or busy: as a client does that is told to come again.
            Verdict::NotDone | Verdict::Unknown => {
                let _ = tokio::time::timeout(Duration::from_millis(20), phase.changed()).await;
            }
        }
        operations.push(operation);
    }
}
