//! Each rule by an interleaving in which only it keeps the answer right.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nworkflow_state::cache::{Entry, Flights, Key, LocalTier, Wanted};
use nworkflow_state::config::CacheConfig;
use nworkflow_state::domain::clock::{Clock, Timestamp};
use nworkflow_state::domain::commit::Resource;
use nworkflow_state::domain::id::{SessionId, TenantId, UserId, VariableName};
use nworkflow_state::domain::session::SessionRecord;
use nworkflow_state::domain::variable::{Scope, VariableKey};
use tokio::sync::oneshot;

use super::{change, fill, found, key, live, settings, tier, version};

fn write(tier: &LocalTier, key: &Key, number: i64) {
    tier.before_commit(&change(key, number));
    tier.committed(&change(key, number));
}

#[test]
fn c2_what_was_read_before_a_write_is_not_kept_after_it() {
    let (tier, clock) = tier();
    let key = key("e");
    let before = tier.ticket(&key);
    tier.before_commit(&change(&key, 2));
    let within = tier.ticket(&key);
    tier.committed(&change(&key, 2));
    // The floor is no help any more: the ticket alone decides.
    clock.advance_seconds(6);
    assert!(!tier.insert(&key, before, live(1)));
    assert!(!tier.insert(&key, within, live(1)));
    assert_eq!(found(&tier, &key), None);
    assert!(fill(&tier, &key, live(2)));
    assert_eq!(found(&tier, &key), Some(2));
}

#[test]
fn nothing_is_kept_or_found_while_a_write_is_at_work() {
    let (tier, _) = tier();
    let key = key("e");
    assert!(fill(&tier, &key, live(1)));
    tier.before_commit(&change(&key, 2));
    assert_eq!(found(&tier, &key), None);
    assert!(!fill(&tier, &key, live(1)));
    // A second write has its locks before the first one's outcome was told.
    tier.before_commit(&change(&key, 3));
    tier.committed(&change(&key, 2));
    assert!(!fill(&tier, &key, live(2)));
    assert!(!tier.insert_written(&key, live(2)));
    tier.rolled_back(&change(&key, 3));
    assert!(fill(&tier, &key, live(2)));
}

#[test]
fn a_reader_that_comes_while_a_write_is_at_work_holds_another_ticket() {
    let (tier, _) = tier();
    let key = key("e");
    let before = tier.ticket(&key);
    tier.before_commit(&change(&key, 2));
    let within = tier.ticket(&key);
    tier.committed(&change(&key, 2));
    let after = tier.ticket(&key);
    assert!(before != within && within != after);
}

#[test]
fn a_commit_that_nobody_announced_is_taken_in() {
    let (tier, _) = tier();
    let key = key("e");
    assert!(fill(&tier, &key, live(1)));
    let before = tier.ticket(&key);
    tier.committed(&change(&key, 2));
    assert_eq!(found(&tier, &key), None);
    assert!(!tier.insert(&key, before, live(1)));
    assert!(tier.insert_written(&key, live(2)));
}

#[test]
fn what_was_read_before_a_rollback_is_not_kept_after_it() {
    let (tier, _) = tier();
    let key = key("e");
    tier.before_commit(&change(&key, 2));
    let within = tier.ticket(&key);
    tier.rolled_back(&change(&key, 2));
    assert!(!tier.insert(&key, within, live(1)));
    assert!(fill(&tier, &key, live(1)));
    assert_eq!(found(&tier, &key), Some(1));
}

#[test]
fn c12_a_writer_reads_what_it_wrote() {
    let (tier, _) = tier();
    let key = key("e");
    for number in 1..=100_000 {
        assert!(number % 3 == 0 || found(&tier, &key).is_none_or(|read| read == number - 1));
        write(&tier, &key, number);
        assert!(tier.insert_written(&key, live(number)));
        assert_eq!(found(&tier, &key), Some(number));
    }
}

#[test]
fn a_writer_that_comes_late_leaves_nothing() {
    let (tier, clock) = tier();
    let key = key("e");
    write(&tier, &key, 2);
    write(&tier, &key, 3);
    assert!(!tier.insert_written(&key, live(2)));
    // So late that nobody remembers the newer version: then its own is not remembered either.
    clock.advance_seconds(6);
    assert!(!tier.insert_written(&key, live(2)));
    assert!(!tier.insert_written(&key, live(3)));
    assert_eq!(found(&tier, &key), None);
}

