//! Each kind of change on a small document: what breaks clients is found, what does not is let through.

use serde_json::{Value, json};

use super::{added_parameters, breaking_changes};

/// Two operations, a schema that is sent, one that is answered, and one that is both.
fn released() -> Value {
    json!({
        "openapi": "3.1.0",
        "servers": [{"url": "/"}],
        "paths": {
            "/orders": {
                "get": {
                    "operationId": "listOrders", "tags": ["Orders"], "security": [{"bearer": []}], "x-permissions": ["orders:read"],
                    "parameters": [
                        {"name": "limit", "in": "query", "required": false, "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
                        {"name": "tenant", "in": "header", "required": true, "schema": {"type": "string"}}
                    ],
                    "responses": {
                        "200": {
                            "headers": {"ETag": {"schema": {"type": "string"}}},
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Page"}}}
                        },
                        "404": {"x-codes": ["order_not_found", "invalid_id"], "content": {"application/problem+json": {"schema": {}}}}
                    }
                },
                "post": {
                    "operationId": "createOrder", "tags": ["Orders"], "security": [],
                    "requestBody": {"required": false, "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Write"}},
                        "text/plain": {"schema": {"type": "string"}}
                    }},
                    "responses": {"201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}}
                }
            },
            "/health": {"get": {"operationId": "getHealth", "tags": ["Health"], "security": [], "responses": {"200": {}}}}
        },
        "components": {"schemas": {
            "Page": {"type": "object", "required": ["items"], "properties": {
                "items": {"type": "array", "items": {"$ref": "#/components/schemas/Order"}},
                "next": {"type": "string"}
            }},
            "Order": {"type": "object", "required": ["id", "kind"], "properties": {
                "id": {"type": "string", "pattern": "^o", "maxLength": 8},
                "kind": {"$ref": "#/components/schemas/Kind"},
                "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Order"}},
                "count": {"type": "integer", "format": "int64", "minimum": 0},
                "closed": {"type": "object", "additionalProperties": false, "properties": {}},
                "note": {"type": "string"}
            }},
            "Write": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-z]+$"},
                "kind": {"$ref": "#/components/schemas/Kind"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"type": "string", "maxLength": 9}},
                "value": {},
                "closed": {"type": "object", "additionalProperties": false, "properties": {}},
                "note": {"type": "string"},
                "empty": {"type": ["string", "null"]}
            }},
            "Kind": {"type": "string", "enum": ["small", "large"]}
        }}
    })
}

const LIST: &str = "/paths/~1orders/get";
const CREATE: &str = "/paths/~1orders/post";
const BODY: &str = "/paths/~1orders/post/requestBody";
const WRITE: &str = "/components/schemas/Write/properties";
const ORDER: &str = "/components/schemas/Order/properties";

/// A change of the document: what stands at `pointer` becomes `value`, or is taken away.
fn changed(pointer: &str, value: Option<Value>) -> Value {
    let mut document = released();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let last = last.replace("~1", "/");
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}"));
    match (parent, value) {
        (Value::Object(members), Some(value)) => {
            members.insert(last, value);
        }
        (Value::Object(members), None) => {
            members.remove(&last).unwrap_or_else(|| panic!("nothing at {pointer}"));
        }
        (Value::Array(items), Some(value)) => items.insert(last.parse().unwrap(), value),
        (Value::Array(items), None) => {
            items.remove(last.parse().unwrap());
        }
        _ => panic!("nothing can be changed at {pointer}"),
    }
    document
}

fn is_found(cases: &[(String, Option<Value>, &str)]) {
    for (pointer, value, sentence) in cases {
        let faults = breaking_changes(&released(), &changed(pointer, value.clone()));
        assert!(faults.iter().any(|fault| fault.contains(sentence)), "{pointer} = {value:?} finds {faults:?}, not: {sentence}");
    }
}

fn passes(cases: &[(String, Option<Value>)]) {
    for (pointer, value) in cases {
        let faults = breaking_changes(&released(), &changed(pointer, value.clone()));
        assert!(faults.is_empty(), "{pointer} = {value:?} breaks nobody, but finds {faults:?}");
    }
}

fn at(place: &str, rest: &str) -> String {
    format!("{place}{rest}")
}

