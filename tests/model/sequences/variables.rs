//! Variables: one by one, in batches, a scope at a time.

use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::variable::{Number, VariableBatch, VariableInput, VariableRecord};
use nworkflow_state::domain::version::Version;
use nworkflow_state::error::Code;
use nworkflow_state::service::WriteRequest;
use serde_json::{Value, json};

use super::operation::{Expectation, Guard, NAMES, Role};
use super::reference::{Key, Variable};
use super::verdict::{Verdict, agree, agree_code, change, deletion, parsed, replacement, same, within};
use super::world::{World, merge};
use crate::model::{name, plain, request, value};

/// Scope and name.
type Place = (usize, usize);

impl World {
    /// The live variable, a request under this guard, and whether it is met.
    fn guarded_variable(&self, place: Place, guard: Guard) -> (Option<Variable>, WriteRequest, bool) {
        let live = self.model.variables.get(&place).cloned();
        let key = Key::Variable(place.0, place.1);
        let (precondition, met) = self.model.precondition(guard, &key, live.as_ref().map(|live| live.version));
        (live, request(&self.caller, precondition), met)
    }

    /// What is expected in a scope, unless its session is not there.
    fn in_scope<T>(&self, scope: usize, expected: Result<T, Code>) -> Result<T, Code> {
        if self.model.scope_lives(scope) { expected } else { Err(Code::SessionNotFound) }
    }

    pub(super) async fn put_variable(&mut self, place: Place, number: Option<i64>, ttl: Option<i64>, guard: Guard) -> Verdict {
        let (live, request, met) = self.guarded_variable(place, guard);
        let content = number.map_or(json!("text"), |number| json!(number));
        let input = VariableInput { ttl_seconds: ttl, ..value(content.to_string()) };
        let begin = self.app.clock.now();
        let done = self.services.variables.put(&request, self.variable(place.0, place.1), input).await;
        let done = agree(done, self.in_scope(place.0, replacement(live.is_some(), met)))?;
        let Some(record) = done.map(|done| done.record.unwrap()) else { return Ok(()) };
        match ttl {
            Some(ttl) => {
                let expires_at = record.expires_at.ok_or("a variable without its time to live")?;
                within("a variable's expiry", expires_at, begin.plus_seconds(ttl), self.app.clock.now().plus_seconds(ttl))?;
            }
            None => same("a variable's expiry", record.expires_at, None)?,
        }
        self.variable_written(place, &record, content)
    }

    pub(super) async fn patch_variable(&mut self, place: Place, number: i64, guard: Guard) -> Verdict {
        let (live, request, met) = self.guarded_variable(place, guard);
        let patch = merge(format!(r#"{{"value":{number}}}"#));
        let done = self.services.variables.patch(&request, self.variable(place.0, place.1), patch).await;
        let done = agree(done, self.in_scope(place.0, change(live.is_some(), met, Code::VariableNotFound)))?;
        let Some(record) = done.map(|done| done.record.unwrap()) else { return Ok(()) };
        self.expiry_stays(place, record.expires_at)?;
        self.variable_written(place, &record, json!(number))
    }

    pub(super) async fn increment(&mut self, place: Place, number: i64, guard: Guard) -> Verdict {
        let (live, request, met) = self.guarded_variable(place, guard);
        let sum = live.map_or(Some(0), |live| live.value.as_i64()).map(|before| before + number);
        let expected = match sum {
            _ if !met => Err(Code::PreconditionFailed),
            None => Err(Code::NotANumber),
            Some(_) => Ok(200),
        };
        let done = self.services.variables.increment(&request, self.variable(place.0, place.1), Number::Integer(number)).await;
        let Some(done) = agree(done, self.in_scope(place.0, expected))? else { return Ok(()) };
        let record = done.record.unwrap();
        self.expiry_stays(place, record.expires_at)?;
        self.variable_written(place, &record, json!(sum))
    }

    pub(super) async fn delete_variable(&mut self, place: Place, guard: Guard) -> Verdict {
        let (live, request, met) = self.guarded_variable(place, guard);
        let done = self.services.variables.delete(&request, self.variable(place.0, place.1)).await;
        let expected = self.in_scope(place.0, deletion(live.is_some(), guard, met, Code::VariableNotFound));
        if let Some(done) = agree(done, expected)? {
            self.model.grow(Key::Variable(place.0, place.1), done.version)?;
            self.model.variables.remove(&place);
        }
        Ok(())
    }

    fn expiry_stays(&self, place: Place, expires_at: Option<Timestamp>) -> Verdict {
        let before = self.model.variables.get(&place).and_then(|live| live.expires_at);
        same("a variable's expiry stays", expires_at, before)
    }

    fn variable_written(&mut self, place: Place, record: &VariableRecord, content: Value) -> Verdict {
        same("a variable that was written", &parsed(&record.value), &content)?;
        self.model.grow(Key::Variable(place.0, place.1), record.version)?;
        let written = Variable { version: record.version, value: content, expires_at: record.expires_at };
        self.model.variables.insert(place, written);
        Ok(())
    }

    /// Sets some names, deletes others, and may expect a version of one of them or of another.
    pub(super) async fn batch(
        &mut self,
        scope: usize,
        roles: [Role; NAMES.len()],
        number: i64,
        expects: Option<(usize, Expectation)>,
    ) -> Verdict {
        let mut batch = VariableBatch::default();
        let (mut set, mut deleted) = (Vec::new(), Vec::new());
        for (of, role) in roles.into_iter().enumerate() {
            match role {
                Role::Untouched => {}
                Role::Set => {
                    set.push(of);
                    batch.set.push((name(NAMES[of]), number.to_string().into()));
                }
                Role::Delete => {
                    deleted.extend(self.model.variables.contains_key(&(scope, of)).then_some(of));
                    batch.delete.push(name(NAMES[of]));
                }
            }
        }
        let mut met = true;
        if let Some((of, expectation)) = expects {
            let live = self.model.variables.get(&(scope, of)).map(|live| live.version);
            let expected = match expectation {
                Expectation::Live => live,
                Expectation::Absent => None,
                Expectation::Unknown => Version::new(900_000),
            };
            met = expected == live;
            batch.if_versions.push((name(NAMES[of]), expected));
        }
        let expected = self.in_scope(scope, if met { Ok(()) } else { Err(Code::PreconditionFailed) });
        let done = self.services.variables.batch(&plain(&self.caller), self.scope(scope), batch).await;
        let Some((record, _)) = agree_code(done, expected)? else { return Ok(()) };
        let names = |of: &[usize]| of.iter().map(|of| name(NAMES[*of])).collect::<Vec<_>>();
        same("deleted by a batch", record.deleted, names(&deleted))?;
        same("set by a batch", record.set.iter().map(|record| record.key.name.clone()).collect(), names(&set))?;
        for of in deleted {
            self.model.variables.remove(&(scope, of));
        }
        for (of, record) in set.into_iter().zip(&record.set) {
            self.expiry_stays((scope, of), record.expires_at)?;
            self.variable_written((scope, of), record, json!(number))?;
        }
        Ok(())
    }

    pub(super) async fn delete_scope(&mut self, scope: usize) -> Verdict {
        let done = self.services.variables.delete_scope(&plain(&self.caller), self.scope(scope)).await;
        let Some((deletion, _)) = agree_code(done, self.in_scope(scope, Ok(())))? else { return Ok(()) };
        let count = self.model.variables.keys().filter(|(of, _)| *of == scope).count();
        same("deleted of a scope", (deletion.deleted, deletion.more), (count as u64, false))?;
        self.model.variables.retain(|(of, _), _| *of != scope);
        Ok(())
    }
}
