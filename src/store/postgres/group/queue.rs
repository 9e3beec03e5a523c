//! What waits in a lane, tenant by tenant, and what of it may go into the next group.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::pool::Begun;
use super::{GroupLimits, Grouped};
use crate::domain::id::TenantId;
use crate::store::{Result, StoreError};

/// How long a group may take before its tenant's next one is begun beside it. So a row that somebody else has locked delays the writes of
/// that row, and not those of its lane; and on a slow disk more than one commit is under way.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);

/// Below how many rows at work a further group of the tenant is begun at once: with few writers each has a commit of its own, as if there
/// were no groups, and none waits for the one who came a moment earlier.
const FEW: usize = 4;

/// A request on its way.
pub(super) struct Job<R: Grouped> {
    pub(super) row: R,
    pub(super) reply: oneshot::Sender<Result<R::Answer>>,
    pub(super) queued_at: Instant,
    /// When nobody waits for the answer any more.
    pub(super) deadline: Option<Instant>,
    /// The moment for [`answers_since`](super::super::pool::Pool::answers_since).
    pub(super) begun: Begun,
    /// Its place in the queue, given back when a group takes it.
    pub(super) place: OwnedSemaphorePermit,
}

/// What no two writes at work have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Name<K> {
    Key(K),
    Idempotency(Uuid),
}

fn names<R: Grouped>(row: &R) -> impl Iterator<Item = Name<R::Key>> {
    let key = R::WRITES.then(|| Name::Key(row.key().clone()));
    let idempotency = if R::WRITES { row.idempotency().map(Name::Idempotency) } else { None };
    key.into_iter().chain(idempotency)
}

/// The way back to a caller, and until when he waits.
pub(super) struct Reply<T> {
    sender: oneshot::Sender<Result<T>>,
    pub(super) deadline: Option<Instant>,
}

impl<T> Reply<T> {
    /// Tells the caller. He may have gone away; what happened has happened all the same.
    pub(super) fn send(self, answer: Result<T>) {
        let _ = self.sender.send(answer);
    }
}

/// Requests that are answered together.
pub(super) struct Group<R: Grouped> {
    pub(super) tenant: TenantId,
    pub(super) rows: Vec<R>,
    pub(super) replies: Vec<Reply<R::Answer>>,
    pub(super) ticket: Ticket<R::Key>,
    /// When the one that has waited longest was queued.
    pub(super) since: Instant,
}

/// What a lane needs to know of a group at its end.
pub(super) struct Ticket<K> {
    tenant: TenantId,
    number: u64,
    names: Vec<Name<K>>,
}

/// A group at work.
struct AtWork {
    number: u64,
    since: Instant,
    rows: usize,
}

/// The requests of one tenant.
struct Line<R: Grouped> {
    waiting: VecDeque<Job<R>>,
    /// How many of the first were looked at since the last end of a group: they wait for names in `busy`, or behind one that does.
    looked_at: usize,
    /// Their names: what comes later and has one of them keeps its place behind them.
    behind: HashSet<Name<R::Key>>,
    /// The names of groups at work.
    busy: HashSet<Name<R::Key>>,
    at_work: Vec<AtWork>,
}

impl<R: Grouped> Line<R> {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), looked_at: 0, behind: HashSet::new(), busy: HashSet::new(), at_work: Vec::new() }
    }

    fn may_begin(&self, now: Instant) -> bool {
        let young = || self.at_work.iter().filter(|group| now.saturating_duration_since(group.since) < PATIENCE);
        self.looked_at < self.waiting.len() && (young().count() < R::TOGETHER || young().map(|group| group.rows).sum::<usize>() < FEW)
    }

    /// The rows of the next group: in their order, those whose names are free and not waited for by an earlier one.
    fn take(&mut self, now: Instant, limits: &GroupLimits) -> (Vec<Job<R>>, Vec<Name<R::Key>>) {
        let mut rest = self.waiting.split_off(self.looked_at);
        let (mut taken, mut taken_names, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while taken.len() < limits.rows && (taken.is_empty() || bytes < limits.bytes) {
            let Some(job) = rest.pop_front() else { break };
            // Whoever asked for nothing but an answer and has left needs none.
            if !R::WRITES && job.reply.is_closed() {
                continue;
            }
            // Nothing is begun that comes too late: the time is for those who still wait.
            if job.deadline.is_some_and(|deadline| deadline <= now) {
                let _ = job.reply.send(Err(StoreError::Late));
                continue;
            }
            if names(&job.row).any(|name| self.busy.contains(&name) || self.behind.contains(&name)) {
                self.behind.extend(names(&job.row));
                self.waiting.push_back(job);
                continue;
            }
            self.busy.extend(names(&job.row));
            taken_names.extend(names(&job.row));
            bytes = bytes.saturating_add(job.row.bytes());
            taken.push(job);
        }
        self.looked_at = self.waiting.len();
        self.waiting.append(&mut rest);
        (taken, taken_names)
    }

    fn look_anew(&mut self) {
        self.looked_at = 0;
        self.behind.clear();
    }
}

