//! Tells cargo what is compiled in besides Rust.

#[expect(clippy::print_stdout, reason = "cargo reads a build script's output")]
fn main() {
    // sqlx::migrate! reads the folder while it expands, which cargo cannot see.
    println!("cargo:rerun-if-changed=migrations");
}
