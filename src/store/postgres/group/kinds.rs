//! Which requests are answered in groups: the writes of one state, variable or session, and the reads of one, or of a checkpoint.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::checkpoint_read::{CheckpointGet, GetCheckpoints};
use super::super::failure::Failure;
use super::super::session_read::{GetSessions, SessionGet};
use super::super::session_write::{DeleteSessions, ExtendSessions, PutSessions, SessionDelete, SessionExtension, SessionPut};
use super::super::state_read::{GetStates, StateGet};
use super::super::state_write::{DeleteStates, PutStates, StateDelete, StatePut};
use super::super::variable_read::{GetVariables, VariableGet};
use super::super::variable_write::{DeleteVariables, PutVariables, VariableDelete, VariablePut};
use super::super::work::{Runner, Work};
use super::{GroupLimits, Grouped, Lanes, Shared};
use crate::domain::checkpoint::{CheckpointKey, CheckpointRecord};
use crate::domain::id::{SessionId, TenantId};
use crate::domain::session::SessionRecord;
use crate::domain::state::{StateKey, StateRecord};
use crate::domain::variable::{VariableKey, VariableRecord};
use crate::lifecycle::Lifecycle;
use crate::store::{Lookup, Outcome, Refusable as _, Result, Tombstone};

/// Groups of a kind of read that one tenant has at work at once in a lane: a read holds no lock and waits for no disk.
const READS_TOGETHER: usize = 2;

/// The queues of all kinds of requests.
#[derive(Debug)]
pub(in super::super) struct Groups {
    state_puts: Lanes<StatePut>,
    state_deletes: Lanes<StateDelete>,
    variable_puts: Lanes<VariablePut>,
    variable_deletes: Lanes<VariableDelete>,
    session_puts: Lanes<SessionPut>,
    session_extensions: Lanes<SessionExtension>,
    session_deletes: Lanes<SessionDelete>,
    state_gets: Lanes<StateGet>,
    variable_gets: Lanes<VariableGet>,
    session_gets: Lanes<SessionGet>,
    checkpoint_gets: Lanes<CheckpointGet>,
}

impl Groups {
    /// Starts the lanes of all kinds as tasks of `lifecycle`. They end when they are closed, or with the store.
    pub(in super::super) fn start(runner: &Arc<Runner>, limits: GroupLimits, lifecycle: &Lifecycle) -> Self {
        let shared = &Arc::new(Shared { runner: Arc::clone(runner), limits, places: Semaphore::new(limits.places) });
        Self {
            state_puts: Lanes::start(shared, lifecycle),
            state_deletes: Lanes::start(shared, lifecycle),
            variable_puts: Lanes::start(shared, lifecycle),
            variable_deletes: Lanes::start(shared, lifecycle),
            session_puts: Lanes::start(shared, lifecycle),
            session_extensions: Lanes::start(shared, lifecycle),
            session_deletes: Lanes::start(shared, lifecycle),
            state_gets: Lanes::start(shared, lifecycle),
            variable_gets: Lanes::start(shared, lifecycle),
            session_gets: Lanes::start(shared, lifecycle),
            checkpoint_gets: Lanes::start(shared, lifecycle),
        }
    }

    /// Answers a request together with others of its kind.
    ///
    /// # Errors
    /// The queue is full, the wait in it was too long, the store is closed, or the database did not answer.
    pub(in super::super) async fn submit<R: Kind>(&self, row: R) -> Result<R::Answer> {
        // See `PostgresStore::write` for why a refusal is looked at again.
        let again = row.idempotency().is_some().then(|| row.clone());
        let answer = R::lanes(self).submit(row).await?;
        match again {
            Some(row) if R::is_refusal(&answer) => R::lanes(self).submit(row).await,
            _ => Ok(answer),
        }
    }

    /// Writes that wait for their group, and how many may.
    pub(in super::super) fn depth_and_capacity(&self) -> (u64, u64) {
        let lines = [
            self.state_puts.depth_and_capacity(),
            self.state_deletes.depth_and_capacity(),
            self.variable_puts.depth_and_capacity(),
            self.variable_deletes.depth_and_capacity(),
            self.session_puts.depth_and_capacity(),
            self.session_extensions.depth_and_capacity(),
            self.session_deletes.depth_and_capacity(),
        ];
        lines.into_iter().fold((0, 0), |(depth, capacity), line| (depth + line.0, capacity + line.1))
    }

