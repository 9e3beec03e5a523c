//! The scripts of the protocol. Each touches one key, which it declares, and runs unchanged on Lua 5.1 (Redis, Valkey) and 5.4 (Dragonfly).
//! Each is safe whenever it runs: also late, after its caller has given up.

use std::sync::LazyLock;

use redis::{Cmd, Script};

/// A script by its text and its hash.
pub(super) struct Named {
    pub(super) text: &'static str,
    hash: String,
}

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub(super) static $name: LazyLock<Named> = LazyLock::new(|| Named::new(include_str!($file)));
    };
}

script!(/** Before COMMIT: nothing older stays, and readers ask the store. */ MARK, "scripts/mark.lua");
script!(/** After COMMIT. */ PUT, "scripts/put.lua");
script!(/** What a reader has loaded under its lease. */ FILL, "scripts/fill.lua");
script!(/** After a rollback. */ UNMARK, "scripts/unmark.lua");
script!(/** What no reader can use. */ DISCARD, "scripts/discard.lua");

/// All scripts.
pub(super) fn all() -> [&'static Named; 5] {
    [&MARK, &PUT, &FILL, &UNMARK, &DISCARD]
}

impl Named {
    fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }

    /// The call by the script's hash.
    pub(super) fn call(&self, key: &str, arguments: &[&[u8]]) -> Cmd {
        Self::command("EVALSHA", self.hash.as_bytes(), key, arguments)
    }

    /// The call with the script's text, for a server that does not know it.
    pub(super) fn call_in_full(&self, key: &str, arguments: &[&[u8]]) -> Cmd {
        Self::command("EVAL", self.text.as_bytes(), key, arguments)
    }

    fn command(name: &str, script: &[u8], key: &str, arguments: &[&[u8]]) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(key).arg(arguments);
        command
    }
}
