//! Sessions: begun, saved, extended, touched, ended.

use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::session::{SessionDocument, SessionRecord};
use nworkflow_state::error::Code;
use nworkflow_state::service::WriteRequest;
use serde_json::{Value, json};

use super::operation::{Guard, Reading, SESSIONS, Terms, scope_of};
use super::reference::{Key, Session};
use super::verdict::{Verdict, agree, change, deletion, parsed, read, replacement, same, within};
use super::world::{World, merge};
use crate::model::{plain, request, session};

/// Of a session that names none.
const DEFAULT_TTL: i64 = 3600;

fn document(terms: &Terms) -> SessionDocument {
    SessionDocument {
        data: format!(r#"{{"a":{}}}"#, terms.number).into(),
        ttl_seconds: terms.ttl,
        sliding: terms.sliding,
        max_ttl_seconds: terms.cap,
    }
}

impl World {
    /// The live session, a request under this guard, and whether it is met.
    fn guarded_session(&self, id: usize, guard: Guard) -> (Option<Session>, WriteRequest, bool) {
        let live = self.model.sessions.get(&id).cloned();
        let (precondition, met) = self.model.precondition(guard, &Key::Session(id), live.as_ref().map(|live| live.version));
        (live, request(&self.caller, precondition), met)
    }

    pub(super) async fn create_session(&mut self, id: usize, terms: &Terms) -> Verdict {
        let live = self.model.sessions.get(&id).cloned();
        let begin = self.app.clock.now();
        let done = self.services.sessions.create(&plain(&self.caller), session(SESSIONS[id]), None, document(terms)).await;
        let done = agree(done, if live.is_some() { Err(Code::SessionExists) } else { Ok(201) })?;
        let Some(done) = done else { return Ok(()) };
        self.session_saved(id, live, terms, &done.record.unwrap(), begin).await
    }

    pub(super) async fn put_session(&mut self, id: usize, terms: &Terms, guard: Guard) -> Verdict {
        let (live, request, met) = self.guarded_session(id, guard);
        let begin = self.app.clock.now();
        let done = self.services.sessions.put(&request, session(SESSIONS[id]), document(terms)).await;
        let done = agree(done, replacement(live.is_some(), met))?;
        let Some(done) = done else { return Ok(()) };
        self.session_saved(id, live, terms, &done.record.unwrap(), begin).await
    }

    pub(super) async fn patch_session(&mut self, id: usize, number: i64, guard: Guard) -> Verdict {
        let (live, request, met) = self.guarded_session(id, guard);
        let patch = merge(format!(r#"{{"data":{{"b":{number}}}}}"#));
        let done = self.services.sessions.patch(&request, session(SESSIONS[id]), patch).await;
        let done = agree(done, change(live.is_some(), met, Code::SessionNotFound))?;
        let (Some(done), Some(mut after)) = (done, live) else { return Ok(()) };
        let record = done.record.unwrap();
        same("expiry after a patch", record.expires_at, after.expires_at)?;
        after.data["b"] = json!(number);
        self.session_written(id, &record, after)
    }

    pub(super) async fn extend(&mut self, id: usize, seconds: i64, guard: Guard) -> Verdict {
        let (live, request, met) = self.guarded_session(id, guard);
        let done = self.services.sessions.extend(&request, session(SESSIONS[id]), seconds).await;
        let done = agree(done, change(live.is_some(), met, Code::SessionNotFound))?;
        let (Some(done), Some(after)) = (done, live) else { return Ok(()) };
        let record = done.record.unwrap();
        same("expiry after an extension", record.expires_at, after.expires_at.plus_seconds(seconds).min(after.latest()))?;
        self.session_written(id, &record, after)
    }

    pub(super) async fn delete_session(&mut self, id: usize, guard: Guard) -> Verdict {
        let (live, request, met) = self.guarded_session(id, guard);
        let done = self.services.sessions.delete(&request, session(SESSIONS[id])).await;
        if let Some(done) = agree(done, deletion(live.is_some(), guard, met, Code::SessionNotFound))? {
            self.model.grow(Key::Session(id), done.version)?;
            self.model.sessions.remove(&id);
            self.model.drop_variables(id);
            self.compare_scope(scope_of(id), Reading::Cached).await?;
        }
        Ok(())
    }

    /// A document was put, over the live session or as the beginning of one. Variables of a life before must not come back.
    async fn session_saved(
        &mut self,
        id: usize,
        live: Option<Session>,
        terms: &Terms,
        record: &SessionRecord,
        begin: Timestamp,
    ) -> Verdict {
        let end = self.app.clock.now();
        let created = live.is_none();
        if created {
            within("a session's beginning", record.created_at, begin, end)?;
            self.model.drop_variables(id);
        }
        let before = live.unwrap_or(Session {
            version: record.version,
            life: record.version,
            data: Value::Null,
            ttl: DEFAULT_TTL,
            sliding: false,
            cap: None,
            created_at: record.created_at,
            expires_at: record.expires_at,
        });
        let mut after = Session { data: json!({ "a": terms.number }), sliding: terms.sliding, cap: terms.cap, ..before };
        match terms.ttl.or(created.then_some(DEFAULT_TTL)) {
            Some(ttl) => {
                after.ttl = ttl;
                let clamped = |moment: Timestamp| moment.plus_seconds(ttl).min(after.latest());
                within("a session's expiry", record.expires_at, clamped(begin), clamped(end))?;
            }
            None => same("expiry without a time to live", record.expires_at, after.expires_at.min(after.latest()))?,
        }
        self.session_written(id, record, after)?;
        if created { self.compare_scope(scope_of(id), Reading::Cached).await } else { Ok(()) }
    }

    /// Version and expiry come from the record; everything else must be what the model says.
    fn session_written(&mut self, id: usize, record: &SessionRecord, mut after: Session) -> Verdict {
        self.model.grow(Key::Session(id), record.version)?;
        same("a session's life", record.life, after.life)?;
        same("a session's beginning", record.created_at, after.created_at)?;
        same("a session's data", &parsed(&record.data), &after.data)?;
        let times = (record.ttl_seconds, record.sliding, record.max_ttl_seconds);
        same("a session's times", times, (after.ttl, after.sliding, after.cap))?;
        (after.version, after.expires_at) = (record.version, record.expires_at);
        self.model.sessions.insert(id, after);
        Ok(())
    }

    /// A read, which is what makes a sliding session slide.
    pub(super) async fn get_session(&mut self, id: usize, reading: Reading) -> Verdict {
        let live = self.model.sessions.get_mut(&id);
        let freshness = reading.freshness(live.as_ref().map(|live| live.version));
        let begin = self.app.clock.now();
        let found = self.services.sessions.get(&self.caller, session(SESSIONS[id]), freshness).await;
        let end = self.app.clock.now();
        if let (Ok(found), Some(live)) = (&found, live) {
            let (before, latest) = (live.expires_at, live.latest());
            if found.expires_at != before {
                same("only a sliding session slides", live.sliding, true)?;
                let slid = |moment: Timestamp| moment.plus_seconds(live.ttl).min(latest).max(before);
                within("a session that slides", found.expires_at, slid(begin), slid(end))?;
            } else if live.sliding && before < latest {
                // The last touch was at the latest when this expiry was set.
                let due = before.plus_seconds(-live.ttl).plus_seconds(live.ttl / 10 + 1);
                same("a sliding session that was not touched in a tenth of its time slides", begin < due, true)?;
            }
            live.expires_at = found.expires_at;
        }
        let live = self.model.sessions.get(&id).map(|live| (live.version, "data", &live.data));
        read("get session", found.map(|found| found.representation), live, Code::SessionNotFound)
    }
}
