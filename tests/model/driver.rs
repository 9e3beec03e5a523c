//! Does a step with the services and with the model, and compares.

use std::fmt::Debug;
use std::sync::Arc;

use nworkflow_state::domain::checkpoint::{CheckpointKey, NewCheckpoint};
use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::id::{CheckpointId, ExecutionId};
use nworkflow_state::domain::patch::PatchKind;
use nworkflow_state::domain::principal::Principal;
use nworkflow_state::domain::session::{SessionDocument, SessionRecord};
use nworkflow_state::domain::variable::{Number, Scope, VariableBatch, VariableKey, VariableRecord};
use nworkflow_state::domain::version::Version;
use nworkflow_state::error::{Code, Error};
use nworkflow_state::service::checkpoints::CheckpointFilter;
use nworkflow_state::service::effective::EffectiveFilter;
use nworkflow_state::service::executions::ExecutionFilter;
use nworkflow_state::service::variables::VariableFilter;
use nworkflow_state::service::{Done, Freshness, Patch, Representation, Services};
use serde_json::{Value, json};

use super::operation::{CHECKPOINTS, EXECUTIONS, Guard, Kind, NAMES, Operation, SCOPES, SESSIONS};
use super::reference::{Checkpoint, Key, Model, Session, State, Variable, precondition};
use super::{CACHED, FROM_STORE, name, newcomer, plain, request, session, state, sweep, tokens, value, variable, workflow};
use crate::api::app::TestApp;

/// Nothing ends within so many seconds after the beginning of a step: a busy machine must not decide what is still there.
const CALM_SECONDS: i64 = 10;
const DAY: i64 = 24 * 3600;

/// A difference, in words.
type Step<T = ()> = Result<T, String>;

pub(super) struct World<'a> {
    app: &'a TestApp,
    services: Services,
    caller: Arc<Principal>,
    model: Model,
}

fn merge(text: String) -> Patch {
    Patch { kind: PatchKind::Merge, text: text.into(), limit: 1 << 20 }
}

