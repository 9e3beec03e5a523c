//! Tells cargo what is compiled in besides Rust.

fn main() {
    // sqlx::migrate! reads the folder while it expands, which cargo cannot see.
    println!("cargo:rerun-if-changed=migrations");
}
