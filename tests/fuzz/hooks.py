"""What schemathesis is told about this server: which refusals of valid requests are documented ones, and what is counted.

A refusal is recognised by the stable `code` of its problem. Codes that say "your request does not follow the document" (invalid_id,
unknown_member, invalid_type, out_of_range, ...) are never excused: a valid request that gets one shows that the document is not true.
"""

import atexit
import collections
import json
import os
import threading

import schemathesis
from schemathesis.core.failures import ServerError
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.core.failures import AcceptedNegativeData

# Refusals that depend on what the server holds, or on rules that a schema cannot express. Code: reason.
DOCUMENTED = {
    "precondition_failed": "If-Match and If-None-Match name versions; a generator does not know which one the resource has",
    "version_not_reached": "X-Min-Version names a version; a generator does not know which one the resource has",
    "idempotency_key_reused": "a generator sends the same Idempotency-Key with different requests",
    "invalid_cursor": "a cursor is bound to tenant, route, filter and position; only next_cursor of a page is one",
    "patch_not_applicable": "a patch fits the resource that is there or not",
    "not_a_number": "only a variable that holds a number can be incremented",
    "secret_value_hidden": "a patch that reads the value of a secret variable",
    "secrets_not_configured": "secret variables need an encryption key, which this server has not",
    "uri_too_long": "path and query together have a limit, a schema limits each parameter alone",
    "headers_too_large": "headers together have a limit, a schema limits each alone",
    "nul_not_allowed": "free JSON holds no U+0000, which a schema of `any` cannot say",
    "lone_surrogate": "free JSON holds whole characters, which a schema of `any` cannot say",
    "document_too_deep": "free JSON nests at most 64 levels, which a schema of `any` cannot say",
    "number_out_of_range": "numbers of free JSON fit i64, u64 or f64, which a schema of `any` cannot say",
}
# Limits that are counted in bytes of UTF-8, where a schema counts characters.
IN_BYTES = {"invalid_name", "invalid_scope", "invalid_parameter", "text_too_long", "out_of_range", "invalid_id"}


def problem(response):
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def asked_for_deadline(case, response):
    """A 504 is the documented answer when the client itself lowered the deadline."""
    headers = response.request.headers
    return response.status_code == 504 and any(name.lower() == "x-request-timeout-ms" for name in headers)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if isinstance(failure, ServerError):
        return not asked_for_deadline(case, response)
    if isinstance(failure, RejectedPositiveData):
        if asked_for_deadline(case, response):
            return False
        # HEAD answers have no body; 412 has two codes, both documented above.
        if response.request.method == "HEAD" and response.status_code == 412:
            return False
        said = problem(response)
        if said.get("code") in IN_BYTES and "bytes" in said.get("detail", "") and longer_in_bytes(case):
            return False
        return said.get("code") not in DOCUMENTED
    if isinstance(failure, AcceptedNegativeData):
        return not only_unknown_headers_or_parameters(case)
    return True


def only_unknown_headers_or_parameters(case):
    """HTTP demands that unknown headers are ignored, and API clients add query parameters of their own (cache busters)."""
    data = getattr(case.meta.phase, "data", None)
    description = getattr(data, "description", None) or ""
    location = getattr(getattr(data, "parameter_location", None), "name", "")
    return description.lower() == "object with unexpected properties" and location in ("HEADER", "QUERY", "COOKIE")


def longer_in_bytes(case):
    """Whether the request has a text whose bytes are more than its characters."""
    texts = [json.dumps([case.path_parameters, case.query, dict(case.headers or {})], default=str, ensure_ascii=False)]
    try:
        texts.append(json.dumps(case.body, default=str, ensure_ascii=False))
    except ValueError:
        pass
    return any(not text.isascii() or "%" in text for text in texts)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Any other tenant than the token's is 403 before anything else is looked at; tests/auth goes through those cases."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "X-Tenant-Id":
                    parameter["schema"] = {"type": "string", "enum": ["dev"]}


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
