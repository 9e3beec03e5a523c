//! Transactions on pooled connections, whatever becomes of the futures that run them.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres};
use tokio::time::Instant;

use super::failure::Failure;
use super::pool::Pool;
use crate::domain::id::TenantId;
use crate::store::StoreError;

/// Where transactions run, and within which limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits<'a> {
    pub(super) pool: &'a Pool,
    /// Longest wait for the end of BEGIN, of the work, and of COMMIT each. The server's own time limits end a statement; this one ends
    /// the wait for a server that is no longer there.
    pub(super) answer: Duration,
    /// The time that the server itself gives a statement.
    pub(super) statement: Duration,
    /// When nobody waits any more: statements end by then, and nothing is begun after it.
    pub(super) deadline: Option<Instant>,
}

impl Limits<'_> {
    /// What is left of the time.
    ///
    /// # Errors
    /// Nothing is.
    fn left(&self) -> Result<Option<Duration>, Failure> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) { Err(StoreError::Late.into()) } else { Ok(left) }
    }

    /// A connection, when there is one in time.
    async fn acquire(&self) -> Result<PoolConnection<Postgres>, Failure> {
        match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, self.pool.acquire()).await.unwrap_or(Err(StoreError::Late.into())),
            None => self.pool.acquire().await,
        }
    }
}

/// How much longer than the server gives a statement its answer is waited for.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// What a crash of the database may take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Nothing that was answered.
    Full,
    /// The last moments: for what is only a hint.
    Relaxed,
}

/// A connection that is closed instead of going back to the pool while its state is not known.
///
/// The driver rolls an open transaction back before anybody else gets the connection. But a BEGIN that is cancelled on its way is no
/// transaction yet for the driver, and would go back to the pool as an open one of its tenant; so would one with a lost answer.
struct Lease {
    connection: PoolConnection<Postgres>,
    is_clear: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_clear {
            // Else each connection would keep as much memory as the largest document takes that ever went over it.
            self.connection.shrink_buffers();
        } else {
            self.connection.close_on_drop();
        }
    }
}

/// Runs work in a transaction that sees the rows of this tenant only (without a tenant: none) and changes nothing.
///
/// The rollback is sent when the connection goes back to the pool: nobody waits for the end of a read.
pub(super) async fn read<T>(
    limits: Limits<'_>,
    tenant: Option<&TenantId>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (output, _) = run(limits, begin_statement("BEGIN READ ONLY", tenant), |_| false, async |_| pending().await, work).await?;
    Ok(output)
}

/// Runs work while a transaction that changes nothing and sees no rows is open, and waits for its end: for a lock that ends with it.
pub(super) async fn hold<T>(limits: Limits<'_>, work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Failure>) -> Result<T, Failure> {
    let (output, ended) = run(limits, begin_statement("BEGIN READ ONLY", None), |_| true, async |_| pending().await, work).await?;
    ended.map(|()| output)
}

/// Runs work in a transaction and commits it, or rolls it back when `is_kept` says so of the output; `beside` runs while COMMIT does. The
/// second result is that of COMMIT: an error of which [`Failure::lost_connection`] is true is an unknown outcome; after any other failure
/// nothing was written.
pub(super) async fn write<T>(
    limits: Limits<'_>,
    tenant: &TenantId,
    durability: Durability,
    is_kept: impl FnOnce(&T) -> bool,
    beside: impl AsyncFnOnce(&T) -> Infallible,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Failure>,
) -> Result<(T, Result<(), Failure>), Failure> {
    let mut begin = begin_statement("BEGIN", Some(tenant));
    if durability == Durability::Relaxed {
        begin.push_str("; SET LOCAL synchronous_commit = off");
    }
    run(limits, begin, is_kept, beside, work).await
}

async fn run<T>(
    limits: Limits<'_>,
    begin: String,
    is_kept: impl FnOnce(&T) -> bool,
    beside: impl AsyncFnOnce(&T) -> Infallible,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Failure>,
) -> Result<(T, Result<(), Failure>), Failure> {
    // After a restart of the server every connection of the pool is dead.
    let mut left = limits.pool.size();
    loop {
        limits.left()?;
        let mut lease = Lease { connection: limits.acquire().await?, is_clear: false };
        let time_left = limits.left().inspect_err(|_| lease.is_clear = true)?;
        // The server ends what nobody waits for. With about as much time left as it gives a statement anyway, it need not be told.
        let lowered = time_left.filter(|left| *left < limits.statement - limits.statement / 10);
        let begin = match lowered {
            Some(left) => format!("{begin}; SET LOCAL statement_timeout = {}", left.as_millis().max(1)),
            None => begin.clone(),
        };
        let answer = time_left.map_or(limits.answer, |left| limits.answer.min(left + GRACE));
        // BEGIN is the test whether the connection still lives.
        let begun =
            within(answer, async { lease.connection.begin_with(AssertSqlSafe(begin.as_str())).await.map_err(Failure::Unconnected) }).await;
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(failure) if failure.lost_connection() && !matches!(failure, Failure::Silent) && left > 0 => {
                left -= 1;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        lease.is_clear = true;
        let _at_work = limits.pool.count();
        let output = match within(answer, work(&mut transaction)).await {
            Ok(output) => output,
            Err(failure) if lowered.is_some() && failure.is_cancelled() => return Err(StoreError::Late.into()),
            Err(failure) => {
                lease.is_clear = !failure.lost_connection();
                return Err(failure);
            }
        };
        if !is_kept(&output) {
            return Ok((output, Ok(())));
        }
        lease.is_clear = false;
        let committed = {
            let committing = within(limits.answer, async {
                if lowered.is_some() {
                    // A COMMIT that waits for a standby and is ended looks like one that has not waited.
                    let restore = format!("SET LOCAL statement_timeout = {}", limits.statement.as_millis());
                    transaction.execute(sqlx::raw_sql(AssertSqlSafe(restore))).await?;
                }
                Ok(transaction.commit().await?)
            });
            tokio::select! {
                biased;
                committed = committing => committed,
                never = beside(&output) => match never {},
            }
        };
        lease.is_clear = committed.is_ok();
        return Ok((output, committed));
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::Silent))
}

/// BEGIN and the tenant in one text, so in one round trip.
fn begin_statement(begin: &str, tenant: Option<&TenantId>) -> String {
    match tenant {
        Some(tenant) => format!("{begin}; SET LOCAL app.tenant = {}", quote_literal(tenant.as_str())),
        None => begin.to_owned(),
    }
}

/// A text as a string literal. SET takes no parameters.
pub(super) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an identifier.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote_literal("a'; DROP TABLE x; --"), "'a''; DROP TABLE x; --'");
        assert_eq!(quote_identifier(r#"a"b"#), r#""a""b""#);
    }

    #[test]
    fn a_transaction_names_its_tenant() {
        let tenant = TenantId::parse("acme-1.x~y_z").unwrap();
        assert_eq!(begin_statement("BEGIN", Some(&tenant)), "BEGIN; SET LOCAL app.tenant = 'acme-1.x~y_z'");
        assert_eq!(begin_statement("BEGIN READ ONLY", None), "BEGIN READ ONLY");
    }
}