#[test]
fn the_same_document_breaks_nothing() {
    assert_eq!(breaking_changes(&released(), &released()), Vec::<String>::new());
}

#[test]
fn a_changed_operation_is_found() {
    is_found(&[
        (at("/paths/~1health", ""), None, "GET /health: the path is gone"),
        (at(CREATE, ""), None, "POST /orders: the method is gone"),
        (at(LIST, "/operationId"), Some(json!("getOrders")), "GET /orders: its operationId was \"listOrders\", now \"getOrders\""),
        (at(LIST, "/tags"), Some(json!(["Lists"])), "its tag was"),
        (at(CREATE, "/security"), Some(json!([{"bearer": []}])), "POST /orders: it wants other credentials"),
        (at(LIST, "/x-permissions/0"), Some(json!("admin")), "it wants the permission admin as well"),
        (at("/servers", ""), Some(json!([{"url": "/v2"}])), "its servers are others"),
    ]);
}

#[test]
fn a_changed_parameter_is_found() {
    let parameter = |name: &str, required: bool| json!({"name": name, "in": "query", "required": required, "schema": {"type": "string"}});
    is_found(&[
        (at(LIST, "/parameters/0"), None, "GET /orders parameter limit: it is gone"),
        (at(LIST, "/parameters/0"), Some(parameter("filter", true)), "parameter filter: it is new and required"),
        (at(LIST, "/parameters/0/required"), Some(json!(true)), "parameter limit: it has become required"),
        (at(LIST, "/parameters/0/in"), Some(json!("header")), "parameter limit: it is gone"),
        (at(LIST, "/parameters/0/explode"), Some(json!(false)), "its explode is another"),
        (at(LIST, "/parameters/0/schema/maximum"), Some(json!(50)), "its maximum was 100, now 50"),
        (at(LIST, "/parameters/0/schema/minimum"), Some(json!(2)), "its minimum was 1, now 2"),
        (at(LIST, "/parameters/1/schema/type"), Some(json!("integer")), "its type was"),
        (at(LIST, "/parameters/1/schema/maxLength"), Some(json!(5)), "its maxLength was null, now 5"),
    ]);
}

#[test]
fn a_changed_request_is_found() {
    is_found(&[
        (at(BODY, "/required"), Some(json!(true)), "POST /orders body: it has become required"),
        (at(BODY, ""), None, "the media type is gone"),
        (at(BODY, "/content/text~1plain"), None, "POST /orders body text/plain: the media type is gone"),
        (at(WRITE, "/note"), None, "Write, in requests: the member note is gone"),
        ("/components/schemas/Write/required".to_owned(), Some(json!(["name", "note"])), "the member note has become required"),
        (at(WRITE, "/name/maxLength"), Some(json!(32)), "Write, in requests, member name: its maxLength was 64, now 32"),
        (at(WRITE, "/name/minLength"), Some(json!(2)), "its minLength was 1, now 2"),
        (at(WRITE, "/name/pattern"), Some(json!("^a")), "its pattern was"),
        (at(WRITE, "/note/pattern"), Some(json!("^a")), "its pattern was null"),
        (at(WRITE, "/note/format"), Some(json!("uri")), "its format was null"),
        (at(WRITE, "/note/enum"), Some(json!(["a"])), "it has become an enumeration"),
        (at(WRITE, "/note/const"), Some(json!("a")), "it has become an enumeration"),
        (at(WRITE, "/value/type"), Some(json!("string")), "its type was {}, now {\"string\"}"),
        (at(WRITE, "/empty/type"), Some(json!("string")), "member empty: its type was"),
        (at(WRITE, "/labels/additionalProperties"), Some(json!(false)), "of other members it allowed Described, now None"),
        (at(WRITE, "/labels/additionalProperties/type"), Some(json!("integer")), "member labels, members: its type was"),
        (at(WRITE, "/labels/propertyNames/maxLength"), Some(json!(5)), "member labels, names: its maxLength"),
        (at(WRITE, "/note/additionalProperties"), Some(json!(false)), "of other members it allowed Any, now None"),
        (at(WRITE, "/kind"), Some(json!({"type": "string"})), "its schema was Kind, now unnamed"),
        (at(WRITE, "/note/oneOf"), Some(json!([])), "its oneOf was null, now []"),
        (at(WRITE, "/note/default"), Some(json!("a")), "its default was null"),
        (at(WRITE, "/value/items"), Some(json!({})), "its items are described in one"),
        ("/components/schemas/Kind/enum/0".to_owned(), None, "Kind, in requests: the value \"small\" is gone"),
    ]);
}

