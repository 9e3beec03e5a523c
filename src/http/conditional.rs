//! Entity tags and the headers that compare them (RFC 9110 section 13). A tag is a version in quotes; comparison is of the number, so a
//! tag that a proxy made weak by compressing the answer still fits.

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::version::{Precondition, Tags, Version};
use crate::error::{Code, Error, Result};

/// Most tags in one header.
const MAX_TAGS: usize = 100;

/// The entity tag of a version.
pub(super) fn etag(version: Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// The preconditions of a request.
///
/// # Errors
/// `invalid_etag` when a header is anything but a list of version tags or `*`.
pub(super) fn precondition(headers: &HeaderMap) -> Result<Precondition> {
    Ok(Precondition { if_match: tags(headers, &IF_MATCH)?, if_none_match: tags(headers, &IF_NONE_MATCH)? })
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>> {
    let invalid =
        || Error::new(Code::InvalidEtag, format!("{name} must be \"VERSION\", W/\"VERSION\", a list of at most {MAX_TAGS} of them, or *."));
    let mut versions = Vec::new();
    let mut any = false;
    for value in headers.get_all(name) {
        for tag in value.to_str().map_err(|_| invalid())?.split(',') {
            match tag.trim() {
                "*" => any = true,
                tag => versions.push(version(tag).ok_or_else(invalid)?),
            }
            if versions.len() > MAX_TAGS {
                return Err(invalid());
            }
        }
    }
    match (any, versions.is_empty()) {
        (true, true) => Ok(Some(Tags::Any)),
        (true, false) => Err(invalid()),
        (false, true) => Ok(None),
        (false, false) => Ok(Some(Tags::Versions(versions))),
    }
}

fn version(tag: &str) -> Option<Version> {
    let digits = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.starts_with('0') {
        return None;
    }
    digits.parse().ok().and_then(Version::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> std::result::Result<Option<Tags>, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, HeaderValue::from_str(value).unwrap());
        }
        tags(&headers, &IF_MATCH).map_err(|error| error.code)
    }

    fn versions(numbers: &[i64]) -> std::result::Result<Option<Tags>, Code> {
        Ok(Some(Tags::Versions(numbers.iter().map(|number| Version::new(*number).unwrap()).collect())))
    }

    #[test]
    fn strong_weak_lists_and_star_are_read() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["\"5\""]), versions(&[5]));
        assert_eq!(read(&["W/\"5\""]), versions(&[5]));
        assert_eq!(read(&["\"5\" , W/\"6\"", "\"9007199254740991\""]), versions(&[5, 6, Version::MAX]));
        assert_eq!(read(&[" * "]), Ok(Some(Tags::Any)));
    }

    #[test]
    fn anything_else_is_an_invalid_tag() {
        for bad in [
            "",
            "5",
            "\"\"",
            "\"05\"",
            "\"0\"",
            "\"-1\"",
            "\"+1\"",
            "\"a\"",
            "\"9007199254740992\"",
            "\"99999999999999999999\"",
            "w/\"5\"",
            "\"5\",",
            "*,\"5\"",
            "\"5",
            "W/5",
        ] {
            assert_eq!(read(&[bad]), Err(Code::InvalidEtag), "{bad}");
        }
        assert_eq!(read(&["*", "\"1\""]), Err(Code::InvalidEtag));
    }
}
