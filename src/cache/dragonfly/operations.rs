//! What the protocol does with the second tier, key by key: look, lease, fill; mark, put, unmark.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use redis::FromRedisValue;

use super::link::{self, Link};
use super::scripts::{self, Named};
use super::{Dragonfly, Failure, MOST_AT_ONCE};
use crate::cache::bus::message;
use crate::cache::codec;
use crate::cache::entry::Entry;
use crate::cache::key::Key;
use crate::cache::key_text;
use crate::cache::slot::{Slot, digits};
use crate::domain::commit::Change;
use crate::domain::version::Version;

/// How often, and in which distance, a reader looks again while another one loads: most loads are over by then.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(10);

/// What a look has found.
pub(in crate::cache) enum Lookup {
    /// An entry, or the knowledge that there is none.
    Found(Arc<Entry>),
    /// Nothing. The caller is the one who loads.
    Leased(Lease),
    /// A write or another load is at work: whatever the store answers now is not to be kept.
    Busy,
}

/// The right to fill a slot, for as long as it is there.
pub(in crate::cache) struct Lease {
    link: Arc<Link>,
    key: String,
    text: String,
    token: String,
}

impl Dragonfly {
    /// Looks for the key. An entry that `suits` refuses is of another life of its scope: it makes room.
    pub(in crate::cache) async fn look(&self, key: &Key, suits: impl Fn(&Entry) -> bool) -> Result<Lookup, Failure> {
        let (link, epoch) = self.current()?;
        let text = key_text::write(key);
        let slot_key = link::key(&link.prefix(&epoch), &text);
        let token = format!("L{}-{}", self.origin, self.leases.fetch_add(1, Ordering::Relaxed));
        let lease_milliseconds = self.config.lease_ttl_ms.0;
        let (mut looks, mut discarded) = (0, false);
        let mut slot = self.get(&link, &slot_key).await?;
        loop {
            match slot {
                Slot::Empty => {
                    let mut lease = redis::cmd("SET");
                    lease.arg(&slot_key).arg(&token).arg("NX").arg("GET").arg("PX").arg(lease_milliseconds);
                    let before: Option<Vec<u8>> = self.send(&link, &slot_key, &lease).await?;
                    match before {
                        None => {
                            self.counters.misses.fetch_add(1, Ordering::Relaxed);
                            return Ok(Lookup::Leased(Lease { link, key: slot_key, text, token }));
                        }
                        Some(bytes) => slot = Slot::read(bytes),
                    }
                }
                Slot::Lease if looks < LOOKS => {
                    looks += 1;
                    tokio::time::sleep(PAUSE).await;
                    slot = self.get(&link, &slot_key).await?;
                }
                Slot::Value { version, live, payload } => {
                    let entry = codec::read(&text, version, live, payload);
                    match entry {
                        Some(entry) if suits(&entry) => return Ok(Lookup::Found(Arc::new(entry))),
                        Some(_) => {}
                        None => self.found_foreign(),
                    }
                    if discarded {
                        break;
                    }
                    discarded = true;
                    slot = self.discard(&link, &slot_key).await?;
                }
                Slot::Foreign if !discarded => {
                    self.found_foreign();
                    discarded = true;
                    slot = self.discard(&link, &slot_key).await?;
                }
                Slot::Marker | Slot::Lease | Slot::Foreign => break,
            }
        }
        self.counters.bypasses.fetch_add(1, Ordering::Relaxed);
        Ok(Lookup::Busy)
    }

    /// The entry under the key, when there is one.
    pub(in crate::cache) async fn peek(&self, key: &Key) -> Option<Entry> {
        let (link, epoch) = self.current().ok()?;
        let text = key_text::write(key);
        match self.get(&link, &link::key(&link.prefix(&epoch), &text)).await {
            Ok(Slot::Value { version, live, payload }) => codec::read(&text, version, live, payload),
            _ => None,
        }
    }

    fn found_foreign(&self) {
        self.counters.foreign.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("the second cache tier holds a value that this server did not write, or that was damaged; it is removed");
    }

    /// A reader was answered from the tier.
    pub(in crate::cache) fn count_hit(&self) {
        self.counters.hits.fetch_add(1, Ordering::Relaxed);
    }