#[test]
fn a_changed_answer_is_found() {
    let success = at(LIST, "/responses/200");
    is_found(&[
        (success.clone(), None, "GET /orders answer 200: it is gone"),
        (at(LIST, "/responses/404"), None, "GET /orders answer 404: it is gone"),
        (at(LIST, "/responses/202"), Some(json!({})), "GET /orders answer 202: it is new and no error"),
        (at(LIST, "/responses/404/x-codes/0"), None, "GET /orders answer 404: the code order_not_found is gone"),
        (at(&success, "/content"), None, "answer 200 application/json: the media type is gone"),
        (at(&success, "/headers/ETag"), None, "GET /orders answer 200 header ETag: it is gone"),
        (at(&success, "/headers/ETag/schema/type"), Some(json!("integer")), "header ETag: its type was"),
        (at(ORDER, "/note"), None, "Order, in answers: the member note is gone"),
        ("/components/schemas/Order/required/0".to_owned(), None, "Order, in answers: the member id may be missing"),
        (at(ORDER, "/id/maxLength"), Some(json!(9)), "Order, in answers, member id: its maxLength was 8, now 9"),
        (at(ORDER, "/id/maxLength"), None, "its maxLength was 8, now null"),
        (at(ORDER, "/id/pattern"), None, "its pattern was \"^o\", now null"),
        (at(ORDER, "/count/minimum"), Some(json!(-1)), "its minimum was 0, now -1"),
        (at(ORDER, "/count/format"), Some(json!("int32")), "its format was \"int64\", now \"int32\""),
        (at(ORDER, "/count/type"), Some(json!("number")), "its type was"),
        (at(ORDER, "/note/nullable"), Some(json!(true)), "its type was {\"string\"}, now {\"null\", \"string\"}"),
        (at(ORDER, "/note/type"), None, "its type was {\"string\"}, now {}"),
        (at(ORDER, "/closed/properties/late"), Some(json!({})), "the member late is new, and no others were allowed"),
        (at(ORDER, "/parts/items"), None, "its items are described in one"),
        ("/components/schemas/Kind/enum/0".to_owned(), Some(json!("huge")), "Kind, in answers: the value \"huge\" is new"),
        ("/components/schemas/Kind/enum".to_owned(), None, "Kind, in answers: it is no enumeration any more"),
    ]);
}

#[test]
fn a_renamed_schema_is_found_and_compared_all_the_same() {
    let mut document = changed("/components/schemas/Item", Some(released()["components"]["schemas"]["Order"].clone()));
    document["components"]["schemas"]["Page"]["properties"]["items"]["items"] = json!({"$ref": "#/components/schemas/Item"});
    document["components"]["schemas"]["Item"]["properties"].as_object_mut().unwrap().remove("note");
    let faults = breaking_changes(&released(), &document);
    assert!(faults[0].ends_with("its schema was Order, now Item"), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("the member note is gone")), "{faults:?}");
}

#[test]
fn a_named_schema_is_reported_once() {
    let faults = breaking_changes(&released(), &changed(&at(ORDER, "/note"), None));
    assert_eq!(faults, ["Order, in answers: the member note is gone"]);
}

#[test]
fn more_of_an_operation_breaks_nobody() {
    let parameter = json!({"name": "filter", "in": "query", "required": false, "schema": {"type": "string"}});
    passes(&[
        (at("/paths/~1parts", ""), Some(json!({"get": {}}))),
        (at("/paths/~1health/head", ""), Some(json!({}))),
        (at(LIST, "/security"), Some(json!([]))),
        (at(LIST, "/x-permissions"), Some(json!([]))),
        (at(LIST, "/deprecated"), Some(json!(true))),
        (at(LIST, "/summary"), Some(json!("another"))),
        (at(LIST, "/parameters/0"), Some(parameter)),
        (at(LIST, "/parameters/1/required"), Some(json!(false))),
        (at(LIST, "/parameters/0/schema/maximum"), Some(json!(1000))),
        (at(LIST, "/parameters/0/schema/minimum"), None),
        (at(LIST, "/responses/409"), Some(json!({"x-codes": ["conflict"]}))),
        (at(LIST, "/responses/404/x-codes/0"), Some(json!("late_code"))),
        (at(LIST, "/responses/200/headers/Link"), Some(json!({"schema": {"type": "string"}}))),
        (at(LIST, "/responses/200/content/text~1plain"), Some(json!({"schema": {}}))),
        (at(BODY, "/content/application~1xml"), Some(json!({"schema": {}}))),
    ]);
}