    /// Takes no further requests, and waits for the end of those that it has.
    pub(in super::super) async fn close(&self) {
        let ended: [Vec<CancellationToken>; 11] = [
            self.state_puts.close(),
            self.state_deletes.close(),
            self.variable_puts.close(),
            self.variable_deletes.close(),
            self.session_puts.close(),
            self.session_extensions.close(),
            self.session_deletes.close(),
            self.state_gets.close(),
            self.variable_gets.close(),
            self.session_gets.close(),
            self.checkpoint_gets.close(),
        ];
        for lane in ended.iter().flatten() {
            lane.cancelled().await;
        }
    }
}

/// A request that has lanes.
pub(in super::super) trait Kind: Grouped + Clone {
    /// Whether nothing was written because of what is there.
    fn is_refusal(answer: &Self::Answer) -> bool;

    /// Its lanes.
    fn lanes(groups: &Groups) -> &Lanes<Self>;
}

/// Writes of one row each: the row, its lanes, the statement's work, what it answers, its key, and the bytes of its document.
macro_rules! writes {
    ($($row:ident, $lanes:ident, $work:ident, $record:ty, $key:ty = $field:ident, |$self:ident| $bytes:expr;)+) => {$(
        impl Grouped for $row {
            type Answer = Outcome<$record>;
            type Key = $key;
            const TABLE: &'static str = <$work<'_> as Work>::TABLE;
            const WRITES: bool = true;
            const TOGETHER: usize = 1;

            fn tenant(&self) -> &TenantId {
                &self.context.tenant
            }

            fn key(&self) -> &$key {
                &self.$field
            }

            fn idempotency(&self) -> Option<Uuid> {
                self.context.idempotency.map(|idempotency| idempotency.key)
            }

            fn bytes(&self) -> usize {
                let $self = self;
                $bytes
            }

            async fn run(runner: &Runner, tenant: &TenantId, rows: &[Self]) -> std::result::Result<Vec<Self::Answer>, Failure> {
                runner.write(tenant, &$work { tenant, rows }).await
            }
        }

        impl Kind for $row {
            fn is_refusal(answer: &Self::Answer) -> bool {
                answer.is_refusal()
            }

            fn lanes(groups: &Groups) -> &Lanes<Self> {
                &groups.$lanes
            }
        }
    )+};
}

/// Reads of one row each.
macro_rules! reads {
    ($($row:ident, $lanes:ident, $work:ident, $record:ty, $key:ty = $field:ident;)+) => {$(
        impl Grouped for $row {
            type Answer = Lookup<$record>;
            type Key = $key;
            const TABLE: &'static str = <$work<'_> as Work>::TABLE;
            const WRITES: bool = false;
            const TOGETHER: usize = READS_TOGETHER;

            fn tenant(&self) -> &TenantId {
                &self.tenant
            }

            fn key(&self) -> &$key {
                &self.$field
            }

            async fn run(runner: &Runner, tenant: &TenantId, rows: &[Self]) -> std::result::Result<Vec<Self::Answer>, Failure> {
                runner.read(tenant, &$work { tenant, rows }).await
            }
        }

        impl Kind for $row {
            fn is_refusal(_: &Self::Answer) -> bool {
                false
            }

            fn lanes(groups: &Groups) -> &Lanes<Self> {
                &groups.$lanes
            }
        }
    )+};
}

writes! {
    StatePut, state_puts, PutStates, StateRecord, StateKey = key, |row| row.document.text().len();
    StateDelete, state_deletes, DeleteStates, Tombstone, StateKey = key, |_row| 0;
    VariablePut, variable_puts, PutVariables, VariableRecord, VariableKey = key, |row| row.document.value.len();
    VariableDelete, variable_deletes, DeleteVariables, Tombstone, VariableKey = key, |_row| 0;
    SessionPut, session_puts, PutSessions, SessionRecord, SessionId = id, |row| row.document.data.len();
    SessionExtension, session_extensions, ExtendSessions, SessionRecord, SessionId = id, |_row| 0;
    SessionDelete, session_deletes, DeleteSessions, Tombstone, SessionId = id, |_row| 0;
}

reads! {
    StateGet, state_gets, GetStates, StateRecord, StateKey = key;
    VariableGet, variable_gets, GetVariables, VariableRecord, VariableKey = key;
    SessionGet, session_gets, GetSessions, SessionRecord, SessionId = id;
    CheckpointGet, checkpoint_gets, GetCheckpoints, CheckpointRecord, CheckpointKey = key;
}