    async fn get(&self, link: &Arc<Link>, key: &str) -> Result<Slot, Failure> {
        let mut get = redis::cmd("GET");
        get.arg(key);
        match self.send::<Option<Vec<u8>>>(link, key, &get).await {
            Ok(bytes) => Ok(bytes.map_or(Slot::Empty, Slot::read)),
            // Not even a text.
            Err(Failure::Refused(error)) if error.code() == Some("WRONGTYPE") => Ok(Slot::Foreign),
            Err(failure) => Err(failure),
        }
    }

    /// Makes room, and says what is there then.
    async fn discard(&self, link: &Arc<Link>, key: &str) -> Result<Slot, Failure> {
        match self.call::<i64>(link, &scripts::DISCARD, key, &[]).await {
            Ok(_) => {}
            Err(Failure::Refused(_)) => self.delete(link, key).await?,
            Err(failure) => return Err(failure),
        }
        self.get(link, key).await
    }

    async fn delete(&self, link: &Arc<Link>, key: &str) -> Result<(), Failure> {
        let mut delete = redis::cmd("DEL");
        delete.arg(key);
        self.send::<i64>(link, key, &delete).await.map(drop)
    }

    /// Fills a leased slot. False: something has happened to the key since; the entry is not to be kept anywhere.
    pub(in crate::cache) async fn fill(&self, lease: Lease, key: &Key, entry: &Entry) -> bool {
        let payload = codec::write(&lease.text, entry);
        let Some(ttl) = self.time_to_live(key, entry, payload.len()) else { return self.release(lease).await };
        let slot = Slot::value(entry.version(), entry.body().is_some(), &payload);
        let life = milliseconds(ttl);
        let arguments: [&[u8]; 3] = [lease.token.as_bytes(), &slot, life.as_bytes()];
        let filled = matches!(self.call::<i64>(&lease.link, &scripts::FILL, &lease.key, &arguments).await, Ok(1));
        if !filled {
            self.counters.refused_fills.fetch_add(1, Ordering::Relaxed);
        }
        filled
    }

    /// Gives a lease back. True when it was still there: nothing has happened to the key since it was taken.
    pub(in crate::cache) async fn release(&self, lease: Lease) -> bool {
        let arguments: [&[u8]; 3] = [lease.token.as_bytes(), b"", b"1"];
        matches!(self.call::<i64>(&lease.link, &scripts::FILL, &lease.key, &arguments).await, Ok(1))
    }

    /// Tells of versions that are about to be committed. Says how many could not be told; the keys of those are due for repair.
    pub(in crate::cache) async fn mark(&self, keys: Vec<(Key, Version)>) -> usize {
        let life = milliseconds(self.config.marker_ttl_ms.into());
        let marking = stream::iter(keys).map(|(key, version)| {
            let life = life.clone();
            async move { self.mark_one(&key, version, &life).await }
        });
        let marked = marking.buffer_unordered(MOST_AT_ONCE);
        marked.filter(|marked| std::future::ready(!marked)).count().await
    }

    async fn mark_one(&self, key: &Key, version: Version, life: &str) -> bool {
        let text = key_text::write(key);
        let marking = async {
            let (link, epoch) = self.current()?;
            let slot_key = link::key(&link.prefix(&epoch), &text);
            let channel = link::channel(&epoch);
            let number = self.sequence.next();
            let line = message::write(&self.origin, number.number(), &text, version.get());
            let digits = digits(Some(version));
            let arguments: [&[u8]; 4] = [digits.as_bytes(), life.as_bytes(), channel.as_bytes(), line.as_bytes()];
            match self.call::<i64>(&link, &scripts::MARK, &slot_key, &arguments).await {
                Ok(_) => Ok(()),
                // No room for a marker, or what is there is no text. Without a value there, the write is as good as told, unless this process
                // ends before its second word.
                Err(Failure::Refused(error)) => {
                    tracing::debug!(%error, "a write could not be marked; the key is emptied instead");
                    // Others are told also when it cannot be emptied: for a while they take nothing older from there.
                    let emptied = self.delete(&link, &slot_key).await;
                    let told = self.publish(&link, &channel, &line).await;
                    emptied.and(told)
                }
                Err(failure) => Err(failure),
            }
        };
        match marking.await {
            Ok(()) => true,
            Err(_) => {
                self.repair.add(&text, version, Duration::ZERO);
                false
            }
        }
    }

