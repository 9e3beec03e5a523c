//! What is there, without the stores: enough to choose steps that meet something. Of executions it is exact. Of sessions and variables it
//! is a guess, because the stores' clocks go on by themselves; what really ends, and when, is the model's to say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::generate;
use super::operation::{DAY, EXECUTIONS, Expectation, Guard, NAMES, Operation, Role, Step, Terms, scope_of, session_of};
use super::reference::Key;

#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// Versions in the history of each execution.
    pub(super) history: [i64; EXECUTIONS.len()],
    pub(super) states: BTreeSet<usize>,
    pub(super) checkpoints: BTreeSet<(usize, usize)>,
    /// When each session ends, in seconds from the beginning.
    sessions: BTreeMap<usize, i64>,
    variables: BTreeMap<(usize, usize), Option<i64>>,
    now: i64,
    writes: HashMap<Key, usize>,
}

fn met(guard: Guard, lives: bool) -> bool {
    match guard {
        Guard::None => true,
        Guard::Absent => !lives,
        Guard::Present | Guard::Current => lives,
        Guard::Unknown | Guard::Earlier => false,
    }
}

impl Shape {
    pub(super) fn live_states(&self) -> Vec<usize> {
        self.states.iter().copied().collect()
    }

    pub(super) fn kept_checkpoints(&self) -> Vec<(usize, usize)> {
        self.checkpoints.iter().copied().collect()
    }

    pub(super) fn live_sessions(&self) -> Vec<usize> {
        self.sessions.keys().copied().collect()
    }

    pub(super) fn live_variables(&self) -> Vec<(usize, usize)> {
        self.variables.keys().copied().collect()
    }

    pub(super) fn taken_executions(&self) -> Vec<usize> {
        (0..EXECUTIONS.len()).filter(|execution| self.is_taken(*execution)).collect()
    }

    pub(super) fn free_executions(&self) -> Vec<usize> {
        (0..EXECUTIONS.len()).filter(|execution| !self.is_taken(*execution)).collect()
    }

    fn is_taken(&self, execution: usize) -> bool {
        self.history[execution] > 0 || self.checkpoints.iter().any(|(owner, _)| *owner == execution)
    }

    fn scope_lives(&self, scope: usize) -> bool {
        session_of(scope).is_none_or(|session| self.sessions.contains_key(&session))
    }

    fn written(&mut self, key: Key) {
        *self.writes.entry(key).or_default() += 1;
    }

    fn state_written(&mut self, execution: usize, lives: bool) {
        self.written(Key::State(execution));
        self.history[execution] += 1;
        if lives {
            self.states.insert(execution);
        } else {
            self.states.remove(&execution);
        }
    }

    fn session_ends(&mut self, session: usize) {
        self.sessions.remove(&session);
        self.variables.retain(|(scope, _), _| *scope != scope_of(session));
    }

    fn put_session(&mut self, session: usize, terms: &Terms) {
        self.written(Key::Session(session));
        let begun = self.sessions.get(&session).copied();
        let ttl = terms.ttl.map(|ttl| self.now + ttl).or(begun).unwrap_or(self.now + 3600);
        self.sessions.insert(session, terms.cap.map_or(ttl, |cap| ttl.min(self.now + cap)));
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        self.variables.retain(|_, ends| ends.is_none_or(|ends| ends > now));
        let ended: Vec<usize> = self.sessions.iter().filter(|(_, ends)| **ends <= now).map(|(session, _)| *session).collect();
        for session in ended {
            self.session_ends(session);
        }
    }

    fn execution_step(&mut self, operation: &Operation) {
        match *operation {
            Operation::PutState { execution, guard, .. } if met(guard, self.states.contains(&execution)) => {
                self.state_written(execution, true);
            }
            Operation::PatchState { execution, guard, .. } if self.states.contains(&execution) && met(guard, true) => {
                self.state_written(execution, true);
            }
            Operation::DeleteState { execution, guard } if self.states.contains(&execution) && met(guard, true) => {
                self.state_written(execution, false);
            }
            Operation::CreateCheckpoint { execution, id, own }
                if !self.checkpoints.contains(&(execution, id)) && (own.is_some() || self.states.contains(&execution)) =>
            {
                self.written(Key::Checkpoint(execution, id));
                self.checkpoints.insert((execution, id));
            }
            Operation::Restore { execution, id, guard }
                if self.checkpoints.contains(&(execution, id)) && met(guard, self.states.contains(&execution)) =>
            {
                self.state_written(execution, true);
            }
            Operation::Fork { execution, id, into } if self.checkpoints.contains(&(execution, id)) && !self.is_taken(into) => {
                self.state_written(into, true);
            }
            Operation::DeleteCheckpoint { execution, id, guard } if self.checkpoints.contains(&(execution, id)) && met(guard, true) => {
                self.written(Key::Checkpoint(execution, id));
                self.checkpoints.remove(&(execution, id));
            }
            Operation::DeleteExecution { execution, guard } if self.is_taken(execution) && met(guard, self.states.contains(&execution)) => {
                self.state_written(execution, false);
                self.history[execution] = 0;
                self.checkpoints.retain(|(owner, _)| *owner != execution);
            }
            _ => {}
        }
    }

