//! The process: `nworkflow-state help` lists what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    nworkflow_state::command::run(std::env::args_os())
}