    /// Tells that a version was committed, and what it is; without an entry the key is emptied. False: it could not be told and is due for
    /// repair.
    pub(in crate::cache) async fn put(&self, key: &Key, version: Version, entry: Option<&Entry>) -> bool {
        let text = key_text::write(key);
        let value = entry.and_then(|entry| {
            let payload = codec::write(&text, entry);
            let ttl = self.time_to_live(key, entry, payload.len())?;
            Some((Slot::value(entry.version(), entry.body().is_some(), &payload), ttl))
        });
        let told = async {
            let (link, epoch) = self.current()?;
            self.put_over(&link, &link::key(&link.prefix(&epoch), &text), &link::channel(&epoch), &text, version, value).await
        };
        let told = told.await;
        match told {
            Ok(()) => self.repair.done(&text, version),
            Err(_) => self.repair.add(&text, version, Duration::ZERO),
        }
        told.is_ok()
    }

    /// The same for all that one write has made.
    pub(in crate::cache) async fn put_all(&self, made: Vec<(Key, Version, Arc<Entry>)>) {
        let putting = stream::iter(made).map(|(key, version, entry)| async move { self.put(&key, version, Some(&entry)).await });
        putting.buffer_unordered(MOST_AT_ONCE).for_each(|_| std::future::ready(())).await;
    }

    /// Versions of these keys were committed, or may have been: unless it is told of them with [`Dragonfly::put`] within this time, the keys
    /// are emptied.
    pub(in crate::cache) fn expect(&self, changes: &[Change], within: Duration) {
        for change in changes {
            let text = key_text::write(&Key::from(change));
            self.repair.add(&text, change.version, within);
            self.recent.add(text, change.version);
        }
    }

    pub(super) async fn put_over(
        &self,
        link: &Arc<Link>,
        slot_key: &str,
        channel: &str,
        text: &str,
        version: Version,
        value: Option<(Vec<u8>, Duration)>,
    ) -> Result<(), Failure> {
        let (slot, life) = value.map_or((Vec::new(), "1".to_owned()), |(slot, ttl)| (slot, milliseconds(ttl)));
        let number = self.sequence.next();
        let line = message::write(&self.origin, number.number(), text, version.get());
        let digits = digits(Some(version));
        let arguments: [&[u8]; 5] = [digits.as_bytes(), &slot, life.as_bytes(), channel.as_bytes(), line.as_bytes()];
        match self.call::<i64>(link, &scripts::PUT, slot_key, &arguments).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(error)) => {
                tracing::debug!(%error, "a write could not be put; the key is emptied instead");
                let emptied = self.delete(link, slot_key).await;
                let told = self.publish(link, channel, &line).await;
                emptied.and(told)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Takes the marker of a version away that was rolled back. If it cannot, the marker ends by itself.
    pub(in crate::cache) async fn unmark(&self, key: &Key, version: Version) {
        let Ok((link, epoch)) = self.current() else { return };
        let slot_key = link::key(&link.prefix(&epoch), &key_text::write(key));
        // Nobody reads anything wrong while the marker is there.
        drop(self.call::<i64>(&link, &scripts::UNMARK, &slot_key, &[digits(Some(version)).as_bytes()]).await);
    }

    async fn publish(&self, link: &Arc<Link>, channel: &str, line: &str) -> Result<(), Failure> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(line);
        self.send::<i64>(link, channel, &publish).await.map(drop)
    }

    /// Says on the bus that this process is there, and up to which number it has said everything.
    /// `sent`: a moment of this process, which it reads again when it hears itself.
    pub(in crate::cache) async fn say_alive(&self, sent: u64) -> Result<(), Failure> {
        let (link, epoch) = self.current()?;
        let line = message::alive(&self.origin, self.sequence.settled(), sent);
        self.publish(&link, &link::channel(&epoch), &line).await
    }

    /// Says on the bus that all local tiers are to be emptied.
    pub(super) async fn say_clear(&self, link: &Arc<Link>, channel: &str) -> Result<(), Failure> {
        let number = self.sequence.next();
        self.publish(link, channel, &message::clear(&self.origin, number.number())).await
    }

    async fn call<T: FromRedisValue>(&self, link: &Arc<Link>, script: &Named, key: &str, arguments: &[&[u8]]) -> Result<T, Failure> {
        match self.send(link, key, &script.call(key, arguments)).await {
            Err(Failure::Refused(error)) if error.code() == Some("NOSCRIPT") => {
                self.send(link, key, &script.call_in_full(key, arguments)).await
            }
            answer => answer,
        }
    }
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
