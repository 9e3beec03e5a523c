//! `timestamptz` on the wire: microseconds since 2000-01-01T00:00:00Z. A time crate would add a second type for the same number.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Postgres, Type};

use crate::domain::clock::Timestamp;

/// 1970-01-01 to 2000-01-01.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("TIMESTAMPTZ")
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a time arrived as text".into());
        }
        let since_2000 = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        // The ends of the range are PostgreSQL's infinities, which nothing here writes.
        let finite = (since_2000 != i64::MIN && since_2000 != i64::MAX).then_some(since_2000);
        let microseconds = finite.and_then(|since| since.checked_add(EPOCH_MICROSECONDS)).ok_or("a time is out of range")?;
        Ok(Self::from_microseconds(microseconds))
    }
}