#[test]
fn below_the_floor_nothing_is_kept_wherever_it_was_read() {
    let (tier, clock) = tier();
    let key = key("e");
    write(&tier, &key, 5);
    assert_eq!(tier.floor(&key), Some(version(5)));
    assert!(!fill(&tier, &key, live(4)));
    assert!(!fill(&tier, &key, Arc::new(Entry::absent(None))));
    assert!(!fill(&tier, &key, Arc::new(Entry::absent(Some(version(4))))));
    assert_eq!(found(&tier, &key), None);
    // Told in another order than committed.
    tier.before_commit(&change(&key, 6));
    tier.before_commit(&change(&key, 7));
    tier.committed(&change(&key, 7));
    tier.committed(&change(&key, 6));
    assert_eq!(tier.floor(&key), Some(version(7)));
    assert!(fill(&tier, &key, live(7)));

    clock.advance_seconds(4);
    assert_eq!(tier.floor(&key), Some(version(7)));
    clock.advance_seconds(1);
    assert_eq!(tier.floor(&key), None);
}

#[test]
fn a_floor_is_of_its_key_only() {
    let (tier, _) = tier();
    write(&tier, &key("e"), 5);
    for number in 0..10_000 {
        assert_eq!(tier.floor(&key(&format!("other-{number}"))), None);
    }
}

#[test]
fn entries_are_believed_only_while_the_tier_is_trusted() {
    let (tier, _) = tier();
    assert!(fill(&tier, &key("e"), live(1)));
    assert_eq!(found(&tier, &key("e")), Some(1));
    tier.trust_for(Duration::from_secs(3600));
    assert_eq!(found(&tier, &key("e")), Some(1));
    // A process that slept until then.
    tier.trust_for(Duration::ZERO);
    assert_eq!(found(&tier, &key("e")), None);
    tier.trust_for(Duration::from_secs(3600));
    assert_eq!(found(&tier, &key("e")), Some(1));
}

#[test]
fn more_floors_than_are_kept_clear_the_tier() {
    let clock = Clock::new();
    let tier = LocalTier::new(&CacheConfig { floor_entries: 8, ..settings() }, clock.clone());
    assert!(fill(&tier, &key("kept"), live(1)));
    for number in 0..8 {
        write(&tier, &key(&number.to_string()), 2);
    }
    let before = tier.ticket(&key("kept"));
    assert_eq!((found(&tier, &key("kept")), tier.statistics().floor_overflows), (Some(1), 0));
    write(&tier, &key("8"), 2);
    assert_eq!((found(&tier, &key("kept")), tier.statistics().floor_overflows), (None, 1));
    assert!(!tier.insert(&key("kept"), before, live(1)));
    assert_eq!(tier.floor(&key("8")), None);

    // Floors that have passed make room.
    for number in 0..8 {
        write(&tier, &key(&number.to_string()), 3);
    }
    clock.advance_seconds(5);
    assert!(fill(&tier, &key("kept"), live(1)));
    write(&tier, &key("8"), 3);
    assert_eq!((found(&tier, &key("kept")), tier.statistics().floor_overflows), (Some(1), 1));
}

#[test]
fn an_older_entry_never_replaces_a_newer_one() {
    let (tier, _) = tier();
    let key = key("e");
    assert!(fill(&tier, &key, live(5)));
    assert!(!fill(&tier, &key, live(4)));
    assert!(!fill(&tier, &key, Arc::new(Entry::absent(None))));
    assert_eq!(found(&tier, &key), Some(5));
    assert!(fill(&tier, &key, Arc::new(Entry::absent(Some(version(6))))));
    assert_eq!(found(&tier, &key), Some(6));
}

#[test]
fn a_reader_gets_no_older_version_than_it_names() {
    let (tier, _) = tier();
    let key = key("e");
    assert!(fill(&tier, &key, live(5)));
    let get = |number| tier.get(&key, &Wanted { min_version: Some(version(number)), ..Wanted::default() });
    assert!(get(5).is_some());
    assert!(get(6).is_none());
    assert_eq!(found(&tier, &key), Some(5));
}

#[test]
fn c15_a_deleted_resource_does_not_come_back_and_a_new_one_is_seen() {
    let (tier, _) = tier();
    let key = key("e");
    for number in (1..300).step_by(3) {
        write(&tier, &key, number);
        assert!(tier.insert_written(&key, live(number)));
        let slow = tier.ticket(&key);
        write(&tier, &key, number + 1);
        assert!(tier.insert_written(&key, Arc::new(Entry::absent(Some(version(number + 1))))));
        // The slow reader saw the resource alive.
        assert!(!tier.insert(&key, slow, live(number)));
        assert!(tier.get(&key, &Wanted::default()).unwrap().body().is_none());
        let slow = tier.ticket(&key);
        write(&tier, &key, number + 2);
        assert!(!tier.insert(&key, slow, Arc::new(Entry::absent(Some(version(number + 1))))));
        assert_eq!(found(&tier, &key), None);
        assert!(fill(&tier, &key, live(number + 2)));
        assert!(tier.get(&key, &Wanted::default()).unwrap().body().is_some());
    }
}