/// What waits in a lane.
pub(super) struct Queue<R: Grouped> {
    lines: HashMap<TenantId, Line<R>>,
    /// The tenants for whom something waits, in the order of their turns.
    turns: VecDeque<TenantId>,
    last_number: u64,
}

impl<R: Grouped> Queue<R> {
    pub(super) fn new() -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), last_number: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Puts a request at the end of its tenant's line.
    pub(super) fn push(&mut self, job: Job<R>) {
        let tenant = job.row.tenant();
        let line = match self.lines.get_mut(tenant) {
            Some(line) => line,
            None => self.lines.entry(tenant.clone()).or_insert_with(Line::new),
        };
        if line.waiting.is_empty() {
            self.turns.push_back(tenant.clone());
        }
        line.waiting.push_back(job);
    }

    /// The next group that may begin now, of the tenant who has waited for his turn the longest.
    pub(super) fn next_group(&mut self, now: Instant, limits: &GroupLimits) -> Option<Group<R>> {
        for turn in 0..self.turns.len() {
            let tenant = self.turns.get(turn)?.clone();
            let Some(line) = self.lines.get_mut(&tenant) else { continue };
            if !line.may_begin(now) {
                continue;
            }
            let (jobs, names) = line.take(now, limits);
            let waits_on = !line.waiting.is_empty();
            if jobs.is_empty() && waits_on {
                continue;
            }
            self.turns.remove(turn);
            if waits_on {
                self.turns.push_back(tenant.clone());
            }
            if jobs.is_empty() {
                self.forget_idle(&tenant);
                return self.next_group(now, limits);
            }
            self.last_number += 1;
            line.at_work.push(AtWork { number: self.last_number, since: now, rows: jobs.len() });
            let ticket = Ticket { tenant: tenant.clone(), number: self.last_number, names };
            let since = jobs.iter().map(|job| job.queued_at).min().unwrap_or(now);
            let begin = |Job { row, reply, deadline, place, .. }: Job<R>| {
                drop(place);
                (row, Reply { sender: reply, deadline })
            };
            let (rows, replies) = jobs.into_iter().map(begin).unzip();
            return Some(Group { tenant, rows, replies, ticket, since });
        }
        None
    }

    /// A group has ended: its names are free.
    pub(super) fn end(&mut self, ticket: &Ticket<R::Key>) {
        let Some(line) = self.lines.get_mut(&ticket.tenant) else { return };
        line.at_work.retain(|group| group.number != ticket.number);
        for name in &ticket.names {
            line.busy.remove(name);
        }
        line.look_anew();
        self.forget_idle(&ticket.tenant);
    }

    /// The next moment at which a group at work will have taken longer than [`PATIENCE`].
    pub(super) fn next_patience(&self, now: Instant) -> Option<Instant> {
        let beginnings = self.turns.iter().filter_map(|tenant| self.lines.get(tenant)).flat_map(|line| &line.at_work);
        beginnings.map(|group| group.since + PATIENCE).filter(|moment| *moment > now).min()
    }

    /// Takes out what was queued before this moment.
    pub(super) fn expire(&mut self, before: Instant) -> Vec<Job<R>> {
        let mut expired = Vec::new();
        for tenant in &self.turns {
            let Some(line) = self.lines.get_mut(tenant) else { continue };
            while line.waiting.front().is_some_and(|job| job.queued_at <= before) {
                expired.extend(line.waiting.pop_front());
                line.look_anew();
            }
        }
        let emptied = |line: Option<&Line<R>>| line.is_none_or(|line| line.waiting.is_empty());
        for tenant in self.turns.iter().filter(|tenant| emptied(self.lines.get(*tenant))).cloned().collect::<Vec<_>>() {
            self.forget_idle(&tenant);
        }
        self.turns.retain(|tenant| !emptied(self.lines.get(tenant)));
        expired
    }

    /// When the one that has waited longest was queued.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.turns.iter().filter_map(|tenant| self.lines.get(tenant)?.waiting.front()).map(|job| job.queued_at).min()
    }

    fn forget_idle(&mut self, tenant: &TenantId) {
        if self.lines.get(tenant).is_some_and(|line| line.waiting.is_empty() && line.at_work.is_empty()) {
            self.lines.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::super::super::failure::Failure;
    use super::super::super::work::Runner;
    use super::*;

    /// A request of a tenant (its first letter), with a key and perhaps an idempotency key.
    #[derive(Debug)]
    struct Asked<const WRITES: bool> {
        tenant: TenantId,
        key: char,
        idempotency: Option<u128>,
    }

    impl<const WRITES: bool> Grouped for Asked<WRITES> {
        type Answer = ();
        type Key = char;
        const TABLE: &'static str = "nothing";
        const WRITES: bool = WRITES;
        const TOGETHER: usize = 1;

        fn tenant(&self) -> &TenantId {
            &self.tenant
        }

        fn key(&self) -> &char {
            &self.key
        }

        fn idempotency(&self) -> Option<Uuid> {
            self.idempotency.map(Uuid::from_u128)
        }

        fn bytes(&self) -> usize {
            1
        }

        async fn run(_: &Runner, _: &TenantId, rows: &[Self]) -> std::result::Result<Vec<()>, Failure> {
            Ok(rows.iter().map(|_| ()).collect())
        }
    }

    struct Bench<const WRITES: bool> {
        queue: Queue<Asked<WRITES>>,
        places: Arc<Semaphore>,
        answers: Vec<oneshot::Receiver<Result<()>>>,
        limits: GroupLimits,
        now: Instant,
    }

    impl<const WRITES: bool> Bench<WRITES> {
        fn new() -> Self {
            let config = crate::config::load(&crate::config::Source::default()).unwrap().database;
            let (limits, places) = (GroupLimits::of(&config), Arc::new(Semaphore::new(100)));
            Self { queue: Queue::new(), places, answers: Vec::new(), limits, now: Instant::now() }
        }

        fn push(&mut self, tenant: &str, key: char, idempotency: Option<u128>) {
            let (reply, answer) = oneshot::channel();
            self.answers.push(answer);
            let row = Asked { tenant: TenantId::parse(tenant).unwrap(), key, idempotency };
            let place = Arc::clone(&self.places).try_acquire_owned().unwrap();
            self.queue.push(Job { row, reply, queued_at: self.now, deadline: None, begun: Begun::default(), place });
        }

        /// The keys of the next group, with its ticket.
        fn next(&mut self) -> Option<(String, Ticket<char>)> {
            let group = self.queue.next_group(self.now, &self.limits)?;
            assert!(group.rows.iter().all(|row| row.tenant == group.tenant));
            Some((group.rows.iter().map(|row| row.key).collect(), group.ticket))
        }

        fn keys(&mut self) -> Option<String> {
            self.next().map(|(keys, _)| keys)
        }
    }

    #[test]
    fn a_name_is_in_one_group_at_a_time_and_order_is_kept() {
        let mut bench = Bench::<true>::new();
        for (key, idempotency) in [('a', None), ('a', Some(1)), ('b', Some(1)), ('b', None), ('c', None), ('a', None)] {
            bench.push("acme", key, idempotency);
        }
        // The second a waits for the first one, the first b for its idempotency key, the second b for the first one.
        let (keys, first) = bench.next().unwrap();
        assert_eq!(keys, "ac");
        // Nothing that is free: a group beside this one may have others, and later ones.
        bench.now += PATIENCE;
        assert_eq!(bench.keys(), None);
        bench.push("acme", 'd', None);
        bench.push("acme", 'b', None);
        let (keys, beside) = bench.next().unwrap();
        assert_eq!(keys, "d");
        bench.queue.end(&first);
        bench.now += PATIENCE;
        let (keys, second) = bench.next().unwrap();
        assert_eq!(keys, "a");
        bench.queue.end(&second);
        bench.queue.end(&beside);
        let (keys, third) = bench.next().unwrap();
        assert_eq!(keys, "ba");
        bench.queue.end(&third);
        let (keys, fourth) = bench.next().unwrap();
        assert_eq!(keys, "b");
        bench.queue.end(&fourth);
        assert_eq!(bench.keys().as_deref(), Some("b"));
        assert!(bench.queue.is_empty());
        assert_eq!(bench.places.available_permits(), 100);
    }

    #[test]
    fn a_tenant_has_one_group_at_work_until_it_takes_long() {
        let mut bench = Bench::<true>::new();
        "wxyz".chars().for_each(|key| bench.push("acme", key, None));
        let (_, ticket) = bench.next().unwrap();
        bench.push("acme", 'b', None);
        assert_eq!(bench.keys(), None);
        assert_eq!(bench.queue.next_patience(bench.now), Some(bench.now + PATIENCE));
        // Others do not wait for him, each in his turn.
        bench.push("other", 'a', None);
        bench.push("third", 'a', None);
        let tenants = [bench.next().unwrap().1.tenant, bench.next().unwrap().1.tenant];
        assert_eq!(tenants.map(|tenant| tenant.to_string()), ["other", "third"]);
        bench.queue.end(&ticket);
        assert_eq!(bench.keys().as_deref(), Some("b"));
    }

    #[test]
    fn few_do_not_wait_for_each_other() {
        let mut bench = Bench::<true>::new();
        for key in "abcd".chars() {
            bench.push("acme", key, None);
            assert_eq!(bench.keys(), Some(key.to_string()));
        }
        "ef".chars().for_each(|key| bench.push("acme", key, None));
        assert_eq!(bench.keys(), None);
        bench.now += PATIENCE;
        assert_eq!(bench.keys().as_deref(), Some("ef"));
    }

    #[test]
    fn a_group_has_limits() {
        let mut bench = Bench::<true>::new();
        bench.limits.rows = 3;
        "abcdefg".chars().for_each(|key| bench.push("acme", key, None));
        let (keys, ticket) = bench.next().unwrap();
        assert_eq!(keys, "abc");
        bench.queue.end(&ticket);
        bench.limits.bytes = 2;
        let (keys, ticket) = bench.next().unwrap();
        assert_eq!(keys, "de");
        bench.queue.end(&ticket);
        bench.limits.bytes = 0;
        assert_eq!(bench.keys().as_deref(), Some("f"), "one at least");
    }

    #[test]
    fn reads_of_one_key_share_and_those_that_left_are_gone() {
        let mut bench = Bench::<false>::new();
        "aab".chars().for_each(|key| bench.push("acme", key, None));
        bench.answers.remove(1);
        let (keys, ticket) = bench.next().unwrap();
        assert_eq!(keys, "ab");
        bench.queue.end(&ticket);
        bench.push("acme", 'c', None);
        bench.answers.clear();
        assert_eq!(bench.keys(), None);
        assert!(bench.queue.is_empty() && bench.queue.lines.is_empty());
    }

    #[test]
    fn what_has_waited_for_too_long_goes() {
        let mut bench = Bench::<true>::new();
        bench.push("acme", 'a', None);
        let (_, ticket) = bench.next().unwrap();
        let first = bench.now;
        bench.push("acme", 'a', None);
        bench.push("other", 'x', None);
        bench.now += PATIENCE / 2;
        bench.push("acme", 'a', Some(1));
        assert_eq!(bench.queue.oldest(), Some(first));
        assert_eq!(bench.queue.expire(first).len(), 2);
        assert_eq!((bench.queue.oldest(), bench.places.available_permits()), (Some(bench.now), 99));
        bench.queue.end(&ticket);
        assert_eq!(bench.keys().as_deref(), Some("a"));
        assert!(bench.queue.is_empty());
    }
}
