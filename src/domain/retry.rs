//! Whether a request that was refused may be sent again.

/// What becomes of the same request when it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It is refused again, whoever sends it: something about it must change first.
    Changed,
    /// It is built on what is no longer so: the resource must be read first.
    AfterReading,
    /// It may succeed. Nothing was written, or the answer is that of the first request.
    Safe,
    /// It may succeed, and the first one may have been done: safe for reads, and for writes with an `Idempotency-Key`.
    WithKey,
}

impl Retry {
    /// All of them, in the order in which the documentation explains them.
    pub const ALL: [Self; 4] = [Self::Changed, Self::AfterReading, Self::Safe, Self::WithKey];

    /// In a word or two.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changed => "no",
            Self::AfterReading => "after reading again",
            Self::Safe => "yes",
            Self::WithKey => "with a key",
        }
    }

    /// In a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Changed => "The same request is refused again: change what is named first.",
            Self::AfterReading => "The same request is refused again: read the resource, and build a new request on what it is now.",
            Self::Safe => "The same request may be sent again as it is: this one wrote nothing.",
            Self::WithKey => {
                "A read may be sent again as it is. A write may have happened: send it again with the same Idempotency-Key, or read the resource first."
            }
        }
    }
}
