//! What a look at something found, for the operator: what it is, whether that is well, and what to do about it.

/// Whether something is as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it must be.
    Fine,
    /// It works; there is something to know about it.
    Note,
    /// It keeps the server from working, or from working safely.
    Wrong,
}

/// What was found about one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was looked at.
    pub subject: String,
    /// Whether it is well.
    pub verdict: Verdict,
    /// What is so, and why that matters.
    pub detail: String,
    /// What to do about it; none where the detail says it already, or where there is nothing to do.
    pub advice: Option<String>,
}

impl Diagnosis {
    /// It is as it must be.
    #[must_use]
    pub fn fine(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Fine, detail: detail.into(), advice: None }
    }

    /// There is something to know.
    #[must_use]
    pub fn note(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Note, ..Self::fine(subject, detail) }
    }

    /// It is wrong.
    #[must_use]
    pub fn wrong(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, ..Self::fine(subject, detail) }
    }

    /// With what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}
