//! What is kept under a key, and what a reader must know of it to answer without the store.

use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;

use crate::domain::clock::Timestamp;
use crate::domain::id::UserId;
use crate::domain::session::{SessionRecord, TOUCH_PART};
use crate::domain::variable::ScopeLife;
use crate::domain::version::Version;

/// What a reader asks of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The version that the entry must have reached.
    pub min_version: Option<Version>,
    /// Of a variable: the life of its scope. What is known of another life says nothing about this one.
    pub life: ScopeLife,
}

/// A finished answer: a response body, or the knowledge that there is none.
///
/// Its deadline is a moment of the *store's* clock; see [`StoreLife::now`](crate::domain::store_life::StoreLife::now).
#[derive(Debug)]
pub struct Entry {
    version: Option<Version>,
    body: Option<Bytes>,
    facts: Facts,
    /// Microseconds since the epoch; `i64::MAX`: none. Touches move it.
    deadline: AtomicI64,
}

/// What an entry tells beside its body.
#[derive(Debug)]
pub enum Facts {
    /// Nothing: a state, a checkpoint, the absence of either or of a session.
    Plain,
    /// Of a variable, there or not.
    Variable {
        /// The life of its scope that it was read in.
        life: ScopeLife,
    },
    /// Of a session that is there.
    Session(Box<SessionFacts>),
}

/// Of a session: who reaches it, which variables are its own, and when it ends.
#[derive(Debug)]
pub struct SessionFacts {
    owner: UserId,
    life: Version,
    sliding: bool,
    ttl_microseconds: i64,
    /// The expiry that no touch passes.
    latest: Option<Timestamp>,
    expires_at: AtomicI64,
    touched_at: AtomicI64,
}

impl Entry {
    /// A state or a checkpoint. The body owns no more memory than it shows (as `Bytes` of a copy or of a boxed slice does), or the tier
    /// holds more than it counts.
    #[must_use]
    pub const fn plain(version: Version, body: Bytes) -> Self {
        Self::new(Some(version), Some(body), Facts::Plain, None)
    }

    /// A variable, read in a life of its scope; gone at its deadline.
    #[must_use]
    pub const fn variable(version: Version, body: Bytes, life: ScopeLife, deadline: Option<Timestamp>) -> Self {
        Self::new(Some(version), Some(body), Facts::Variable { life }, deadline)
    }

    /// A session, read whoever owns it (reach is for the reader of the entry to check); gone at its deadline.
    #[must_use]
    pub fn session(record: &SessionRecord, body: Bytes, deadline: Timestamp) -> Self {
        let ttl_microseconds = record.ttl_seconds.saturating_mul(1_000_000);
        let latest = record.max_ttl_seconds.map(|seconds| record.created_at.plus_seconds(seconds));
        let facts = SessionFacts::restore(record.owner.clone(), record.life, record.sliding, ttl_microseconds, latest, deadline);
        Self::new(Some(record.version), Some(body), Facts::Session(Box::new(facts)), Some(deadline))
    }

    /// A state, checkpoint or session that is not there, with the version of its tombstone when there is one. Of a session: not there for
    /// anyone, not merely out of someone's reach.
    #[must_use]
    pub const fn absent(tombstone: Option<Version>) -> Self {
        Self::new(tombstone, None, Facts::Plain, None)
    }

    /// A variable that is not there in this life of its scope.
    #[must_use]
    pub const fn absent_variable(tombstone: Option<Version>, life: ScopeLife) -> Self {
        Self::new(tombstone, None, Facts::Variable { life }, None)
    }

    const fn new(version: Option<Version>, body: Option<Bytes>, facts: Facts, deadline: Option<Timestamp>) -> Self {
        let deadline = match deadline {
            Some(deadline) => deadline.as_microseconds(),
            None => i64::MAX,
        };
        Self { version, body, facts, deadline: AtomicI64::new(deadline) }
    }

    /// An entry out of the parts that a second tier kept.
    pub(super) const fn restore(version: Option<Version>, body: Option<Bytes>, facts: Facts, deadline: Option<Timestamp>) -> Self {
        Self::new(version, body, facts, deadline)
    }

