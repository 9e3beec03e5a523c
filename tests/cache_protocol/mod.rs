//! The protocol of the two cache tiers: a model of it, searched whole, and its scripts on the servers that run them.

mod model;
mod scripts;

#[expect(clippy::print_stdout, reason = "figures of a run are for whoever reads it")]
fn figure(line: &str) {
    println!("{line}");
}
