//! Comparison of schemas. A request may be given more freedom, an answer less.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{list, members, words};

/// Who writes what the schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    /// The client.
    Request,
    /// The server.
    Response,
}

/// The schemas of both documents by their names, and which pairs have been compared.
pub(super) struct Schemas<'a> {
    released: &'a Value,
    current: &'a Value,
    compared: BTreeSet<(&'a str, &'a str, Direction)>,
}

/// Keywords that say nothing to a program.
const REMARKS: &[&str] = &["description", "example", "examples", "title", "deprecated", "externalDocs"];
/// Keywords that have a rule below.
const COMPARED: &[&str] =
    &["$ref", "type", "nullable", "enum", "const", "required", "properties", "additionalProperties", "items", "propertyNames", "pattern"];
/// Limits from above and from below.
const UPPER: &[&str] = &["maximum", "maxLength", "maxItems", "maxProperties"];
const LOWER: &[&str] = &["minimum", "minLength", "minItems", "minProperties"];

impl<'a> Schemas<'a> {
    pub(super) fn new(released: &'a Value, current: &'a Value) -> Self {
        let schemas = |document: &'a Value| &document["components"]["schemas"];
        Self { released: schemas(released), current: schemas(current), compared: BTreeSet::new() }
    }

    /// Adds what `current` breaks of `released`. A schema with a name is compared once in each direction.
    pub(super) fn compare(&mut self, place: &str, direction: Direction, released: &'a Value, current: &'a Value, faults: &mut Vec<String>) {
        let (before, now) = (name(released), name(current));
        if before != now {
            faults.push(format!("{place}: its schema was {}, now {}", before.unwrap_or("unnamed"), now.unwrap_or("unnamed")));
        }
        let named = match (before, now) {
            (Some(before), Some(now)) if !self.compared.insert((before, now, direction)) => return,
            (Some(before), Some(_)) => format!("{before}, in {}", if direction == Direction::Request { "requests" } else { "answers" }),
            _ => place.to_owned(),
        };
        let released = before.map_or(released, |name| &self.released[name]);
        let current = now.map_or(current, |name| &self.current[name]);
        let mut fault = |what: String| faults.push(format!("{named}: {what}"));
        types(direction, released, current, &mut fault);
        values(direction, released, current, &mut fault);
        limits(direction, released, current, &mut fault);
        unknown(released, current, &mut fault);
        objects(direction, released, current, &mut fault);
        for (member, before) in members(&released["properties"]) {
            if let Some(now) = current["properties"].get(member) {
                self.compare(&format!("{named}, member {member}"), direction, before, now, faults);
            }
        }
        for (part, what) in [("items", "items"), ("additionalProperties", "members"), ("propertyNames", "names")] {
            if released[part].is_object() && current[part].is_object() {
                self.compare(&format!("{named}, {what}"), direction, &released[part], &current[part], faults);
            }
        }
    }
}

fn name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// The types that a value may have; none: any.
fn type_set(schema: &Value) -> BTreeSet<&str> {
    let mut set = words(&schema["type"]);
    set.extend(schema["type"].as_str());
    if schema["nullable"] == true {
        set.insert("null");
    }
    set
}

fn types(direction: Direction, released: &Value, current: &Value, fault: &mut impl FnMut(String)) {
    let (before, now) = (type_set(released), type_set(current));
    let (narrow, wide) = if direction == Direction::Request { (&before, &now) } else { (&now, &before) };
    let fits = wide.is_empty() || (!narrow.is_empty() && narrow.is_subset(wide));
    if !fits {
        fault(format!("its type was {before:?}, now {now:?}"));
    }
}

/// Enumerations are types of their own in generated clients, which know no other value than those of their day.
fn values(direction: Direction, released: &Value, current: &Value, fault: &mut impl FnMut(String)) {
    let set = |schema: &Value| -> Option<BTreeSet<String>> {
        let constant = schema.get("const").map(|constant| BTreeSet::from([constant.to_string()]));
        constant.or_else(|| schema.get("enum").map(|values| list(values).iter().map(Value::to_string).collect()))
    };
    match (set(released), set(current)) {
        (None, None) => {}
        (Some(before), Some(now)) if direction == Direction::Request => {
            before.difference(&now).for_each(|value| fault(format!("the value {value} is gone")));
        }
        (Some(before), Some(now)) => now.difference(&before).for_each(|value| fault(format!("the value {value} is new"))),
        (Some(_), None) => fault("it is no enumeration any more".to_owned()),
        (None, Some(_)) => fault("it has become an enumeration".to_owned()),
    }
}

fn limits(direction: Direction, released: &Value, current: &Value, fault: &mut impl FnMut(String)) {
    for (keywords, sign) in [(UPPER, 1.0), (LOWER, -1.0)] {
        for keyword in keywords {
            // A limit that is not there is infinitely far away.
            let far = |schema: &Value| schema[keyword].as_f64().map_or(f64::INFINITY, |limit| sign * limit);
            let (before, now) = (far(released), far(current));
            if (direction == Direction::Request && now < before) || (direction == Direction::Response && now > before) {
                fault(format!("its {keyword} was {}, now {}", released[keyword], current[keyword]));
            }
        }
    }
    let (before, now) = (&released["pattern"], &current["pattern"]);
    let free = if direction == Direction::Request { now } else { before };
    if before != now && !free.is_null() {
        fault(format!("its pattern was {before}, now {now}"));
    }
}

/// Whatever else differs: nobody has said yet that it breaks nothing.
fn unknown(released: &Value, current: &Value, fault: &mut impl FnMut(String)) {
    let keywords: BTreeSet<&String> = members(released).chain(members(current)).map(|(keyword, _)| keyword).collect();
    for keyword in keywords {
        let has_rule = [REMARKS, COMPARED, UPPER, LOWER].iter().any(|known| known.contains(&keyword.as_str()));
        if !has_rule && released[keyword] != current[keyword] {
            fault(format!("its {keyword} was {}, now {}", released[keyword], current[keyword]));
        }
    }
}

fn objects(direction: Direction, released: &Value, current: &Value, fault: &mut impl FnMut(String)) {
    let (before, now) = (words(&released["required"]), words(&current["required"]));
    match direction {
        Direction::Request => now.difference(&before).for_each(|member| fault(format!("the member {member} has become required"))),
        Direction::Response => before.difference(&now).for_each(|member| fault(format!("the member {member} may be missing"))),
    }
    for (member, _) in members(&released["properties"]) {
        if current["properties"].get(member).is_none() {
            fault(format!("the member {member} is gone"));
        }
    }
    // Without the keyword any other member is allowed, as with an empty schema.
    let other = |schema: &Value| match &schema["additionalProperties"] {
        Value::Bool(false) => Others::None,
        Value::Object(described) if !described.is_empty() => Others::Described,
        _ => Others::Any,
    };
    let (before, now) = (other(released), other(current));
    let (narrow, wide) = if direction == Direction::Request { (before, now) } else { (now, before) };
    if narrow > wide {
        fault(format!("of other members it allowed {before:?}, now {now:?}"));
    }
    for (member, _) in members(&current["properties"]) {
        if before == Others::None && direction == Direction::Response && released["properties"].get(member).is_none() {
            fault(format!("the member {member} is new, and no others were allowed"));
        }
    }
    // A list or map whose elements were anything and are described now, or the other way round.
    let (before, now) = (released.get("items"), current.get("items"));
    if before.is_some() != now.is_some() && type_set(released) == type_set(current) {
        fault("its items are described in one of the documents only".to_owned());
    }
}

/// Which members an object may have beside those that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Others {
    None,
    Described,
    Any,
}