    /// When the resource is gone, touches included.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        Some(self.deadline.load(Ordering::Relaxed)).filter(|deadline| *deadline != i64::MAX).map(Timestamp::from_microseconds)
    }

    /// The version, or the tombstone's; `None` when there is no trace of the key.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// The finished response body; `None` when the resource is not there.
    #[must_use]
    pub const fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// What it tells beside its body.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The facts of a session that is there.
    #[must_use]
    pub fn session_facts(&self) -> Option<&SessionFacts> {
        match &self.facts {
            Facts::Session(facts) => Some(facts),
            Facts::Plain | Facts::Variable { .. } => None,
        }
    }

    /// Whether the resource is gone, at its instant.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.as_microseconds() >= self.deadline.load(Ordering::Relaxed)
    }

    /// Whether it answers what is asked. An absence without a tombstone has reached no version.
    #[must_use]
    pub fn answers(&self, wanted: &Wanted) -> bool {
        let life = match self.facts {
            Facts::Variable { life } => life == wanted.life,
            Facts::Plain | Facts::Session(_) => true,
        };
        life && self.version >= wanted.min_version
    }

    /// Bytes on the heap that only this entry owns.
    pub(super) fn heap_bytes(&self) -> usize {
        let facts = match &self.facts {
            Facts::Session(facts) => size_of::<SessionFacts>() + facts.owner.as_str().len(),
            Facts::Plain | Facts::Variable { .. } => 0,
        };
        self.body.as_ref().map_or(0, Bytes::len) + facts
    }

    /// A touch has moved the session's end. Only ever to a later moment: touches may be told in another order than they happened.
    pub(super) fn touched(&self, expires_at: Timestamp, deadline: Timestamp) {
        if let Facts::Session(facts) = &self.facts {
            facts.expires_at.fetch_max(expires_at.as_microseconds(), Ordering::Relaxed);
            self.deadline.fetch_max(deadline.as_microseconds(), Ordering::Relaxed);
        }
    }
}

impl SessionFacts {
    /// The facts, out of what they tell.
    pub(super) fn restore(
        owner: UserId,
        life: Version,
        sliding: bool,
        ttl_microseconds: i64,
        latest: Option<Timestamp>,
        expires_at: Timestamp,
    ) -> Self {
        let expires_at = expires_at.as_microseconds();
        Self {
            owner,
            life,
            sliding,
            ttl_microseconds,
            latest,
            expires_at: AtomicI64::new(expires_at),
            // The last touch is not stored, but it set the expiry.
            touched_at: AtomicI64::new(expires_at.saturating_sub(ttl_microseconds)),
        }
    }

    /// Whether reads extend it.
    pub(super) const fn is_sliding(&self) -> bool {
        self.sliding
    }

    /// Microseconds that a touch gives it.
    pub(super) const fn ttl_microseconds(&self) -> i64 {
        self.ttl_microseconds
    }

    /// The expiry that no touch passes.
    pub(super) const fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    /// The user that it belongs to.
    #[must_use]
    pub const fn owner(&self) -> &UserId {
        &self.owner
    }

    /// The life that its variables must have.
    #[must_use]
    pub const fn life(&self) -> Version {
        self.life
    }