    fn session_step(&mut self, operation: &Operation) {
        match operation {
            Operation::CreateSession { session, terms } if !self.sessions.contains_key(session) => self.put_session(*session, terms),
            Operation::PutSession { session, terms, guard } if met(*guard, self.sessions.contains_key(session)) => {
                self.put_session(*session, terms);
            }
            Operation::PatchSession { session, guard, .. } if self.sessions.contains_key(session) && met(*guard, true) => {
                self.written(Key::Session(*session));
            }
            Operation::Extend { session, seconds, guard } if met(*guard, true) => {
                if let Some(ends) = self.sessions.get_mut(session) {
                    *ends += seconds;
                    self.written(Key::Session(*session));
                }
            }
            Operation::DeleteSession { session, guard } if self.sessions.contains_key(session) && met(*guard, true) => {
                self.written(Key::Session(*session));
                self.session_ends(*session);
            }
            _ => {}
        }
    }

    fn put_variable(&mut self, scope: usize, name: usize, ends: Option<i64>) {
        self.written(Key::Variable(scope, name));
        self.variables.insert((scope, name), ends);
    }

    fn batch(&mut self, scope: usize, roles: [Role; NAMES.len()]) {
        for (name, role) in roles.into_iter().enumerate() {
            match role {
                Role::Untouched => {}
                Role::Set => {
                    let ends = self.variables.get(&(scope, name)).copied().flatten();
                    self.put_variable(scope, name, ends);
                }
                Role::Delete => {
                    self.variables.remove(&(scope, name));
                }
            }
        }
    }

    fn variable_step(&mut self, operation: &Operation) {
        let there = |scope: usize, name: usize| self.variables.get(&(scope, name)).copied();
        match *operation {
            Operation::PutVariable { scope, name, ttl, guard, .. }
                if self.scope_lives(scope) && met(guard, there(scope, name).is_some()) =>
            {
                self.put_variable(scope, name, ttl.map(|ttl| self.now + ttl));
            }
            Operation::PatchVariable { scope, name, guard, .. } => {
                if let Some(ends) = there(scope, name).filter(|_| met(guard, true)) {
                    self.put_variable(scope, name, ends);
                }
            }
            Operation::Increment { scope, name, guard, .. } => {
                let before = there(scope, name);
                if self.scope_lives(scope) && met(guard, before.is_some()) {
                    self.put_variable(scope, name, before.flatten());
                }
            }
            Operation::DeleteVariable { scope, name, guard } if there(scope, name).is_some() && met(guard, true) => {
                self.written(Key::Variable(scope, name));
                self.variables.remove(&(scope, name));
            }
            Operation::Batch { scope, roles, expects, .. } => {
                let right = expects.is_none_or(|(name, expectation)| match expectation {
                    Expectation::Live => true,
                    Expectation::Absent => there(scope, name).is_none(),
                    Expectation::Unknown => false,
                });
                if right && self.scope_lives(scope) {
                    self.batch(scope, roles);
                }
            }
            Operation::DeleteScope { scope } => self.variables.retain(|(of, _), _| *of != scope),
            _ => {}
        }
    }
}

impl ReferenceStateMachine for Shape {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Step> {
        generate::steps(state)
    }

    /// An earlier version takes two that were written.
    fn preconditions(state: &Self, step: &Step) -> bool {
        match step.operation.guarded() {
            Some((key, Guard::Earlier)) => state.writes.get(&key).is_some_and(|count| *count >= 2),
            _ => true,
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        match step.operation {
            Operation::Advance { seconds } => state.pass(seconds),
            Operation::Sweep { days_pass: true } => state.pass(2 * DAY),
            _ => {
                state.execution_step(&step.operation);
                state.session_step(&step.operation);
                state.variable_step(&step.operation);
            }
        }
        state
    }
}
