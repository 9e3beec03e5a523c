//! Pages of lists: keyset cursors that fit one tenant, one route and one filter only.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Items on a page when the client names no limit.
pub const DEFAULT_LIMIT: usize = 50;
/// Most items on a page; a greater limit is clamped.
pub const MAX_LIMIT: usize = 1000;
/// A page ends early once its items hold this many bytes.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of the binding in a cursor: a truncated SHA-256.
const BINDING_BYTES: usize = 16;
/// Longest cursor text that is looked at.
const MAX_CURSOR_BYTES: usize = 2048;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Whether more items follow.
    pub more: bool,
}

/// What a cursor is bound to: tenant, route and filter, in a fixed order. Every server of a deployment computes the same binding; it
/// needs no key, because a forged cursor reads nothing that its forger could not list anyway.
#[derive(Debug, Clone, Copy)]
pub struct CursorBinding<'a>(pub &'a [&'a str]);

impl CursorBinding<'_> {
    fn hash(self, position: &str) -> [u8; BINDING_BYTES] {
        let mut text = Vec::new();
        for part in self.0.iter().chain([&position]) {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        let mut binding = [0; BINDING_BYTES];
        binding.copy_from_slice(&digest(&SHA256, &text).as_ref()[..BINDING_BYTES]);
        binding
    }

    /// The cursor behind which the next page begins.
    #[must_use]
    pub fn encode(self, position: &str) -> String {
        let mut bytes = self.hash(position).to_vec();
        bytes.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position in a cursor; `None` when the cursor was not made for this binding.
    #[must_use]
    pub fn decode(self, cursor: &str) -> Option<String> {
        if cursor.len() > MAX_CURSOR_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (binding, position) = bytes.split_at_checked(BINDING_BYTES)?;
        let position = std::str::from_utf8(position).ok()?;
        (self.hash(position) == binding).then(|| position.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_fits_its_own_list_only() {
        let own = CursorBinding(&["acme", "variables", "global", "prefix"]);
        let cursor = own.encode("name/é");
        assert_eq!(own.decode(&cursor).as_deref(), Some("name/é"));
        assert_eq!(CursorBinding(&["evil", "variables", "global", "prefix"]).decode(&cursor), None);
        assert_eq!(CursorBinding(&["acme", "variables", "globalprefix", ""]).decode(&cursor), None);
        for bad in ["", "!", "AAAA", &"A".repeat(3000), &format!("{cursor}A")] {
            assert_eq!(own.decode(bad), None, "{bad}");
        }
    }
}