#[test]
fn c16_what_was_not_there_is_seen_once_it_is_made() {
    let (tier, clock) = tier();
    let key = key("e");
    assert!(fill(&tier, &key, Arc::new(Entry::absent(None))));
    assert!(tier.get(&key, &Wanted::default()).unwrap().body().is_none());
    let storm = tier.ticket(&key);
    write(&tier, &key, 1);
    assert_eq!(found(&tier, &key), None);
    clock.advance_seconds(6);
    assert!(!tier.insert(&key, storm, Arc::new(Entry::absent(None))));
    assert!(fill(&tier, &key, live(1)));
    assert_eq!(found(&tier, &key), Some(1));
}

#[tokio::test]
async fn c18_a_reader_after_a_write_does_not_wait_for_a_load_before_it() {
    let (tier, _) = tier();
    let (tier, flights) = (&tier, &Flights::<()>::new());
    let key = &key("e");
    let read = async |stored: oneshot::Receiver<Arc<Entry>>| {
        let ticket = tier.ticket(key);
        let load = || async {
            let entry = stored.await.unwrap();
            tier.insert(key, ticket, Arc::clone(&entry));
            Ok(entry)
        };
        flights.load(key, ticket, None, load).await.unwrap().version()
    };
    let (old, stored_old) = oneshot::channel();
    let (new, stored_new) = oneshot::channel();
    new.send(live(2)).unwrap();
    let slow = read(stored_old);
    let later = async {
        write(tier, key, 2);
        assert_eq!(read(stored_new).await, Some(version(2)));
        old.send(live(1)).unwrap();
    };
    // Polled in this order: the slow load is at work when the write comes.
    let (slow, ()) = futures_util::future::join(slow, later).await;
    assert_eq!(slow, Some(version(1)));
    assert_eq!(found(tier, key), Some(2));
}

#[test]
fn entries_end_with_their_time() {
    let (tier, clock) = tier();
    let (here, gone) = (key("here"), key("gone"));
    assert!(fill(&tier, &here, live(1)));
    assert!(fill(&tier, &gone, Arc::new(Entry::absent(None))));
    clock.advance_seconds(4);
    assert_eq!((found(&tier, &here), found(&tier, &gone)), (Some(1), Some(0)));
    clock.advance_seconds(1);
    assert_eq!((found(&tier, &here), found(&tier, &gone)), (Some(1), None));
    clock.advance_seconds(5);
    assert_eq!((found(&tier, &here), found(&tier, &gone)), (None, None));
    // What is past its time is also removed once it is asked for.
    assert_eq!(tier.statistics().entries, 0);
}

#[test]
fn an_entry_is_as_old_as_its_ticket() {
    let (tier, clock) = tier();
    let key = key("e");
    let ticket = tier.ticket(&key);
    clock.advance_seconds(9);
    assert!(tier.insert(&key, ticket, live(1)));
    assert_eq!(found(&tier, &key), Some(1));
    clock.advance_seconds(1);
    assert_eq!(found(&tier, &key), None);
}

#[test]
fn a_clock_that_is_set_back_keeps_nothing_alive() {
    let (tier, clock) = tier();
    let key = key("e");
    assert!(fill(&tier, &key, live(1)));
    clock.advance_seconds(-3600);
    assert_eq!(found(&tier, &key), None);
}

fn session(id: &str, sliding: bool, expires_at: Timestamp) -> (Key, SessionRecord) {
    let key = Key::new(TenantId::parse("acme").unwrap(), Resource::Session(SessionId::parse(id).unwrap()));
    let record = SessionRecord {
        id: SessionId::parse(id).unwrap(),
        owner: UserId::parse("ada").unwrap(),
        version: version(1),
        life: version(1),
        data: "1".into(),
        ttl_seconds: 8,
        sliding,
        max_ttl_seconds: None,
        created_at: expires_at.plus_seconds(-8),
        updated_at: expires_at.plus_seconds(-8),
        written_expires_at: expires_at,
        expires_at,
    };
    (key, record)
}

#[test]
fn a_session_is_gone_at_its_instant() {
    let (tier, clock) = tier();
    // The clock runs on by itself: the session ends half a second after a whole number of seconds from here.
    let end = Timestamp::from_microseconds(clock.now().as_microseconds() + 4_500_000);
    let (key, record) = session("s", false, end);
    assert!(fill(&tier, &key, Arc::new(Entry::session(&record, Bytes::new(), end))));
    clock.advance_seconds(4);
    let now = clock.now();
    assert_eq!(found(&tier, &key), Some(1));
    assert!(now < end, "this machine slept for half a second");
    clock.advance_seconds(1);
    assert!(clock.now() >= end);
    assert_eq!(found(&tier, &key), None);
}