#[test]
fn more_freedom_in_requests_breaks_nobody() {
    passes(&[
        (at(WRITE, "/late"), Some(json!({"type": "string"}))),
        ("/components/schemas/Write/required/0".to_owned(), None),
        (at(WRITE, "/name/maxLength"), Some(json!(65))),
        (at(WRITE, "/name/minLength"), Some(json!(0))),
        (at(WRITE, "/name/pattern"), None),
        (at(WRITE, "/name/description"), Some(json!("other words"))),
        (at(WRITE, "/note/type"), None),
        (at(WRITE, "/note/type"), Some(json!(["string", "integer"]))),
        (at(WRITE, "/note/nullable"), Some(json!(true))),
        (at(WRITE, "/closed/additionalProperties"), Some(json!({"type": "string"}))),
        (at(WRITE, "/labels/additionalProperties"), Some(json!({}))),
        (at(WRITE, "/note/additionalProperties"), Some(json!({}))),
    ]);
}

#[test]
fn more_certainty_in_answers_breaks_nobody() {
    passes(&[
        (at(ORDER, "/late"), Some(json!({"type": "string"}))),
        ("/components/schemas/Order/required/0".to_owned(), Some(json!("note"))),
        (at(ORDER, "/id/maxLength"), Some(json!(7))),
        (at(ORDER, "/note/pattern"), Some(json!("^n"))),
        (at(ORDER, "/note/maxLength"), Some(json!(9))),
        (at(ORDER, "/count/minimum"), Some(json!(1))),
        (at(ORDER, "/note/example"), Some(json!("other words"))),
        (at("/components/schemas/Page/properties/next/additionalProperties", ""), Some(json!(false))),
    ]);
}

#[test]
fn an_optional_parameter_that_is_new_is_named_and_another_order_breaks() {
    let parameter = |place: &str, required: bool| json!({"name": "late", "in": place, "required": required, "schema": {"type": "string"}});
    for place in ["header", "query"] {
        let mut document = released();
        document["paths"]["/orders"]["get"]["parameters"].as_array_mut().unwrap().push(parameter(place, false));
        assert_eq!(breaking_changes(&released(), &document), Vec::<String>::new());
        assert_eq!(added_parameters(&released(), &document), [format!("GET /orders {place} late")]);
    }
    // The first parameter of an operation that had none.
    let mut document = released();
    document["paths"]["/orders"]["post"]["parameters"] = json!([parameter("header", false)]);
    assert_eq!(added_parameters(&released(), &document), ["POST /orders header late"]);
    // What is required breaks more than arguments, and a path that is new has no callers.
    document["paths"]["/orders"]["post"]["parameters"] = json!([parameter("header", true)]);
    document["paths"]["/parts"]["get"]["parameters"] = json!([parameter("header", false)]);
    assert_eq!(added_parameters(&released(), &document), Vec::<String>::new());
    let mut document = released();
    document["paths"]["/orders"]["get"]["parameters"].as_array_mut().unwrap().reverse();
    let faults = breaking_changes(&released(), &document);
    assert_eq!(faults, ["GET /orders: its parameters come in another order, which is that of generated positional arguments"]);
}

#[test]
fn both_ways_of_saying_null_are_one() {
    let newer = changed(&at(WRITE, "/empty/type"), Some(json!(["null", "string"])));
    let mut older = changed(&at(WRITE, "/empty/type"), Some(json!("string")));
    older["components"]["schemas"]["Write"]["properties"]["empty"]["nullable"] = json!(true);
    assert_eq!(breaking_changes(&newer, &older), Vec::<String>::new());
    assert_eq!(breaking_changes(&older, &newer), Vec::<String>::new());
}
