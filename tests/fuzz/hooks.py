"""What schemathesis is told about this server: which refusals of valid requests are documented ones, and what is counted.

A refusal is recognised by the stable `code` of its problem. Codes that say "your request does not follow the document" (invalid_id,
unknown_member, invalid_type, out_of_range, ...) are excused only where a rule below says for which requests: anywhere else a valid request that gets one shows that the document is not true.
"""

import atexit
import collections
import itertools
import json
import os
import re
import threading
import urllib.parse

import schemathesis
import schemathesis.openapi
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData, ServerError
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

# Refusals that depend on what the server holds, or on rules that a schema cannot express. Code: reason.
DOCUMENTED = {
    "precondition_failed": "If-Match and If-None-Match name versions; a generator does not know which one the resource has",
    "version_not_reached": "X-Min-Version names a version; a generator does not know which one the resource has",
    "idempotency_key_reused": "a generator sends the same Idempotency-Key with different requests",
    "invalid_cursor": "a cursor is bound to tenant, route, filter and position; only next_cursor of a page is one",
    "state_not_found": "a state is there or not, at the version or time that is asked for",
    "version_not_found": "a generator does not know which versions there are, nor which are still kept",
    "checkpoint_not_found": "a checkpoint is there or not",
    "variable_not_found": "a variable is there or not",
    "session_not_found": "a session is there or not, has expired, or is another user's",
    "execution_not_found": "an execution is there or not",
    "error_not_found": "/errors/{code} is for the codes of the index, which the schema of a name cannot list without closing it",
    "checkpoint_exists": "a generator chooses the id of a checkpoint again",
    "session_exists": "a generator chooses the id of a session again",
    "execution_exists": "a generator forks to an execution that is there",
    "patch_test_failed": "a `test` of a patch holds or not, by what the resource is",
    "patch_not_applicable": "a patch fits the resource that is there or not",
    "not_a_number": "only a variable that holds a number can be incremented",
    "duplicate_name": "a name may be set or deleted once in a batch, which a schema of two members cannot say",
    "secrets_not_configured": "secret variables need an encryption key, which this server has not",
    "uri_too_long": "path and query together have a limit, a schema limits each parameter alone",
    "headers_too_large": "headers together have a limit, a schema limits each alone",
    "nul_not_allowed": "free JSON holds no U+0000, which a schema of `any` cannot say",
    "lone_surrogate": "free JSON holds whole characters, which a schema of `any` cannot say",
    "document_too_deep": "free JSON nests at most 64 levels, which a schema of `any` cannot say",
    "number_out_of_range": "numbers of free JSON fit i64, u64 or f64, which a schema of `any` cannot say",
}
# A patch is held against the document, but what it yields is held against the resource: faults of that are documented, and point into the
# resource (`#/status`), where faults of the patch itself point into the list of operations (`#/0/op`).
RESULT_OF_PATCH = {"invalid_type", "invalid_value", "invalid_name", "missing_member", "unknown_member", "out_of_range", "text_too_long", "too_many_elements", "duplicate_name"}
# Limits that are counted in bytes of UTF-8, where a schema counts characters.
IN_BYTES = {"invalid_name", "invalid_scope", "invalid_parameter", "text_too_long", "out_of_range", "invalid_id"}


def problem(response):
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


# server.request_timeout_ms as the servers of these runs have it.
SERVER_DEADLINE_MS = 5000


def asked_for_deadline(case, response):
    """A 504 is the documented answer when the client itself lowered the deadline: below the server's own."""
    if response.status_code != 504:
        return False
    asked = [value for name, value in response.request.headers.items() if name.lower() == "x-request-timeout-ms"]
    return any(re.fullmatch(r"[0-9]+", str(value)) and int(value) < SERVER_DEADLINE_MS for value in asked)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if isinstance(failure, ServerError):
        return not asked_for_deadline(case, response)
    if isinstance(failure, RejectedPositiveData):
        if asked_for_deadline(case, response):
            return False
        # HEAD answers have no body: the codes of 404 and 412 are those of the GET beside it, documented above.
        if response.request.method == "HEAD" and response.status_code in (404, 412):
            return False
        said = problem(response)
        if said.get("code") in IN_BYTES and "bytes" in said.get("detail", "") and longer_in_bytes(case):
            return False
        if case.media_type == "application/json-patch+json" and said.get("code") in RESULT_OF_PATCH and not points_into_list(said):
            return False
        # JSON Schema takes 7.0 for an integer. The bytes are kept, and a reader whose language has integers would not take it for one.
        if said.get("code") == "invalid_type" and all(INTEGER.match(item["detail"]) for item in said["errors"]) and has_whole_float(case.body):
            return False
        # 10000000000000000000 is no integer of i64, and 1e19 is a number: a schema does not tell one from the other. Nor does it know the sum.
        if said.get("code") == "out_of_range" and case.operation.label.endswith("/increment"):
            return False
        # `at` excludes `version` and lies not in the future: two rules between values that a schema of each alone cannot say.
        if response.status_code == 400 and case.path.endswith("/state") and "at" in (case.query or {}):
            return not (response.request.method == "HEAD" or said.get("code") == "invalid_parameter")
        # A value may be left out where a secret variable is to keep its own, and only there: a rule about what the server holds.
        if said.get("code") == "missing_member" and case.operation.label == "PUT /variables/{scope}/{name}" and lacks_value(case.body):
            return False
        # Now and then the generator of headers passes over the format that it is told below.
        if response.status_code == 400 and any(bad_tags(response.request.headers.get(name)) for name in TAG_HEADERS):
            return said.get("code", "invalid_etag") != "invalid_etag"
        return said.get("code") not in DOCUMENTED
    # DELETE of a state leaves a tombstone: its history, and its earlier versions and moments, are there to be read.
    if isinstance(failure, UseAfterFree) and "/state" in case.path:
        past = "/state/history" in case.path or (case.path.endswith("/state") and {"version", "at"} & set(case.query or {}))
        return not past
    # DELETE of a scope takes all its variables away; it can still be listed, and is empty.
    if isinstance(failure, UseAfterFree) and case.path == "/variables/{scope}":
        return False
    if isinstance(failure, AcceptedNegativeData):
        return not asked_for_deadline(case, response) and not only_unknown_headers_or_parameters(case)
    return True