#[test]
fn a_touched_session_lives_on_and_loads_that_saw_the_earlier_end_are_not_kept() {
    let (tier, clock) = tier();
    let end = clock.now().plus_seconds(4);
    let (key, record) = session("s", true, end);
    let entry = Arc::new(Entry::session(&record, Bytes::new(), end));
    assert!(fill(&tier, &key, Arc::clone(&entry)));
    assert!(entry.session_facts().unwrap().claim_touch(clock.now()));
    let slow = tier.ticket(&key);
    let later = clock.now().plus_seconds(8);
    tier.touched(&key, version(1), later, later);
    assert!(!tier.insert(&key, slow, Arc::new(Entry::session(&record, Bytes::new(), end))));
    clock.advance_seconds(5);
    assert_eq!(tier.get(&key, &Wanted::default()).unwrap().session_facts().unwrap().expires_at(), later);
    clock.advance_seconds(3);
    assert_eq!(found(&tier, &key), None);

    // The touch of an earlier version says nothing about this one.
    let (key, record) = session("t", true, clock.now().plus_seconds(4));
    assert!(fill(&tier, &key, Arc::new(Entry::session(&record, Bytes::new(), record.expires_at))));
    tier.touched(&key, version(2), clock.now().plus_seconds(8), clock.now().plus_seconds(8));
    clock.advance_seconds(5);
    assert_eq!(found(&tier, &key), None);
}

#[test]
fn a_variable_of_another_life_is_not_found_and_is_replaced() {
    let (tier, _) = tier();
    let scope = Scope::Session(SessionId::parse("s").unwrap());
    let name = VariableName::parse("x").unwrap();
    let key = Key::new(TenantId::parse("acme").unwrap(), Resource::Variable(VariableKey { scope, name }));
    let get = |life| tier.get(&key, &Wanted { life: Some(version(life)), ..Wanted::default() });
    assert!(fill(&tier, &key, Arc::new(Entry::variable(version(3), Bytes::new(), Some(version(1)), None))));
    assert!(get(1).is_some());
    assert!(get(2).is_none());
    // The store knows the same row, and that it is not there in this life.
    assert!(fill(&tier, &key, Arc::new(Entry::absent_variable(Some(version(3)), Some(version(2))))));
    assert!(get(1).is_none());
    assert!(get(2).unwrap().body().is_none());
}

#[test]
fn a_tier_that_is_off_answers_and_keeps_nothing() {
    let (tier, _) = tier();
    let key = key("e");
    let before = tier.ticket(&key);
    assert!(fill(&tier, &key, live(1)));
    tier.set_enabled(false);
    assert!(!tier.is_enabled());
    assert_eq!((found(&tier, &key), tier.statistics().entries), (None, 0));
    assert!(!fill(&tier, &key, live(1)));
    // It hears of writes all the same.
    tier.before_commit(&change(&key, 2));
    tier.set_enabled(true);
    assert!(!tier.insert(&key, before, live(1)));
    assert!(!fill(&tier, &key, live(1)));
    tier.committed(&change(&key, 2));
    assert!(!fill(&tier, &key, live(1)));
    assert!(tier.insert_written(&key, live(2)));
    assert_eq!(tier.statistics().misses, 0);

    let off = LocalTier::new(&CacheConfig { local: false, ..settings() }, Clock::new());
    assert!(!off.is_enabled());
    assert!(!fill(&off, &key, live(1)));
}

#[test]
fn clearing_says_how_much_it_was_and_keeps_slow_loads_out() {
    let (tier, _) = tier();
    for name in ["a", "b", "c"] {
        assert!(fill(&tier, &key(name), live(1)));
    }
    let slow = tier.ticket(&key("d"));
    write(&tier, &key("written"), 5);
    assert_eq!(tier.clear(), 3);
    assert_eq!(tier.clear(), 0);
    assert_eq!(found(&tier, &key("a")), None);
    assert!(!tier.insert(&key("d"), slow, live(1)));
    assert_eq!(tier.floor(&key("written")), Some(version(5)));
}

#[test]
fn two_tiers_share_nothing() {
    let ((one, _), (two, clock)) = (tier(), tier());
    let key = key("e");
    let ticket = two.ticket(&key);
    assert!(fill(&one, &key, live(1)));
    assert_eq!(found(&two, &key), None);
    write(&one, &key, 2);
    assert_eq!(two.floor(&key), None);
    assert!(two.insert(&key, ticket, live(1)));
    assert_eq!((found(&one, &key), found(&two, &key)), (None, Some(1)));
    assert!(one.insert_written(&key, live(2)));
    two.set_enabled(false);
    clock.advance_seconds(100);
    assert_eq!(found(&one, &key), Some(2));
    assert_eq!((one.statistics().hits, two.statistics().hits), (1, 1));
}
