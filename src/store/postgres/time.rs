//! `timestamptz` on the wire: microseconds since 2000-01-01T00:00:00Z. A time crate would add a second type for the same number.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

use crate::domain::clock::Timestamp;

/// 1970-01-01 to 2000-01-01.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// Not behind any time that is stored: 1970-01-01T00:00:00Z.
pub(super) const FIRST_MOMENT: Timestamp = Timestamp::from_microseconds(0);
/// Behind every time that is stored: 9999-12-31T00:00:00Z.
pub(super) const LAST_MOMENT: Timestamp = Timestamp::from_microseconds(253_402_214_400_000_000);

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

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let since_2000 = self.as_microseconds().checked_sub(EPOCH_MICROSECONDS).ok_or("a time is out of range")?;
        buffer.extend_from_slice(&since_2000.to_be_bytes());
        Ok(IsNull::No)
    }
}