INTEGER = re.compile("must be an integer")


def has_whole_float(value):
    if isinstance(value, dict):
        return any(map(has_whole_float, value.values()))
    if isinstance(value, list):
        return any(map(has_whole_float, value))
    return isinstance(value, float) and value.is_integer()


def lacks_value(body):
    return isinstance(body, dict) and "value" not in body


def bad_tags(value):
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value is not None and not VALID_TAGS.fullmatch(value)


def points_into_list(said):
    return any(item["pointer"][2:3].isdigit() for item in said.get("errors", []))


def only_unknown_headers_or_parameters(case):
    """HTTP demands that unknown headers are ignored, and API clients add query parameters of their own (cache busters)."""
    data = getattr(case.meta.phase, "data", None)
    description = getattr(data, "description", None) or ""
    location = getattr(getattr(data, "parameter_location", None), "name", "")
    return description.lower() == "object with unexpected properties" and location in ("HEADER", "QUERY", "COOKIE")


def longer_in_bytes(case):
    """Whether the request has a text whose bytes are more than its characters. Parameters of paths come percent-encoded."""
    texts = [json.dumps([case.query, dict(case.headers or {})], default=str, ensure_ascii=False)]
    texts += [urllib.parse.unquote(str(value)) for value in (case.path_parameters or {}).values()]
    try:
        texts.append(json.dumps(case.body, default=str, ensure_ascii=False))
    except ValueError:
        pass
    return not all(text.isascii() for text in texts)


# One tag, a list, or any, as the document's pattern says.
TAG = st.builds('{}"{}"'.format, st.sampled_from(["", "W/"]), st.one_of(st.integers(1, 9), st.integers(1, 2**53 - 1)))
schemathesis.openapi.format("version_tags", st.one_of(st.just("*"), st.lists(TAG, min_size=1, max_size=3).map(", ".join)))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Two parameters are told in another way than by the document, for the sake of what can be generated."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                # Any other tenant than the token's is 403 before anything else is looked at; tests/auth goes through those cases.
                if parameter["name"] == "X-Tenant-Id":
                    parameter["schema"] = {"type": "string", "enum": ["dev"]}
                # The generator of headers makes nothing of a pattern that asks for a quote.
                if parameter["name"] in ("If-Match", "If-None-Match"):
                    parameter["schema"] = {"type": "string", "format": "version_tags"}


VALID_KEY = re.compile(r"[!-~]|[!#-~][!-~]|[!-~][!#-~]|[!-~][ -~]{1,253}[!-~]")
VALID_TAGS = re.compile(r'\*|(W/)?"[1-9][0-9]{0,15}"(, *(W/)?"[1-9][0-9]{0,15}")*')
TAG_HEADERS = ("if-match", "if-none-match")
calls = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Three of four requests get further: a key that was not used before, and no guess at the version. What is invalid stays as it is."""
    number = next(calls)
    if number % 4 == 0 or not case.headers:
        return
    for name in list(case.headers):
        value = case.headers[name]
        if name.lower() == "idempotency-key" and isinstance(value, str) and VALID_KEY.fullmatch(value):
            case.headers[name] = f"fuzz-{number}"
        if name.lower() in TAG_HEADERS and isinstance(value, str) and VALID_TAGS.fullmatch(value):
            del case.headers[name]


counts = collections.Counter()
by_answer = collections.Counter()
lock = threading.Lock()


@schemathesis.hook
def after_call(context, case, response):
    status = response.status_code
    with lock:
        counts["cases"] += 1
        by_answer[f"{status} {problem(response).get('code', '') if status >= 400 else ''}".strip()] += 1
        if status >= 500 and not asked_for_deadline(case, response):
            counts["server_errors"] += 1
        elif status >= 400:
            counts["refused"] += 1


@schemathesis.hook
def after_network_error(context, case, request):
    with lock:
        counts["unanswered"] += 1


def write_counts():
    path = os.environ.get("NWORKFLOW_FUZZ_COUNTS")
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**counts, "answers": by_answer}, file)


atexit.register(write_counts)
