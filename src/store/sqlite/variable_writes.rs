//! Saving, incrementing and deleting one variable.

use async_trait::async_trait;

use super::record::{self, Answer, Known};
use super::variable_heads::{self, Content, End, Head};
use super::writer::{Unit, Write};
use crate::domain::variable::{Expiry, Number, ScopeLife, VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::Expected;
use crate::store::{IncrementOutcome, Outcome, Result, Tombstone, WriteContext, answer};

/// [`Store::put_variable`](crate::store::Store::put_variable).
pub(super) struct PutVariable {
    pub(super) context: WriteContext,
    pub(super) key: VariableKey,
    pub(super) life: ScopeLife,
    pub(super) expected: Expected,
    pub(super) document: VariableDocument,
}

#[async_trait]
impl Write for PutVariable {
    type Answer = Outcome<VariableRecord>;

    fn bytes(&self) -> usize {
        self.document.value.len()
    }

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<VariableRecord>> {
        let Self { context, key, life, expected, document } = self;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return answered.replay(|text| answer::to_variable(key, text)),
        }
        let head = Head::read(unit, &context.tenant, key, *life).await?;
        let current = head.as_ref().and_then(|head| head.live_version);
        if !expected.is_met_by(current) {
            return Ok(Outcome::Refused { current });
        }
        let content = Content {
            value: document.value.clone(),
            secret: false,
            description: document.description.clone(),
            end: match document.expiry {
                Expiry::Never => End::After(None),
                Expiry::In(seconds) => End::After(Some(seconds)),
                Expiry::Unchanged => End::At(head.as_ref().filter(|_| current.is_some()).and_then(|head| head.expires_at)),
            },
        };
        let (created, record) = variable_heads::write(unit, context, key, *life, head.as_ref(), content).await?;
        keep(unit, context, if created { 201 } else { 200 }, &record).await?;
        Ok(Outcome::Applied { created, record })
    }
}

async fn keep(unit: &mut Unit<'_>, context: &WriteContext, status: u16, record: &VariableRecord) -> Result<()> {
    let make = || answer::from_variable(record).map(Answer::Text);
    record::keep(unit.connection, context, status, record.version, record.updated_at, make).await
}

/// [`Store::increment_variable`](crate::store::Store::increment_variable).
pub(super) struct IncrementVariable {
    pub(super) context: WriteContext,
    pub(super) key: VariableKey,
    pub(super) life: ScopeLife,
    pub(super) expected: Expected,
    pub(super) by: Number,
}

#[async_trait]
impl Write for IncrementVariable {
    type Answer = IncrementOutcome;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<IncrementOutcome> {
        let Self { context, key, life, expected, by } = self;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(IncrementOutcome::Done(Outcome::KeyReused)),
            Known::Answered(answered) => {
                return answered.replay(|text| answer::to_variable(key, text)).map(IncrementOutcome::Done);
            }
        }
        let mut head = Head::read_with_value(unit, &context.tenant, key, *life).await?;
        let current = head.as_ref().and_then(|head| head.live_version);
        if !expected.is_met_by(current) {
            return Ok(IncrementOutcome::Done(Outcome::Refused { current }));
        }
        let live = head.as_mut().filter(|head| head.is_live());
        let sum = match by.add_to(live.as_ref().and_then(|head| head.value.as_deref())) {
            Ok(sum) => sum,
            Err(fault) => return Ok(IncrementOutcome::Fault(fault)),
        };
        let content = match live {
            Some(live) => {
                Content { value: sum.into(), secret: live.secret, description: live.description.take(), end: End::At(live.expires_at) }
            }
            None => Content { value: sum.into(), secret: false, description: None, end: End::After(None) },
        };
        let (created, record) = variable_heads::write(unit, context, key, *life, head.as_ref(), content).await?;
        keep(unit, context, 200, &record).await?;
        Ok(IncrementOutcome::Done(Outcome::Applied { created, record }))
    }
}

/// [`Store::delete_variable`](crate::store::Store::delete_variable).
pub(super) struct DeleteVariable {
    pub(super) context: WriteContext,
    pub(super) key: VariableKey,
    pub(super) life: ScopeLife,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for DeleteVariable {
    type Answer = Outcome<Tombstone>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<Tombstone>> {
        let Self { context, key, life, expected } = self;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return Ok(answered.replay_of_delete()),
        }
        let live = Head::read(unit, &context.tenant, key, *life).await?.filter(Head::is_live);
        let current = live.as_ref().and_then(|head| head.live_version);
        let head = match live {
            Some(head) if expected.is_met_by(current) => head,
            None if expected.is_met_by(None) => return Ok(Outcome::Absent),
            _ => return Ok(Outcome::Refused { current }),
        };
        let (tombstone, at) = variable_heads::delete(unit, context, key, &head).await?;
        record::keep(unit.connection, context, 204, tombstone.version, at, || Ok(Answer::Nothing)).await?;
        Ok(Outcome::Applied { created: false, record: tombstone })
    }
}
