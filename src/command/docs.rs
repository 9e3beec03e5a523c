//! `docs`: pages of the documentation that are made from the code. Needs no settings.

use std::process::ExitCode;

use super::{Result, print};
use crate::config;
use crate::error::{Code, Retry};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[arg(value_enum)]
    page: Page,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Page {
    /// docs/configuration.md
    Configuration,
    /// docs/errors.md
    Errors,
}

const ERRORS: &str = "\
# Errors

Every error of nworkflow-state. This page is made by `make docs` from the table in [src/error.rs](../src/error.rs); a running server shows the same at
`/errors`, and `/errors/CODE` is the `type` of each problem.

An error is a problem in `application/problem+json` (RFC 9457). Its members: `type`, `title`, `status`, `detail` (this occurrence in words),
`instance` (the path), `code` (stable: decide by it), `request_id` (for the operator), and where they make sense `errors` (each fault of a document with its
`pointer`), `current_version` and `limit`.

May the same request be sent again?

| answer | what it means |
|---|---|
";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let page = match arguments.page {
        Page::Configuration => config::reference()?,
        Page::Errors => errors(),
    };
    print(&page)?;
    Ok(ExitCode::SUCCESS)
}

fn errors() -> String {
    let mut page = ERRORS.to_owned();
    for retry in Retry::ALL {
        page.push_str(&format!("| {} | {} |\n", retry.name(), retry.sentence()));
    }
    page.push_str("\n| status | code | title | what it means | what to do | again? |\n|---|---|---|---|---|---|\n");
    for code in Code::ALL {
        page.push_str(&format!(
            "| {} | `{}` | {} | {} | {} | {} |\n",
            code.status(),
            code.name(),
            code.title(),
            code.meaning(),
            code.action(),
            code.retry().name()
        ));
    }
    page
}