fn checkpoint(execution: usize, id: usize) -> CheckpointKey {
    CheckpointKey { state: state(EXECUTIONS[execution]), checkpoint: CheckpointId::parse(CHECKPOINTS[id]).unwrap() }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn same<T: PartialEq + Debug>(what: &str, actual: T, expected: T) -> Step {
    if actual == expected { Ok(()) } else { Err(format!("{what}: {actual:?} where the model has {expected:?}")) }
}

fn within(what: &str, moment: Timestamp, begin: Timestamp, end: Timestamp) -> Step {
    if moment >= begin && moment <= end { Ok(()) } else { Err(format!("{what}: {moment}, not between {begin} and {end}")) }
}

/// A write ended as expected; what it did, when it did anything.
fn agree<R: Debug>(actual: Result<Done<R>, Error>, expected: Result<u16, Code>) -> Step<Option<Done<R>>> {
    match (actual, expected) {
        (Ok(done), Ok(status)) if done.status == status && !done.replayed => Ok(Some(done)),
        (Err(error), Err(code)) if error.code == code => Ok(None),
        (actual, expected) => Err(format!("answered {actual:?} where the model says {expected:?}")),
    }
}

fn agree_code<R: Debug>(actual: Result<R, Error>, expected: Result<(), Code>) -> Step<Option<R>> {
    match (actual, expected) {
        (Ok(done), Ok(())) => Ok(Some(done)),
        (Err(error), Err(code)) if error.code == code => Ok(None),
        (actual, expected) => Err(format!("answered {actual:?} where the model says {expected:?}")),
    }
}

/// What a read must give: version and one member of the body, or the code.
fn read(what: &str, found: Result<Representation, Error>, expected: Option<(Version, &str, &Value)>, code: Code) -> Step {
    match (found, expected) {
        (Ok(found), Some((version, member, content))) => {
            let body: Value = serde_json::from_slice(&found.body).unwrap();
            same(&format!("{what} ({:?}), version", found.tier), found.version, version)?;
            same(&format!("{what}, version in the body"), &body["version"], &json!(version.get()))?;
            same(&format!("{what} ({:?}), {member}", found.tier), &body[member], content)
        }
        (Err(error), None) if error.code == code => Ok(()),
        (found, expected) => Err(format!("{what}: read {found:?} where the model has {expected:?}")),
    }
}

impl<'a> World<'a> {
    pub(super) fn new(app: &'a TestApp) -> Self {
        Self { app, services: app.services.clone(), caller: newcomer(), model: Model::default() }
    }

    fn scope(&self, scope: usize) -> Scope {
        match scope {
            0 => Scope::Global,
            1 => Scope::Workflow(workflow()),
            2 => Scope::User(self.caller.subject.clone()),
            of => Scope::Session(session(SESSIONS[of - 3])),
        }
    }

    fn variable(&self, scope: usize, name: usize) -> VariableKey {
        variable(self.scope(scope), NAMES[name])
    }

    /// Moves the clock past what would end during the next calls, and lets the model know.
    fn calm(&mut self) {
        while self.model.ends_within(self.app.clock.now(), CALM_SECONDS) {
            self.app.clock.advance_seconds(CALM_SECONDS + 1);
        }
        self.model.pass(self.app.clock.now());
    }

    pub(super) async fn step(&mut self, operation: &Operation) -> Step {
        self.calm();
        let Operation { kind, a, b, c, number, .. } = *operation;
        let (execution, id) = (a % EXECUTIONS.len(), b % CHECKPOINTS.len());
        match kind {
            Kind::PutState | Kind::PatchState | Kind::DeleteState => self.write_state(execution, operation).await?,
            Kind::CreateCheckpoint => self.create_checkpoint(execution, id, number).await?,
            Kind::Restore => self.restore(execution, id, operation.guard).await?,
            Kind::Fork => self.fork(execution, id, c % EXECUTIONS.len()).await?,
            Kind::DeleteCheckpoint => self.delete_checkpoint(execution, id, operation.guard).await?,
            Kind::DeleteExecution => self.delete_execution(execution, operation.guard).await?,
            Kind::CreateSession | Kind::PutSession | Kind::PatchSession | Kind::Extend | Kind::DeleteSession => {
                self.write_session(a % SESSIONS.len(), operation).await?;
            }
            Kind::GetSession => self.get_session(a % SESSIONS.len(), number).await?,
            Kind::PutVariable | Kind::PatchVariable | Kind::Increment | Kind::DeleteVariable => {
                self.write_variable(a % SCOPES, b % NAMES.len(), operation).await?;
            }
            Kind::Batch => self.batch(a % SCOPES, operation).await?,
            Kind::DeleteScope => self.delete_scope(a % SCOPES).await?,
            Kind::Effective => self.compare_effective((b < 40).then_some(a % SESSIONS.len())).await?,
            Kind::Advance => self.app.clock.advance_seconds([1, 5, 17, 60, 400, 4000][a % 6]),
            Kind::Sweep => {
                if a < 20 {
                    self.app.clock.advance_seconds(2 * DAY);
                    sweep(self.app).await;
                    self.app.clock.advance_seconds(61);
                }
                sweep(self.app).await;
            }
            Kind::ClearCache => {
                let _entries = self.services.operations.clear_cache();
            }
        }
        self.calm();
        match kind {
            Kind::PutState | Kind::PatchState | Kind::DeleteState | Kind::CreateCheckpoint | Kind::Restore => {
                self.compare_execution(execution, number).await?;
            }
            Kind::Fork | Kind::DeleteCheckpoint | Kind::DeleteExecution => {
                self.compare_execution(execution, number).await?;
                self.compare_execution(c % EXECUTIONS.len(), number).await?;
                self.compare_lists().await?;
            }
            Kind::Advance | Kind::Sweep => {
                self.compare_sessions(number).await?;
                self.compare_scope(3 + c % SESSIONS.len(), number).await?;
                self.compare_scope(c % 3, number).await?;
            }
            Kind::CreateSession | Kind::PutSession | Kind::PatchSession | Kind::Extend | Kind::DeleteSession | Kind::GetSession => {
                self.compare_sessions(number).await?;
                self.compare_scope(3 + a % SESSIONS.len(), number).await?;
            }
            _ => self.compare_scope(a % SCOPES, number).await?,
        }
        Ok(())
    }

    pub(super) async fn compare_everything(&mut self) -> Step {
        self.calm();
        for freshness in [0, 1] {
            for execution in 0..EXECUTIONS.len() {
                self.compare_execution(execution, freshness).await?;
            }
            self.compare_sessions(freshness).await?;
            for scope in 0..SCOPES {
                self.compare_scope(scope, freshness).await?;
            }
        }
        self.compare_lists().await?;
        self.compare_effective(Some(0)).await?;
        self.compare_effective(None).await
    }

    async fn write_state(&mut self, execution: usize, operation: &Operation) -> Step {
        let (key, number) = (state(EXECUTIONS[execution]), operation.number);
        let live = self.model.states.get(&execution).cloned();
        let seen = self.model.seen(&Key::State(execution));
        let (guard, met) = precondition(operation.guard, live.as_ref().map(|live| live.version), seen);
        let request = request(&self.caller, guard);
        let written = match operation.kind {
            Kind::PutState => {
                let expected = if met { Ok(if live.is_some() { 200 } else { 201 }) } else { Err(Code::PreconditionFailed) };
                let done = agree(self.services.states.put(&request, key, tokens(number)).await, expected)?;
                done.map(|done| (done, json!({ "a": number })))
            }
            Kind::PatchState => {
                let expected = match (met, &live) {
                    (false, _) => Err(Code::PreconditionFailed),
                    (true, None) => Err(Code::StateNotFound),
                    (true, Some(_)) => Ok(200),
                };
                let patch = merge(format!(r#"{{"marking":{{"b":{number}}}}}"#));
                let done = agree(self.services.states.patch(&request, key, patch).await, expected)?;
                let mut marking = live.map(|live| live.marking).unwrap_or_default();
                marking["b"] = json!(number);
                done.map(|done| (done, marking))
            }
            _ => {
                let expected = deletion(live.is_some(), operation.guard, met, Code::StateNotFound);
                if let Some(done) = agree(self.services.states.delete(&request, key).await, expected)? {
                    self.model.grow(Key::State(execution), done.version)?;
                    self.model.states.remove(&execution);
                    *self.model.history.entry(execution).or_default() += 1;
                }
                return Ok(());
            }
        };
        if let Some((done, marking)) = written {
            self.state_written(execution, done.version, marking)?;
        }
        Ok(())
    }

    fn state_written(&mut self, execution: usize, version: Version, marking: Value) -> Step {
        self.model.grow(Key::State(execution), version)?;
        self.model.states.insert(execution, State { version, marking });
        *self.model.history.entry(execution).or_default() += 1;
        Ok(())
    }

    async fn create_checkpoint(&mut self, execution: usize, id: usize, number: i64) -> Step {
        let document = (number % 3 == 0).then(|| tokens(number));
        let marking = match &document {
            Some(_) => Some(json!({ "a": number })),
            None => self.model.states.get(&execution).map(|live| live.marking.clone()),
        };
        let expected = if self.model.checkpoints.contains_key(&(execution, id)) {
            Err(Code::CheckpointExists)
        } else {
            marking.as_ref().map(|_| 201).ok_or(Code::StateNotFound)
        };
        let new = NewCheckpoint { label: None, metadata: "{}".into(), document };
        let done = agree(self.services.checkpoints.create(&plain(&self.caller), checkpoint(execution, id), new).await, expected)?;
        if let (Some(done), Some(marking)) = (done, marking) {
            self.model.grow(Key::Checkpoint(execution, id), done.version)?;
            self.model.checkpoints.insert((execution, id), Checkpoint { version: done.version, marking });
        }
        Ok(())
    }

    async fn restore(&mut self, execution: usize, id: usize, guard: Guard) -> Step {
        let kept = self.model.checkpoints.get(&(execution, id)).cloned();
        // With neither the checkpoint nor the version, either answer is right.
        let guard = if kept.is_some() { guard } else { Guard::None };
        let live = self.model.states.get(&execution).map(|live| live.version);
        let (precondition, met) = precondition(guard, live, self.model.seen(&Key::State(execution)));
        let expected = match &kept {
            None => Err(Code::CheckpointNotFound),
            Some(_) => {
                if met {
                    Ok(200)
                } else {
                    Err(Code::PreconditionFailed)
                }
            }
        };
        let request = request(&self.caller, precondition);
        let done = agree(self.services.checkpoints.restore(&request, checkpoint(execution, id)).await, expected)?;
        match (done, kept) {
            (Some(done), Some(kept)) => self.state_written(execution, done.version, kept.marking),
            _ => Ok(()),
        }
    }

    async fn fork(&mut self, execution: usize, id: usize, target: usize) -> Step {
        let kept = self.model.checkpoints.get(&(execution, id)).cloned();
        let taken = self.model.history.get(&target).is_some_and(|count| *count > 0) || self.model.checkpoints_of(target) > 0;
        let expected = match &kept {
            None => Err(Code::CheckpointNotFound),
            Some(_) => {
                if taken {
                    Err(Code::ExecutionExists)
                } else {
                    Ok(201)
                }
            }
        };
        let into = ExecutionId::parse(EXECUTIONS[target]).unwrap();
        let done = agree(self.services.checkpoints.fork(&plain(&self.caller), checkpoint(execution, id), into).await, expected)?;
        match (done, kept) {
            (Some(done), Some(kept)) => self.state_written(target, done.version, kept.marking),
            _ => Ok(()),
        }
    }

    async fn delete_checkpoint(&mut self, execution: usize, id: usize, guard: Guard) -> Step {
        let live = self.model.checkpoints.get(&(execution, id)).map(|kept| kept.version);
        let (precondition, met) = precondition(guard, live, self.model.seen(&Key::Checkpoint(execution, id)));
        let expected = deletion(live.is_some(), guard, met, Code::CheckpointNotFound);
        let request = request(&self.caller, precondition);
        if let Some(done) = agree(self.services.checkpoints.delete(&request, checkpoint(execution, id)).await, expected)? {
            self.model.grow(Key::Checkpoint(execution, id), done.version)?;
            self.model.checkpoints.remove(&(execution, id));
        }
        Ok(())
    }

    async fn delete_execution(&mut self, execution: usize, guard: Guard) -> Step {
        let versions = self.model.history.get(&execution).copied().unwrap_or_default();
        let checkpoints = i64::try_from(self.model.checkpoints_of(execution)).unwrap();
        let there = versions > 0 || checkpoints > 0;
        let guard = if there { guard } else { Guard::None };
        let live = self.model.states.get(&execution).map(|live| live.version);
        let (precondition, met) = precondition(guard, live, self.model.seen(&Key::State(execution)));
        let expected = if !there {
            Err(Code::ExecutionNotFound)
        } else if met {
            Ok(200)
        } else {
            Err(Code::PreconditionFailed)
        };
        let request = request(&self.caller, precondition);
        if let Some(done) = agree(self.services.executions.delete(&request, state(EXECUTIONS[execution])).await, expected)? {
            let removed = done.record.unwrap();
            same("removed versions and checkpoints", (removed.versions, removed.checkpoints), (versions, checkpoints))?;
            self.model.grow(Key::State(execution), done.version)?;
            self.model.states.remove(&execution);
            self.model.history.remove(&execution);
            self.model.checkpoints.retain(|(owner, _), _| *owner != execution);
        }
        Ok(())
    }

    async fn write_session(&mut self, id: usize, operation: &Operation) -> Step {
        let (key, number) = (session(SESSIONS[id]), operation.number);
        let live = self.model.sessions.get(&id).cloned();
        let guard = if operation.kind == Kind::CreateSession { Guard::None } else { operation.guard };
        let (precondition, met) = precondition(guard, live.as_ref().map(|live| live.version), self.model.seen(&Key::Session(id)));
        let request = request(&self.caller, precondition);
        let if_met = |status| if met { Ok(status) } else { Err(Code::PreconditionFailed) };
        let document = SessionDocument {
            data: format!(r#"{{"a":{number}}}"#).into(),
            ttl_seconds: (number % 4 != 0).then_some(20 + number),
            sliding: number % 2 == 0,
            max_ttl_seconds: (number % 5 == 0).then_some(500 + number),
        };
        let begin = self.app.clock.now();
        let done = match operation.kind {
            Kind::CreateSession => {
                let expected = if live.is_some() { Err(Code::SessionExists) } else { Ok(201) };
                agree(self.services.sessions.create(&request, key, None, document.clone()).await, expected)?
            }
            Kind::PutSession => {
                let expected = if_met(if live.is_some() { 200 } else { 201 });
                agree(self.services.sessions.put(&request, key, document.clone()).await, expected)?
            }
            Kind::PatchSession => {
                let expected = if_met(200).and_then(|status| live.as_ref().map(|_| status).ok_or(Code::SessionNotFound));
                let patch = merge(format!(r#"{{"data":{{"b":{number}}}}}"#));
                agree(self.services.sessions.patch(&request, key, patch).await, expected)?
            }
            Kind::Extend => {
                let expected = if_met(200).and_then(|status| live.as_ref().map(|_| status).ok_or(Code::SessionNotFound));
                agree(self.services.sessions.extend(&request, key, 20 + number).await, expected)?
            }
            _ => {
                let expected = deletion(live.is_some(), guard, met, Code::SessionNotFound);
                if let Some(done) = agree(self.services.sessions.delete(&request, key).await, expected)? {
                    self.model.grow(Key::Session(id), done.version)?;
                    self.model.sessions.remove(&id);
                    self.model.drop_variables(id);
                }
                return Ok(());
            }
        };
        let Some(done) = done else { return Ok(()) };
        self.session_written(id, operation, live, &document, &done.record.unwrap(), begin)
    }

    fn session_written(
        &mut self,
        id: usize,
        operation: &Operation,
        live: Option<Session>,
        document: &SessionDocument,
        record: &SessionRecord,
        begin: Timestamp,
    ) -> Step {
        let end = self.app.clock.now();
        self.model.grow(Key::Session(id), record.version)?;
        let created = live.is_none();
        let before = live.unwrap_or(Session {
            version: record.version,
            life: record.version,
            data: json!({}),
            ttl: 3600,
            sliding: false,
            cap: None,
            created_at: record.created_at,
            expires_at: record.expires_at,
        });
        if created {
            within("a session's beginning", record.created_at, begin, end)?;
            self.model.drop_variables(id);
        }
        let mut after = Session { version: record.version, expires_at: record.expires_at, ..before.clone() };
        let clamp = |session: &Session, moment: Timestamp| moment.min(session.latest());
        match operation.kind {
            Kind::PatchSession => {
                after.data["b"] = json!(operation.number);
                same("expiry after a patch", record.expires_at, before.expires_at)?;
            }
            Kind::Extend => {
                let until = clamp(&after, before.expires_at.plus_seconds(20 + operation.number));
                same("expiry after an extension", record.expires_at, until)?;
            }
            _ => {
                after.data = parsed(&document.data);
                (after.sliding, after.cap) = (document.sliding, document.max_ttl_seconds);
                let restarts = document.ttl_seconds.or(created.then_some(3600));
                after.ttl = restarts.unwrap_or(before.ttl);
                match restarts {
                    Some(ttl) => {
                        let (first, last) = (clamp(&after, begin.plus_seconds(ttl)), clamp(&after, end.plus_seconds(ttl)));
                        within("a session's expiry", record.expires_at, first, last)?;
                    }
                    None => same("expiry without a time to live", record.expires_at, clamp(&after, before.expires_at))?,
                }
            }
        }
        same("a session's life", record.life, after.life)?;
        same("a session's beginning", record.created_at, after.created_at)?;
        same("a session's data", parsed(&record.data), after.data.clone())?;
        let rest = (record.ttl_seconds, record.sliding, record.max_ttl_seconds);
        same("a session's times", rest, (after.ttl, after.sliding, after.cap))?;
        self.model.sessions.insert(id, after);
        Ok(())
    }

    async fn get_session(&mut self, id: usize, number: i64) -> Step {
        let freshness = if number % 2 == 0 { FROM_STORE } else { CACHED };
        let begin = self.app.clock.now();
        let found = self.services.sessions.get(&self.caller, session(SESSIONS[id]), freshness).await;
        let end = self.app.clock.now();
        let live = self.model.sessions.get_mut(&id);
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

    async fn write_variable(&mut self, scope: usize, of: usize, operation: &Operation) -> Step {
        let (key, number) = (self.variable(scope, of), operation.number);
        let lives = self.scope_lives(scope);
        let live = self.model.variables.get(&(scope, of)).cloned();
        let seen = self.model.seen(&Key::Variable(scope, of));
        let (precondition, met) = precondition(operation.guard, live.as_ref().map(|live| live.version), seen);
        let request = request(&self.caller, precondition);
        let or_no_session = |expected| if lives { expected } else { Err(Code::SessionNotFound) };
        let if_met = |status| if met { Ok(status) } else { Err(Code::PreconditionFailed) };
        let begin = self.app.clock.now();
        let (done, content, ttl) = match operation.kind {
            Kind::PutVariable => {
                let content = if number % 7 == 0 { json!("text") } else { json!(number) };
                let ttl = (number % 3 == 0).then_some(20 + number);
                let input = nworkflow_state::domain::variable::VariableInput { ttl_seconds: ttl, ..value(content.to_string()) };
                let expected = or_no_session(if_met(if live.is_some() { 200 } else { 201 }));
                (agree(self.services.variables.put(&request, key, input).await, expected)?, content, Some(ttl))
            }
            Kind::PatchVariable => {
                let expected = or_no_session(if_met(200).and_then(|status| live.as_ref().map(|_| status).ok_or(Code::VariableNotFound)));
                let patch = merge(format!(r#"{{"value":{number}}}"#));
                (agree(self.services.variables.patch(&request, key, patch).await, expected)?, json!(number), None)
            }
            Kind::Increment => {
                let before = live.as_ref().map_or(Some(0), |live| live.value.as_i64());
                let sum = before.map(|before| before + number);
                let expected = match sum {
                    _ if !met => if_met(200),
                    None => Err(Code::NotANumber),
                    Some(_) => Ok(200),
                };
                let done = self.services.variables.increment(&request, key, Number::Integer(number)).await;
                (agree(done, or_no_session(expected))?, json!(sum), None)
            }
            _ => {
                let expected = or_no_session(deletion(live.is_some(), operation.guard, met, Code::VariableNotFound));
                if let Some(done) = agree(self.services.variables.delete(&request, key).await, expected)? {
                    self.model.grow(Key::Variable(scope, of), done.version)?;
                    self.model.variables.remove(&(scope, of));
                }
                return Ok(());
            }
        };
        let Some(done) = done else { return Ok(()) };
        let record = done.record.unwrap();
        match ttl {
            Some(Some(ttl)) => {
                let expires_at = record.expires_at.ok_or("a variable without its time to live")?;
                within("a variable's expiry", expires_at, begin.plus_seconds(ttl), self.app.clock.now().plus_seconds(ttl))?;
            }
            Some(None) => same("a variable's expiry", record.expires_at, None)?,
            None => same("a variable's expiry stays", record.expires_at, live.and_then(|live| live.expires_at))?,
        }
        self.variable_written(scope, of, &record, content)
    }

    fn variable_written(&mut self, scope: usize, of: usize, record: &VariableRecord, content: Value) -> Step {
        same("a variable that was written", &parsed(&record.value), &content)?;
        self.model.grow(Key::Variable(scope, of), record.version)?;
        let written = Variable { version: record.version, value: content, expires_at: record.expires_at };
        self.model.variables.insert((scope, of), written);
        Ok(())
    }

    fn scope_lives(&self, scope: usize) -> bool {
        scope.checked_sub(3).is_none_or(|session| self.model.sessions.contains_key(&session))
    }

    /// Sets some names, deletes others, and expects versions of others or the same.
    async fn batch(&mut self, scope: usize, operation: &Operation) -> Step {
        let Operation { b, c, number, guard, .. } = *operation;
        let (mut batch, mut roles) = (VariableBatch::default(), b);
        let (mut set, mut deleted) = (Vec::new(), Vec::new());
        for (of, text) in NAMES.iter().enumerate() {
            match roles % 3 {
                0 => {
                    set.push(of);
                    batch.set.push((name(text), number.to_string().into()));
                }
                1 => {
                    batch.delete.push(name(text));
                    deleted.extend(self.model.variables.contains_key(&(scope, of)).then_some(of));
                }
                _ => {}
            }
            roles /= 3;
        }
        let guarded = c % NAMES.len();
        let live = self.model.variables.get(&(scope, guarded)).map(|live| live.version);
        let expectation = match guard {
            Guard::None => None,
            Guard::Absent => Some(None),
            Guard::Present | Guard::Current => Some(live),
            Guard::Stale => Some(Version::new(900_000)),
        };
        batch.if_versions.extend(expectation.map(|version| (name(NAMES[guarded]), version)));
        let expected = if !self.scope_lives(scope) {
            Err(Code::SessionNotFound)
        } else if expectation.is_some_and(|version| version != live) {
            Err(Code::PreconditionFailed)
        } else {
            Ok(())
        };
        let done = self.services.variables.batch(&plain(&self.caller), self.scope(scope), batch).await;
        let Some((record, _)) = agree_code(done, expected)? else { return Ok(()) };
        let names = |of: &[usize]| of.iter().map(|of| name(NAMES[*of])).collect::<Vec<_>>();
        same("deleted by a batch", record.deleted, names(&deleted))?;
        same("set by a batch", record.set.iter().map(|record| record.key.name.clone()).collect(), names(&set))?;
        for of in deleted {
            self.model.variables.remove(&(scope, of));
        }
        for (of, record) in set.into_iter().zip(&record.set) {
            let before = self.model.variables.get(&(scope, of)).and_then(|live| live.expires_at);
            same("a time to live that goes on in a batch", record.expires_at, before)?;
            self.variable_written(scope, of, record, json!(number))?;
        }
        Ok(())
    }

    async fn delete_scope(&mut self, scope: usize) -> Step {
        let expected = if self.scope_lives(scope) { Ok(()) } else { Err(Code::SessionNotFound) };
        let done = self.services.variables.delete_scope(&plain(&self.caller), self.scope(scope)).await;
        let Some((deletion, _)) = agree_code(done, expected)? else { return Ok(()) };
        let count = self.model.variables.keys().filter(|(of, _)| *of == scope).count();
        same("deleted of a scope", (deletion.deleted, deletion.more), (count as u64, false))?;
        self.model.variables.retain(|(of, _), _| *of != scope);
        Ok(())
    }

    /// Most reads may come from the cache, some name the version that they know, some ask the store.
    fn freshness(number: i64, live: Option<Version>) -> Freshness {
        match number % 4 {
            0 => FROM_STORE,
            1 => Freshness { from_store: false, min_version: live },
            _ => CACHED,
        }
    }

    async fn compare_execution(&self, execution: usize, number: i64) -> Step {
        let live = self.model.states.get(&execution);
        let freshness = Self::freshness(number, live.map(|live| live.version));
        let found = self.services.states.get(&self.caller, state(EXECUTIONS[execution]), freshness).await;
        read("state", found, live.map(|live| (live.version, "marking", &live.marking)), Code::StateNotFound)?;
        for id in 0..CHECKPOINTS.len() {
            let kept = self.model.checkpoints.get(&(execution, id));
            let freshness = Self::freshness(number, kept.map(|kept| kept.version));
            let found = self.services.checkpoints.get(&self.caller, checkpoint(execution, id), freshness).await;
            let whole = kept.map(|kept| json!({ "marking": kept.marking, "status": "running", "metadata": {}, "schema_version": 1 }));
            let expected = kept.zip(whole.as_ref()).map(|(kept, whole)| (kept.version, "state", whole));
            read("checkpoint", found, expected, Code::CheckpointNotFound)?;
        }
        let history = self.services.states.history(&self.caller, &state(EXECUTIONS[execution]), false, None, 1000).await;
        let count = history.as_ref().map_or(0, |page| page.items.len());
        let expected = self.model.history.get(&execution).copied().unwrap_or_default();
        same("versions in the history", i64::try_from(count).unwrap(), expected)?;
        let ordered = history.is_ok_and(|page| page.items.is_sorted_by(|one, next| one.version > next.version));
        same("history, newest first", ordered, expected > 0)
    }

    async fn compare_sessions(&self, number: i64) -> Step {
        for (id, text) in SESSIONS.iter().enumerate() {
            // A variable's read reads the session too, and does not touch it.
            let live = self.model.sessions.get(&id);
            let version = live.map(|live| live.version);
            let found = self.services.variables.get(&self.caller, self.variable(3 + id, 0), Self::freshness(number, None)).await;
            let there = !found.is_err_and(|error| error.code == Code::SessionNotFound);
            same(&format!("whether {text} lives"), there, version.is_some())?;
        }
        let list = self.services.sessions.list(&self.caller, None, 100).await.map_err(|error| error.to_string())?;
        let found: Vec<_> = list.items.iter().map(|record| (record.id.as_str(), record.version, record.expires_at)).collect();
        let expected: Vec<_> = self.model.sessions.iter().map(|(id, live)| (SESSIONS[*id], live.version, live.expires_at)).collect();
        same("list of sessions", found, expected)
    }

    async fn compare_scope(&self, scope: usize, number: i64) -> Step {
        let lives = self.scope_lives(scope);
        let code = if lives { Code::VariableNotFound } else { Code::SessionNotFound };
        for (of, text) in NAMES.iter().enumerate() {
            let live = self.model.variables.get(&(scope, of));
            let freshness = Self::freshness(number, live.map(|live| live.version));
            let found = self.services.variables.get(&self.caller, self.variable(scope, of), freshness).await;
            read(&format!("{text} of scope {scope}"), found, live.map(|live| (live.version, "value", &live.value)), code)?;
        }
        let list = self.services.variables.list(&self.caller, &self.scope(scope), VariableFilter::default(), None, 100).await;
        let Some(page) = agree_code(list, if lives { Ok(()) } else { Err(Code::SessionNotFound) })? else { return Ok(()) };
        let found: Vec<_> = page.items.iter().map(|record| (record.key.name.as_str(), record.version, parsed(&record.value))).collect();
        let here = self.model.variables.iter().filter(|((of, _), _)| *of == scope);
        let expected: Vec<_> = here.map(|((_, of), live)| (NAMES[*of], live.version, live.value.clone())).collect();
        same("list of variables", found, expected)
    }

    async fn compare_lists(&self) -> Step {
        let list = self.services.executions.list(&self.caller, &workflow(), ExecutionFilter::default(), None, 100).await;
        let list = list.map_err(|error| error.to_string())?;
        let found: Vec<_> = list.items.iter().map(|item| (item.key.execution.as_str(), item.version)).collect();
        let expected: Vec<_> = self.model.states.iter().map(|(execution, live)| (EXECUTIONS[*execution], live.version)).collect();
        same("list of executions", found, expected)?;
        let workflows = self.services.executions.workflows(&self.caller, None, 100).await.map_err(|error| error.to_string())?;
        same("list of workflows", workflows.items.len(), usize::from(!self.model.states.is_empty()))?;
        let list = self.services.checkpoints.list(&self.caller, CheckpointFilter::default(), None, 100).await;
        let list = list.map_err(|error| error.to_string())?;
        same("checkpoints, newest first", list.items.is_sorted_by(|one, next| one.created_at >= next.created_at), true)?;
        let place = |item: &CheckpointKey| (item.state.execution.as_str().to_owned(), item.checkpoint.as_str().to_owned());
        let mut found: Vec<_> = list.items.iter().map(|item| (place(&item.key), item.version)).collect();
        found.sort();
        let kept = self.model.checkpoints.iter();
        let expected: Vec<_> = kept.map(|((execution, id), kept)| (place(&checkpoint(*execution, *id)), kept.version)).collect();
        same("list of checkpoints", found, expected)
    }

    async fn compare_effective(&self, session_id: Option<usize>) -> Step {
        let filter = EffectiveFilter {
            session: session_id.map(|id| session(SESSIONS[id])),
            user: Some(self.caller.subject.clone()),
            workflow: Some(workflow()),
            names: Vec::new(),
        };
        let lives = session_id.is_none_or(|id| self.model.sessions.contains_key(&id));
        let list = self.services.effective.list(&self.caller, filter, None, 100).await;
        let Some(page) = agree_code(list, if lives { Ok(()) } else { Err(Code::SessionNotFound) })? else { return Ok(()) };
        let found: Vec<_> = page.items.iter().map(|record| (record.key.clone(), record.version)).collect();
        let order = session_id.map(|id| id + 3).into_iter().chain([2, 1, 0]);
        let first = |of| order.clone().find_map(|scope| self.model.variables.get(&(scope, of)).map(|live| (scope, live.version)));
        let expected = (0..NAMES.len()).filter_map(|of| first(of).map(|(scope, version)| (self.variable(scope, of), version))).collect();
        same("effective variables", found, expected)
    }
}

/// What the deletion of a resource answers.
fn deletion(lives: bool, guard: Guard, met: bool, absent: Code) -> Result<u16, Code> {
    match (lives, guard) {
        (false, Guard::None | Guard::Absent) => Err(absent),
        _ if met => Ok(204),
        _ => Err(Code::PreconditionFailed),
    }
}
