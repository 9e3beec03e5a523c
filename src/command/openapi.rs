//! `openapi`: the API document, as the running server gives it. Needs no database.

use std::process::ExitCode;

use super::{Result, print};
use crate::app::{OpenApiVersion, openapi_document};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The version of the OpenAPI specification
    #[arg(long, value_enum, default_value_t = Version::V3_1)]
    version: Version,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Version {
    #[value(name = "3.1")]
    V3_1,
    #[value(name = "3.0")]
    V3_0,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let document = openapi_document(match arguments.version {
        Version::V3_1 => OpenApiVersion::V3_1,
        Version::V3_0 => OpenApiVersion::V3_0,
    });
    print(&format!("{}\n", document?.trim_end()))?;
    Ok(ExitCode::SUCCESS)
}
