//! Patches: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902) on documents that are kept as bytes.
//!
//! A patch opens only the containers on the way to what it changes; every member that it does not touch keeps its bytes and its order.
//! Patch and document have been validated before. The result has not: it may nest deeper than allowed.

mod elements;
mod equal;
mod index;
mod members;
mod merge;
mod operations;
mod pointer;
mod tree;
mod work;

use super::document::{self, Fault, FaultKind, Kind, MAX_DEPTH};

pub use operations::MAX_OPERATIONS;

use tree::Node;
use work::Work;

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7396: members replace members, `null` removes. It cannot set a member to `null`.
    Merge,
    /// RFC 6902: a list of operations, all or none.
    Operations,
}

/// Why a patch was not applied. `index` is the operation's place in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchFault {
    /// The patch itself is not one.
    #[error("the patch is malformed")]
    Malformed(Vec<Fault>),
    /// A `test` found another value.
    #[error("operation {index}: the value is another one")]
    TestFailed {
        /// Which operation.
        index: usize,
    },
    /// An operation points nowhere.
    #[error("operation {index}: {reason}")]
    NotApplicable {
        /// Which operation.
        index: usize,
        /// Why, in words.
        reason: &'static str,
    },
    /// It leads, or heaps up values, deeper than documents nest.
    #[error("operation {index}: it leads deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// Which operation.
        index: usize,
    },
    /// It takes more work than a patch of this size may.
    #[error("it takes more than {limit} steps (members and elements that are looked at or moved, bytes that are read)")]
    TooCostly {
        /// Steps allowed.
        limit: u64,
    },
    /// It takes more memory than a patch of this size may.
    #[error("it takes more than {limit} bytes of memory beside the patch, the document and the result")]
    TooHeavy {
        /// Bytes allowed.
        limit: usize,
    },
    /// The time was over before it was done.
    #[error("its time is over")]
    Late,
    /// The result would be larger than allowed.
    #[error("the result is larger than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
}

/// What a patch may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchLimits {
    /// Most bytes of the result.
    pub bytes: usize,
    /// Most steps for each byte of document and patch. A step is a member or an element that is looked at, or eight bytes that are read.
    pub steps_per_byte: u32,
    /// Bytes of memory that any patch may take beside document, patch and result; large ones may take twice the size of document and patch.
    pub memory_bytes: usize,
}

/// Applies a validated patch to a validated document, within the limits. `is_late` is asked at the beginning and every some thousand steps.
///
/// # Errors
/// See [`PatchFault`]; the document is then what it was.
pub fn apply(kind: PatchKind, target: &str, patch: &str, limits: PatchLimits, is_late: &dyn Fn() -> bool) -> Result<String, PatchFault> {
    let mut work = Work::new(target.len().saturating_add(patch.len()), limits, is_late);
    apply_within(kind, target, patch, limits.bytes, &mut work)
}

fn apply_within(kind: PatchKind, target: &str, patch: &str, limit: usize, work: &mut Work<'_>) -> Result<String, PatchFault> {
    if kind == PatchKind::Merge {
        return merge::apply(target, patch, limit, work);
    }
    let mut root = Node::Raw(target);
    operations::apply(&mut root, patch, limit, work)?;
    // Before it is written.
    let bytes = root.extent(work).map_err(|spent| work.limits().fault(spent))?.bytes;
    if bytes > limit { Err(PatchFault::TooLarge { limit }) } else { Ok(root.into_text(bytes)) }
}

/// Whether a validated patch names a member of the top object, other than to test or copy it.
#[must_use]
pub fn touches(kind: PatchKind, patch: &str, member: &str) -> bool {
    match kind {
        PatchKind::Merge => document::kind(patch) != Kind::Object || document::members(patch).any(|(name, _)| name == member),
        PatchKind::Operations => operations::touches(patch, member),
    }
}