    /// When it will be gone, touches included, as the store's clock says: what the header `Session-Expires` shows.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_microseconds(self.expires_at.load(Ordering::Relaxed))
    }

    /// Whether the caller is to touch the session in the store, because it slides, can still gain time and was not touched in the last
    /// tenth of its time to live. True for one of any number of concurrent callers; the next one's turn is a tenth later, whatever becomes
    /// of the touch.
    #[must_use]
    pub fn claim_touch(&self, now: Timestamp) -> bool {
        if !self.sliding || self.latest.is_some_and(|latest| self.expires_at() >= latest) {
            return false;
        }
        let (now, last) = (now.as_microseconds(), self.touched_at.load(Ordering::Relaxed));
        now.saturating_sub(last) >= self.ttl_microseconds / TOUCH_PART
            && self.touched_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::domain::id::SessionId;

    const SECOND: i64 = 1_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_microseconds(seconds * SECOND)
    }

    fn version(number: i64) -> Version {
        Version::new(number).unwrap()
    }

    /// A session of 100 s, written at 0.
    fn record(sliding: bool, max_ttl_seconds: Option<i64>) -> SessionRecord {
        SessionRecord {
            id: SessionId::parse("s").unwrap(),
            owner: UserId::parse("ada").unwrap(),
            version: version(3),
            life: version(2),
            data: "1".into(),
            ttl_seconds: 100,
            sliding,
            max_ttl_seconds,
            created_at: at(0),
            updated_at: at(0),
            written_expires_at: at(100),
            expires_at: at(100),
        }
    }

    fn session(sliding: bool, max_ttl_seconds: Option<i64>) -> Entry {
        let record = record(sliding, max_ttl_seconds);
        Entry::session(&record, Bytes::from_static(b"{}"), record.expires_at)
    }

    #[test]
    fn an_entry_is_over_at_its_deadline_and_not_before() {
        let entry = Entry::variable(version(1), Bytes::new(), None, Some(at(10)));
        assert!(!entry.is_over(Timestamp::from_microseconds(10 * SECOND - 1)));
        assert!(entry.is_over(at(10)));
        assert!(!Entry::plain(version(1), Bytes::new()).is_over(Timestamp::from_microseconds(i64::MAX - 1)));
    }

    #[test]
    fn what_is_known_of_another_life_is_no_answer() {
        let (one, two) = (Some(version(1)), Some(version(2)));
        for entry in [Entry::variable(version(5), Bytes::new(), one, None), Entry::absent_variable(Some(version(5)), one)] {
            assert!(entry.answers(&Wanted { min_version: None, life: one }));
            assert!(!entry.answers(&Wanted { min_version: None, life: two }));
            assert!(!entry.answers(&Wanted::default()));
        }
        assert!(Entry::absent_variable(None, None).answers(&Wanted::default()));
    }

    #[test]
    fn an_entry_has_reached_its_version_and_no_later_one() {
        let wanted = |number| Wanted { min_version: Some(version(number)), life: None };
        for entry in [Entry::plain(version(5), Bytes::new()), Entry::absent(Some(version(5)))] {
            assert!(entry.answers(&wanted(5)));
            assert!(!entry.answers(&wanted(6)));
        }
        assert!(!Entry::absent(None).answers(&wanted(1)));
        assert!(Entry::absent(None).answers(&Wanted::default()));
    }

    #[test]
    fn a_sliding_session_is_touched_once_in_a_tenth_of_its_time() {
        let entry = session(true, None);
        let facts = entry.session_facts().unwrap();
        assert!(!facts.claim_touch(Timestamp::from_microseconds(10 * SECOND - 1)));
        assert!(facts.claim_touch(at(10)));
        assert!(!facts.claim_touch(at(10)));
        assert!(!facts.claim_touch(at(19)));
        assert!(facts.claim_touch(at(20)));
        assert!(!session(false, None).session_facts().unwrap().claim_touch(at(50)));
    }

    #[test]
    fn one_of_many_readers_touches() {
        let entry = Arc::new(session(true, None));
        let touches = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    if entry.session_facts().unwrap().claim_touch(at(10)) {
                        touches.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(touches.into_inner(), 1);
    }

    #[test]
    fn a_session_at_its_cap_is_not_touched() {
        assert!(!session(true, Some(100)).session_facts().unwrap().claim_touch(at(50)));
        assert!(session(true, Some(101)).session_facts().unwrap().claim_touch(at(50)));
    }

    #[test]
    fn a_touch_moves_the_end_and_never_back() {
        let entry = session(true, None);
        entry.touched(at(150), at(151));
        entry.touched(at(120), at(121));
        assert_eq!(entry.session_facts().unwrap().expires_at(), at(150));
        assert!(!entry.is_over(at(150)));
        assert!(entry.is_over(at(151)));
    }
}