fn malformed(pointer: String, kind: FaultKind) -> PatchFault {
    PatchFault::Malformed(vec![Fault { pointer, kind }])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: usize = 16 << 20;

    fn within(bytes: usize) -> PatchLimits {
        PatchLimits { bytes, steps_per_byte: 2, memory_bytes: MEMORY }
    }

    fn apply(kind: PatchKind, target: &str, patch: &str, limits: PatchLimits) -> Result<String, PatchFault> {
        super::apply(kind, target, patch, limits, &|| false)
    }

    fn merge(target: &str, patch: &str) -> String {
        apply(PatchKind::Merge, target, patch, within(10_000)).unwrap()
    }

    fn operate(target: &str, patch: &str) -> Result<String, PatchFault> {
        apply(PatchKind::Operations, target, patch, within(10_000))
    }

    /// The steps of a patch that has as many as it wants, and what came of it.
    fn steps(kind: PatchKind, target: &str, patch: &str) -> (u64, Result<String, PatchFault>) {
        let mut work = Work::new(usize::MAX, PatchLimits { steps_per_byte: u32::MAX, ..within(0) }, &|| false);
        let result = apply_within(kind, target, patch, 64 << 20, &mut work);
        (work.limits().steps - work.left(), result)
    }

    /// An object of so many small members, and the patch of 1000 operations that `operation` makes.
    fn wide(members: usize) -> String {
        format!("{{{}}}", (0..members).map(|number| format!("\"m{number}\":0")).collect::<Vec<_>>().join(","))
    }

    fn thousand(operation: impl Fn(usize) -> String) -> String {
        format!("[{}]", (0..1000).map(operation).collect::<Vec<_>>().join(","))
    }

    /// Each operation alone would go through all members or elements: a thousand of them do it a few times only.
    #[test]
    fn the_work_of_many_operations_grows_with_the_sizes_and_not_with_their_product() {
        type Make = fn(usize) -> String;
        let last = 99_999;
        let cases: [(&str, Make); 6] = [
            ("replace", |n| format!(r#"{{"op":"replace","path":"/m{}","value":1}}"#, 99_999 - n)),
            ("remove", |n| format!(r#"{{"op":"remove","path":"/m{n}"}}"#)),
            ("add", |n| format!(r#"{{"op":"add","path":"/new{n}","value":1}}"#)),
            ("test", |n| format!(r#"{{"op":"test","path":"/m{n}","value":0}}"#)),
            ("move", |n| format!(r#"{{"op":"move","from":"/m{n}","path":"/moved{n}"}}"#)),
            ("copy", |n| format!(r#"{{"op":"copy","from":"/m{n}","path":"/copy{n}"}}"#)),
        ];
        let target = wide(last + 1);
        for (name, make) in cases {
            let patch = thousand(make);
            let (steps, result) = steps(PatchKind::Operations, &target, &patch);
            assert!(result.is_ok(), "{name}");
            let bytes = (target.len() + patch.len()) as u64;
            assert!(steps < bytes, "{name} took {steps} steps for {bytes} bytes");
            // As much as is allowed by default, and so let through.
            assert_eq!(apply(PatchKind::Operations, &target, &patch, within(64 << 20)), result, "{name}");
        }
        let array = format!("[{}]", vec!["0"; 500_000].join(","));
        let elements: [(&str, Make); 4] = [
            ("inserts", |_| r#"{"op":"add","path":"/0","value":0}"#.to_owned()),
            ("removes", |n| format!(r#"{{"op":"remove","path":"/{}"}}"#, n * 7)),
            ("replaces", |n| format!(r#"{{"op":"replace","path":"/{}","value":1}}"#, 499_999 - n * 3)),
            ("moves", |n| format!(r#"{{"op":"move","from":"/{}","path":"/0"}}"#, 400_000 + n)),
        ];
        for (name, make) in elements {
            let patch = thousand(make);
            let (steps, result) = steps(PatchKind::Operations, &array, &patch);
            let bytes = (array.len() + patch.len()) as u64;
            assert!(result.is_ok() && steps < bytes, "{name} took {steps} steps for {bytes} bytes");
        }
        let patch = wide(last + 2);
        let (steps, result) = steps(PatchKind::Merge, &target, &patch);
        assert!(result.is_ok() && steps < (target.len() + patch.len()) as u64, "merge took {steps} steps");
    }

    #[test]
    fn a_patch_that_would_cost_the_product_is_refused_after_the_steps_of_its_size() {
        let target = format!(r#"{{"a":{}}}"#, wide(5_000));
        // Copies of all members that are removed again, and comparisons of the whole.
        let copies = thousand(|n| match n % 3 {
            0 => r#"{"op":"copy","from":"/a","path":"/b"}"#.to_owned(),
            1 => r#"{"op":"add","path":"/b/x","value":0}"#.to_owned(),
            _ => r#"{"op":"remove","path":"/b"}"#.to_owned(),
        });
        let tests = thousand(|_| format!(r#"{{"op":"test","path":"/a","value":{}}}"#, wide(1)));
        let (steps, result) = steps(PatchKind::Operations, &target, &copies);
        let bytes = (target.len() + copies.len()) as u64;
        assert!(result.is_ok() && steps > 2 * bytes + 65_536, "it took {steps} steps for {bytes} bytes");
        let limit = 2 * bytes + 65_536;
        assert_eq!(apply(PatchKind::Operations, &target, &copies, within(64 << 20)), Err(PatchFault::TooCostly { limit }));
        // What is removed gives its memory back.
        assert_eq!(apply(PatchKind::Operations, &target, &copies, PatchLimits { steps_per_byte: 1000, ..within(64 << 20) }), result);
        assert!(matches!(apply(PatchKind::Operations, &target, &tests, within(64 << 20)), Err(PatchFault::TestFailed { index: 0 })));
    }

    #[test]
    fn the_examples_of_rfc_7396_hold() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merge(target, patch), result, "{target} + {patch}");
        }
    }

    /// All of these on all of these, and below a member of both, against the merge of trees.
    #[test]
    fn merges_are_those_of_trees() {
        use crate::domain::patch_reference;
        let tree = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let values = [
            "null",
            "1",
            r#"[ null , {"a":null} ]"#,
            "{ }",
            r#"{"a":null}"#,
            r#"{ "a" : { "b" : null , "c" : [ 1 ] } , "d" : "}\"," }"#,
            r#"{"\u0061":{"b":1,"x":{"y":null,"z":{"":null}}},"e":null}"#,
            r#"{"a":{"b":{"c":{"d":null,"e":0}}},"d":null}"#,
            r#"{"d":{"a":null},"":{"":{"":{"":0}}},"\n\"":-1.50}"#,
            r#"{"e":[],"b":true,"a":"null"}"#,
        ];
        for (target, patch) in values.iter().flat_map(|target| values.iter().map(move |patch| (target, patch))) {
            for (target, patch) in [
                ((*target).to_owned(), (*patch).to_owned()),
                (format!(r#"{{"k":0, "m":{target}}}"#), format!(r#"{{"n":{patch},"m":{patch} }}"#)),
            ] {
                let mut expected = tree(&target);
                patch_reference::merge(&mut expected, &tree(&patch));
                let result = merge(&target, &patch);
                assert_eq!(tree(&result), expected, "{target} + {patch}");
                let limit = result.len();
                assert_eq!(apply(PatchKind::Merge, &target, &patch, within(limit)).as_deref(), Ok(&*result));
                assert_eq!(apply(PatchKind::Merge, &target, &patch, within(limit - 1)), Err(PatchFault::TooLarge { limit: limit - 1 }));
            }
        }
    }

    #[test]
    fn new_members_follow_in_the_order_of_the_patch() {
        assert_eq!(
            merge(r#"{"b":1,"a":2}"#, r#"{"z":{ "y" : [ 1 ], "x":null },"a":3,"c":null,"\u0079":1}"#),
            r#"{"b":1,"a":3,"z":{"y":[ 1 ]},"\u0079":1}"#
        );
    }

    /// A level that both have is read once for each level above it: that is what is bounded.
    #[test]
    fn levels_on_levels_that_both_have_cost_their_product_and_are_refused() {
        let deep = format!("{}{}{}", r#"{"a":"#.repeat(60), wide(100_000), "}".repeat(60));
        let limit = 4 * deep.len() as u64 + 65_536;
        assert_eq!(apply(PatchKind::Merge, &deep, &deep, within(64 << 20)), Err(PatchFault::TooCostly { limit }));
        // One that only the patch has is read once.
        assert_eq!(apply(PatchKind::Merge, "{}", &deep, within(64 << 20)).as_deref(), Ok(&*deep));
    }

    #[test]
    fn what_is_not_touched_keeps_its_bytes() {
        let target = r#"{ "z" : [ 1.0 , {"b":1E2,"a":-0} ], "\u0061" : "\u00e9", "n":{"x" : 1,"y": 0.10} }"#;
        assert_eq!(merge(target, r#"{"n":{"x":2}}"#), r#"{"z":[ 1.0 , {"b":1E2,"a":-0} ],"\u0061":"\u00e9","n":{"x":2,"y":0.10}}"#);
        assert_eq!(
            operate(target, r#"[{"op":"replace","path":"/z/1/a","value":1}]"#).unwrap(),
            r#"{"z":[1.0,{"b":1E2,"a":1}],"\u0061":"\u00e9","n":{"x" : 1,"y": 0.10}}"#
        );
        assert_eq!(merge(target, r#"{"a":null}"#), r#"{"z":[ 1.0 , {"b":1E2,"a":-0} ],"n":{"x" : 1,"y": 0.10}}"#);
        assert_eq!(merge(target, "{}"), r#"{"z":[ 1.0 , {"b":1E2,"a":-0} ],"\u0061":"\u00e9","n":{"x" : 1,"y": 0.10}}"#);
    }

    #[test]
    fn operations_do_what_rfc_6902_says() {
        for (target, patch, result) in [
            (r#"{"foo":"bar"}"#, r#"[{"op":"add","path":"/baz","value":"qux"}]"#, r#"{"foo":"bar","baz":"qux"}"#),
            (r#"{"foo":["bar","baz"]}"#, r#"[{"op":"add","path":"/foo/1","value":"qux"}]"#, r#"{"foo":["bar","qux","baz"]}"#),
            (r#"{"foo":["bar","qux","baz"]}"#, r#"[{"op":"remove","path":"/foo/1"}]"#, r#"{"foo":["bar","baz"]}"#),
            (r#"{"baz":"qux","foo":"bar"}"#, r#"[{"op":"replace","path":"/baz","value":"boo"}]"#, r#"{"baz":"boo","foo":"bar"}"#),
            (
                r#"{"foo":{"bar":"baz"},"qux":{"c":1}}"#,
                r#"[{"op":"move","from":"/foo/bar","path":"/qux/thud"}]"#,
                r#"{"foo":{},"qux":{"c":1,"thud":"baz"}}"#,
            ),
            (
                r#"{"foo":["all","grass","cows","eat"]}"#,
                r#"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
                r#"{"foo":["all","cows","eat","grass"]}"#,
            ),
            (r#"{"foo":"bar"}"#, r#"[{"op":"add","path":"/child","value":{"g":{}}}]"#, r#"{"foo":"bar","child":{"g":{}}}"#),
            (r#"{"foo":["bar"]}"#, r#"[{"op":"add","path":"/foo/-","value":["abc"]}]"#, r#"{"foo":["bar",["abc"]]}"#),
            (r#"{"/":9,"~1":10}"#, r#"[{"op":"test","path":"/~01","value":10},{"op":"remove","path":"/~1"}]"#, r#"{"~1":10}"#),
            (r#"{"a":1}"#, r#"[{"op":"copy","from":"/a","path":"/b"}]"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"","value":[ 1 ]}]"#, "[ 1 ]"),
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/a","value":2}]"#, r#"{"a":2}"#),
            (r#"{"a":{"b":1}}"#, r#"[{"op":"move","from":"/a","path":"/a"}]"#, r#"{"a":{"b":1}}"#),
            (r#"{"a":1,"b":2}"#, r#"[{"op":"move","from":"/a","path":"/a"}]"#, r#"{"a":1,"b":2}"#),
            ("[1,2,3]", r#"[{"op":"move","from":"/1","path":"/1"}]"#, "[1,2,3]"),
            (r#"{"a":1}"#, r#"[{"op":"move","from":"","path":""}]"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":1.0},{"op":"test","path":"","value":{"a":1}}]"#, r#"{"a":1}"#),
        ] {
            assert_eq!(operate(target, patch).as_deref(), Ok(result), "{target} + {patch}");
        }
    }

    #[test]
    fn what_cannot_be_applied_changes_nothing_and_says_which() {
        let target = r#"{"a":[1],"b":{"c":1}}"#;
        for (operation, index) in [
            (r#"{"op":"remove","path":"/none"}"#, 1),
            (r#"{"op":"replace","path":"/a/1","value":0}"#, 1),
            (r#"{"op":"add","path":"/a/2","value":0}"#, 1),
            (r#"{"op":"add","path":"/a/01","value":0}"#, 1),
            (r#"{"op":"add","path":"/a/x","value":0}"#, 1),
            (r#"{"op":"remove","path":"/a/-"}"#, 1),
            (r#"{"op":"add","path":"/none/x","value":0}"#, 1),
            (r#"{"op":"add","path":"/b/c/x","value":0}"#, 1),
            (r#"{"op":"move","from":"/b","path":"/b/x"}"#, 1),
            (r#"{"op":"copy","from":"/none","path":"/b/x"}"#, 1),
            (r#"{"op":"move","from":"/none","path":"/none"}"#, 1),
            (r#"{"op":"move","from":"/a/1","path":"/a/1"}"#, 1),
            (r#"{"op":"test","path":"/none","value":null}"#, 1),
            (r#"{"op":"add","path":"b","value":0}"#, 1),
            (r#"{"op":"add","path":"/~2","value":0}"#, 1),
            (r#"{"op":"remove","path":""}"#, 1),
        ] {
            let patch = format!(r#"[{{"op":"test","path":"/a/0","value":1}},{operation}]"#);
            match operate(target, &patch) {
                Err(PatchFault::NotApplicable { index: found, .. }) => assert_eq!(found, index),
                other => panic!("{operation}: {other:?}"),
            }
        }
        for value in ["2", "\"1\"", "null", "[1]", "true"] {
            let patch = format!(r#"[{{"op":"test","path":"/a/0","value":{value}}}]"#);
            assert_eq!(operate(target, &patch), Err(PatchFault::TestFailed { index: 0 }));
        }
    }

    #[test]
    fn malformed_patches_name_the_member() {
        for (patch, pointer) in [
            ("{}", "#"),
            ("[1]", "#/0"),
            (r#"[{"path":"/a"}]"#, "#/0/op"),
            (r#"[{"op":"launch","path":"/a"}]"#, "#/0/op"),
            (r#"[{"op":"add","path":"/a"}]"#, "#/0/value"),
            (r#"[{"op":"add","value":1}]"#, "#/0/path"),
            (r#"[{"op":"move","path":"/a"}]"#, "#/0/from"),
            (r#"[{"op":"remove","path":1}]"#, "#/0/path"),
            (r#"[{"op":"remove","path":"/a","extra":1}]"#, "#/0/extra"),
            (r#"[{"op":"remove","path":"/a","from":1}]"#, "#/0/from"),
        ] {
            match operate("{}", patch) {
                Err(PatchFault::Malformed(faults)) => assert_eq!(faults[0].pointer, pointer, "{patch}"),
                other => panic!("{patch}: {other:?}"),
            }
        }
        let many = format!("[{}]", vec![r#"{"op":"test","path":"","value":{}}"#; MAX_OPERATIONS + 1].join(","));
        assert!(matches!(operate("{}", &many), Err(PatchFault::Malformed(_))));
    }

    #[test]
    fn many_members_are_merged_as_few_are() {
        let object = |numbers: &[usize], value: fn(usize) -> String| {
            let members: Vec<String> = numbers.iter().map(|number| format!("\"m{number}\":{}", value(*number))).collect();
            format!("{{{}}}", members.join(","))
        };
        let all: Vec<usize> = (0..100_000).collect();
        let target = object(&all, |number| number.to_string());
        // Every third is taken away, every third changed; the thousand behind the end are new.
        let named: Vec<usize> = (0..101_000).filter(|number| number % 3 != 0).collect();
        let patch = object(&named, |number| if number % 3 == 1 { "null".into() } else { format!("[{number}]") });
        let left: Vec<usize> = (0..101_000).filter(|number| number % 3 == 2 || (number % 3 == 0 && *number < 100_000)).collect();
        let expected = object(&left, |number| if number % 3 == 2 { format!("[{number}]") } else { number.to_string() });
        assert_eq!(apply(PatchKind::Merge, &target, &patch, within(10_000_000)).as_deref(), Ok(&*expected));
    }

    #[test]
    fn members_of_other_operations_are_ignored() {
        for (operation, result) in [
            (r#"{"op":"remove","path":"/a","value":null}"#, "{}"),
            (r#"{"op":"replace","path":"/a","value":2,"from":""}"#, r#"{"a":2}"#),
            (r#"{"op":"copy","path":"/b","from":"/a","value":3}"#, r#"{"a":1,"b":1}"#),
        ] {
            assert_eq!(operate(r#"{"a":1}"#, &format!("[{operation}]")).as_deref(), Ok(result), "{operation}");
        }
    }

    #[test]
    fn copies_do_not_explode() {
        let doubling = format!(r#"[{}]"#, vec![r#"{"op":"copy","from":"/a","path":"/a/-"}"#; 60].join(","));
        assert_eq!(operate(r#"{"a":["xxxxxxxx"]}"#, &doubling), Err(PatchFault::TooLarge { limit: 10_000 }));
        assert_eq!(apply(PatchKind::Merge, "{}", r#"{"a":"0123456789"}"#, within(10)), Err(PatchFault::TooLarge { limit: 10 }));
    }

    /// Recursion goes through what is opened: without a bound a patch ends the process by the end of its stack.
    #[test]
    fn copies_and_moves_do_not_heap_up_levels() {
        let deep = |levels: usize| format!("/a{}", "/0".repeat(levels));
        let opened = format!(r#"{{"op":"add","path":"{}","value":0}}"#, deep(32));
        let nest = |operation: &str| {
            let target = format!(r#"{{"a":{}{}}}"#, "[".repeat(32), "]".repeat(32));
            let path = deep(32);
            operate(
                &target,
                &format!(
                    r#"[{opened},{{"op":"{operation}","path":"{path}"{}}}]"#,
                    if operation == "copy" { r#","from":"/a""# } else { "" }
                ),
            )
        };
        assert_eq!(nest("copy"), Err(PatchFault::TooDeep { index: 1 }));
        // A hundred times below itself: each level of the one before is opened by then.
        let mut operations = vec![r#"{"op":"add","path":"/b","value":[[[[[[[[[[0]]]]]]]]]]}"#.to_owned()];
        for _ in 0..100 {
            operations.push(format!(r#"{{"op":"add","path":"/c","value":{}0{}}}"#, "[".repeat(10), "]".repeat(10)));
            operations.push(format!(r#"{{"op":"move","from":"/b","path":"/c{}"}}"#, "/0".repeat(10)));
            operations.push(r#"{"op":"move","from":"/c","path":"/b"}"#.to_owned());
        }
        let patch = format!("[{}]", operations.join(","));
        assert!(matches!(operate("{}", &patch), Err(PatchFault::TooDeep { .. })));
        let long = format!(r#"[{{"op":"test","path":"{}","value":0}}]"#, "/0".repeat(MAX_DEPTH + 1));
        assert_eq!(operate("{}", &long), Err(PatchFault::TooDeep { index: 0 }));
        let far = format!(r#"[{{"op":"test","path":"{}","value":0}}]"#, "/0".repeat(MAX_DEPTH));
        assert!(matches!(operate("{}", &far), Err(PatchFault::NotApplicable { index: 0, .. })));
    }

    /// A level that is opened takes much more memory than its two brackets, and a copy of it as much again.
    #[test]
    fn copies_of_what_was_opened_are_bounded_by_their_memory() {
        let target = format!(r#"{{"a":{}{}}}"#, "[".repeat(40), "]".repeat(40));
        let open = format!(r#"{{"op":"add","path":"/a{}","value":0}}"#, "/0".repeat(39) + "/-");
        let doubled = |times: usize| format!("[{open}{}]", r#",{"op":"copy","from":"/a","path":"/a/-"}"#.repeat(times));
        let generous = PatchLimits { steps_per_byte: 1_000_000, ..within(64 << 20) };
        assert!(apply(PatchKind::Operations, &target, &doubled(8), generous).is_ok());
        let refused = apply(PatchKind::Operations, &target, &doubled(14), generous);
        assert_eq!(refused, Err(PatchFault::TooHeavy { limit: 16 << 20 }));
    }

    #[test]
    fn a_patch_ends_when_its_time_is_over() {
        use std::cell::Cell;
        let target = wide(20_000);
        for (kind, patch) in [
            (PatchKind::Merge, wide(20_000)),
            (PatchKind::Operations, thousand(|n| format!(r#"{{"op":"move","from":"/m{n}","path":"/moved{n}"}}"#))),
            (PatchKind::Operations, format!(r#"[{{"op":"test","path":"","value":{target}}}]"#)),
        ] {
            let asked = Cell::new(0);
            let late_after = |count: usize| {
                asked.set(0);
                super::apply(kind, &target, &patch, within(64 << 20), &|| {
                    asked.set(asked.get() + 1);
                    asked.get() > count
                })
            };
            assert_eq!(late_after(0), Err(PatchFault::Late), "it does not begin");
            assert_eq!((late_after(1), asked.get()), (Err(PatchFault::Late), 2), "it ends when it is told");
            assert!(late_after(usize::MAX).is_ok() && asked.get() > 2, "{}", asked.get());
        }
    }

    #[test]
    fn what_a_fault_says_is_short_whatever_came() {
        let long = "x".repeat(100_000);
        for operation in [
            format!(r#"{{"op":"{long}","path":""}}"#),
            format!(r#"{{"op":"remove","path":"","{long}":0}}"#),
            format!(r#"{{"op":"remove","path":"/{long}"}}"#),
            format!(r#"{{"op":"remove","path":"{long}"}}"#),
            format!(r#"{{"op":"remove","path":"/{long}~"}}"#),
            format!(r#"{{"op":"move","path":"","from":"/{long}"}}"#),
            format!(r#"{{"op":"test","path":"","value":"{long}"}}"#),
            format!(r#"{{"op":"add","path":"{}","value":0}}"#, "/a".repeat(100_000)),
        ] {
            let fault = operate("{}", &format!("[{operation}]")).unwrap_err();
            assert!(fault.to_string().len() < 200, "{fault}");
            let PatchFault::Malformed(faults) = fault else { continue };
            assert!(
                faults.len() <= document::MAX_FAULTS
                    && faults.iter().all(|fault| fault.pointer.len() < 600 && fault.kind.to_string().len() < 200)
            );
        }
    }

    #[test]
    fn elements_keep_their_order_however_they_are_reached() {
        // Elements of all lengths, those of one run and those of many, with white space between them.
        let all: Vec<String> = (0..400).map(|number| format!("\"{}\"", "e".repeat(number * 7 % 300))).collect();
        let target = format!("[ {} ]", all.join(" , "));
        let mut expected = all.clone();
        let mut operations = Vec::new();
        for step in 0..300 {
            let at = step * 131 % expected.len();
            match step % 4 {
                0 => {
                    operations.push(format!(r#"{{"op":"add","path":"/{at}","value":{step}}}"#));
                    expected.insert(at, step.to_string());
                }
                1 => {
                    operations.push(format!(r#"{{"op":"remove","path":"/{at}"}}"#));
                    expected.remove(at);
                }
                2 => {
                    operations.push(format!(r#"{{"op":"replace","path":"/{at}","value":-{step}}}"#));
                    expected[at] = format!("-{step}");
                }
                _ => {
                    operations.push(format!(r#"{{"op":"move","from":"/{at}","path":"/-"}}"#));
                    let moved = expected.remove(at);
                    expected.push(moved);
                }
            }
            operations.push(format!(r#"{{"op":"test","path":"/{}","value":{}}}"#, expected.len() - 1, expected[expected.len() - 1]));
        }
        let expected = format!("[{}]", expected.join(","));
        let result = apply(PatchKind::Operations, &target, &format!("[{}]", operations.join(",")), within(1 << 20));
        assert!(result.as_deref() == Ok(&*expected), "{:.200}", format!("{result:?}"));
    }

    #[test]
    fn members_are_added_removed_and_added_again() {
        for (patch, result) in [
            (r#"[{"op":"remove","path":"/a"},{"op":"add","path":"/a","value":2}]"#, r#"{"b":0,"a":2}"#),
            (
                r#"[{"op":"add","path":"/c","value":1},{"op":"remove","path":"/c"},{"op":"add","path":"/c","value":2}]"#,
                r#"{"a":1,"b":0,"c":2}"#,
            ),
            (
                r#"[{"op":"add","path":"/c","value":1},{"op":"add","path":"/c","value":[2]},{"op":"add","path":"/c/0","value":1}]"#,
                r#"{"a":1,"b":0,"c":[1,2]}"#,
            ),
            (r#"[{"op":"add","path":"/\u0061","value":{}},{"op":"add","path":"/a/\"~1\n","value":0}]"#, r#"{"a":{"\"/\n":0},"b":0}"#),
            (r#"[{"op":"move","from":"/a","path":"/c"},{"op":"copy","from":"/c","path":"/a"}]"#, r#"{"b":0,"c":1,"a":1}"#),
            (r#"[{"op":"remove","path":"/a"},{"op":"remove","path":"/b"}]"#, "{}"),
        ] {
            let target = r#"{ "a" : 1 , "b" : 0 }"#;
            assert_eq!(operate(target, patch).as_deref(), Ok(result), "{patch}");
            assert_eq!(apply(PatchKind::Operations, target, patch, within(result.len())).as_deref(), Ok(result), "{patch}");
        }
        assert!(operate(r#"{"a":1}"#, r#"[{"op":"remove","path":"/a"},{"op":"remove","path":"/a"}]"#).is_err());
    }

    #[test]
    fn equality_is_of_values() {
        for (left, right, same) in [
            ("1", "1.0", true),
            ("1e2", "100", true),
            ("0.1", "0.10", true),
            ("-0", "0", true),
            ("9007199254740993", "9007199254740992", false),
            ("18446744073709551615", "18446744073709551615", true),
            ("\"\\u0061\"", "\"a\"", true),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            ("[1,2]", "[2,1]", false),
            ("[1]", "[1,1]", false),
            ("null", "false", false),
        ] {
            let mut work = Work::new(0, PatchLimits { steps_per_byte: 0, ..within(0) }, &|| false);
            assert_eq!(equal::equal(left, right, &mut work), Ok(same), "{left} {right}");
        }
    }

    #[test]
    fn touched_members_are_told() {
        assert!(touches(PatchKind::Merge, r#"{"ttl_seconds":null}"#, "ttl_seconds"));
        assert!(!touches(PatchKind::Merge, r#"{"data":{"ttl_seconds":1}}"#, "ttl_seconds"));
        for (patch, expected) in [
            (r#"[{"op":"replace","path":"/ttl_seconds","value":1}]"#, true),
            (r#"[{"op":"test","path":"/ttl_seconds","value":1}]"#, false),
            (r#"[{"op":"copy","from":"/ttl_seconds","path":"/data"}]"#, false),
            (r#"[{"op":"move","from":"/ttl_seconds","path":"/data"}]"#, true),
            (r#"[{"op":"add","path":"","value":{}}]"#, true),
            (r#"[{"op":"add","path":"/data/ttl_seconds","value":1}]"#, false),
        ] {
            assert_eq!(touches(PatchKind::Operations, patch, "ttl_seconds"), expected, "{patch}");
        }
    }
}
