"""Whether one identity ever sees or changes what is another's: object level authorization, probed with generated requests.

One user writes documents whose ids, names and values hold markers that are used once. Each of these requests, and reads of everything that the
document has, are sent by others as well:

    stranger    administrator of another tenant: nothing of the first tenant may appear in an answer
    colleague   writer of the same tenant without `delegate`: nothing of the owner's own (sessions and their variables, the scope of the user)
    viewer      reader of the same tenant: the same, and no write of it may succeed

What an identity has sent itself proves nothing when it comes back, and is left out. run.py calls this beside schemathesis, on the same server.
"""

import collections
import http.client
import json
import random
import re
import urllib.parse

WRITES = {"put", "post", "patch", "delete"}
MARKER = re.compile(r"(?:shared|own|theirs)-[0-9a-f]{8}-[0-9]+-x")
# What others share a server for, and what they would take away from the owner's requests if it were sent often.
SELDOM = {("delete", "/cache"), ("delete", "/variables/{scope}"), ("delete", "/workflows/{workflow_id}/executions/{execution_id}")}
KEEP = 12


class Identity:
    def __init__(self, name, token, permissions=None):
        self.name, self.token, self.permissions = name, token, permissions
        self.sent = set()
        # Sessions that it has made: their ids may be those that the owner's requests name.
        self.made = set()


class Probe:
    def __init__(self, base, tokens, seed):
        self.host = base.removeprefix("http://")
        self.connection = http.client.HTTPConnection(self.host, timeout=20)
        self.random = random.Random(seed)
        self.run = f"{self.random.getrandbits(32):08x}"
        self.number = 0
        self.owner = Identity("owner", tokens["owner"])
        reader = {"states:read", "checkpoints:read", "sessions:read", "variables:read", "events:read"}
        self.others = [Identity("stranger", tokens["stranger"]), Identity("colleague", tokens["colleague"]), Identity("viewer", tokens["viewer"], reader)]
        self.counts = collections.Counter()
        self.tried = collections.defaultdict(set)
        self.answered = collections.Counter()
        self.violations = []
        self.pools = collections.defaultdict(list)
        document = self.send(self.owner, "GET", "/openapi.json")[1]
        self.operations = [
            (method, path, operation)
            for path, item in json.loads(document)["paths"].items()
            for method, operation in item.items()
            if operation.get("security") and method in WRITES | {"get", "head"}
        ]

    def marker(self, kind):
        self.number += 1
        return f"{kind}-{self.run}-{self.number}-x"

    def known(self, pool, kind):
        """One of those that were used, now and then a new one."""
        values = self.pools[pool]
        if not values or self.random.random() < 0.15:
            values.append(self.marker(kind))
            del values[:-KEEP]
        return self.random.choice(values)

    def target(self, path, operation):
        """A path with its parameters, and whether it leads to what is the owner's alone."""
        scope, private = None, "/sessions" in path
        if "{scope}" in path:
            scope = self.random.choice(["global", "workflow", "session", "user", "user"])
            private = scope in ("session", "user")
            if scope == "workflow":
                scope = f"workflow:{self.known('workflow', 'shared')}"
            elif scope == "session":
                scope = f"session:{self.known('session', 'own')}"
            elif scope == "user":
                scope = f"user:{self.random.choice(['me', 'fuzz-owner'])}"
        values = {
            "workflow_id": lambda: self.known("workflow", "shared"),
            "execution_id": lambda: self.known("execution", "shared"),
            "checkpoint_id": lambda: self.known("checkpoint", "shared"),
            "session_id": lambda: self.known("session", "own"),
            "scope": lambda: scope,
            "name": lambda: self.known("own name" if private else "name", "own" if private else "shared"),
            "version": lambda: str(self.random.randint(1, 4)),
        }
        filled = re.sub(r"\{(\w+)\}", lambda found: urllib.parse.quote(values[found[1]](), safe=""), path)
        query = {}
        names = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
        if path == "/effective-variables":
            query = {"workflow_id": self.known("workflow", "shared"), "session_id": self.known("session", "own"), "user_id": "fuzz-owner"}
            query = {name: value for name, value in query.items() if self.random.random() < 0.6}
        elif "limit" in names:
            query["limit"] = "1000"
        return filled + ("?" + urllib.parse.urlencode(query) if query else ""), private

    def body(self, method, path, kind):
        """A document for the operation, with markers of this kind in its values. The operations are told apart by how their path ends."""
        value = lambda: {"text": self.marker(kind), "list": [self.marker(kind)]}
        last = path.rsplit("/", 1)[1]
        if last == "state":
            whole = {"marking": {"place": [self.marker(kind)]}, "metadata": value()}
            return whole if method == "put" else {"metadata": value()}
        if last == "checkpoints":
            return {"checkpoint_id": self.known("checkpoint", "shared"), "label": self.marker(kind), "metadata": value()}
        if last == "fork":
            return {"execution_id": self.known("execution", "shared")}
        if last == "restore":
            return {}
        if last == "extend":
            return {"additional_seconds": 5}
        if last == "increment":
            return {"by": 1}
        if last == "sessions":
            return {"session_id": self.known("session", "own"), "data": value()}
        if last == "{session_id}":
            return {"data": value()}
        if last == "{scope}":
            return {"set": {self.known("own name" if kind == "own" else "name", kind): value() for _ in range(2)}}
        if last == "{name}":
            return {"value": value(), "description": self.marker(kind)} if method == "put" else {"value": value()}
        raise LookupError(f"no document is made for {method} {path}: write one in tests/fuzz/identities.py")

    def send(self, identity, method, target, body=None, headers=None):
        sent = dict(headers or {}, Authorization=f"Bearer {identity.token}")
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            self.connection.request(method, target, payload, sent)
            answer = self.connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.violation(identity, method, target, f"no answer: {error!r}")
            return 0, "", {}
        head = "\n".join(f"{name}: {value}" for name, value in answer.getheaders())
        return answer.status, text, head

    def violation(self, identity, method, target, what):
        self.violations.append(f"{identity.name}: {method} {target}: {what}")

    def judged(self, identity, method, target, body=None, headers=None):
        identity.sent |= set(MARKER.findall(urllib.parse.unquote(target) + json.dumps(body)))
        status, text, head = self.send(identity, method, target, body, headers)
        if not status:
            return status
        self.counts["cases"] += 1
        if status >= 500:
            self.counts["server_errors"] += 1
            self.violation(identity, method, target, f"status {status}: {text[:300]}")
        elif status >= 400:
            self.counts["refused"] += 1
        foreign = set(MARKER.findall(urllib.parse.unquote(text + head))) - identity.sent
        if identity.name in ("colleague", "viewer"):
            foreign = {marker for marker in foreign if marker.startswith("own-")}
        elif identity.name == "owner":
            # Others of the tenant may write what is shared; the stranger may not.
            foreign = {marker for marker in foreign if marker.startswith("theirs-") and marker in self.others[0].sent}
        if foreign:
            self.violation(identity, method, target, f"status {status} shows {sorted(foreign)[0]}, which is another's")
        return status

    def refused(self, identity, method, target, status, why):
        if 200 <= status < 300:
            self.violation(identity, method, target, f"status {status}: {why}")

    def replay(self, identity, method, path, operation, target, private):
        upper = method.upper()
        body = self.body(method, path, "theirs") if operation.get("requestBody") else None
        if identity.name == "stranger" and self.random.random() < 0.2:
            status = self.judged(identity, upper, target, body, {"X-Tenant-Id": "fuzz-first"})
            self.refused(identity, upper, target, status, "with X-Tenant-Id of another tenant")
            return
        self.tried[identity.name].add((method, path))
        status = self.judged(identity, upper, target, body)
        self.answered[f"{identity.name} {status // 100}xx"] += 1
        if identity.permissions is not None and not set(operation["x-permissions"]) <= identity.permissions:
            self.refused(identity, upper, target, status, f"without {' and '.join(operation['x-permissions'])}")
        self.note_session(identity, method, path, target, body, status)
        # `me` is another for everyone.
        plain = urllib.parse.unquote(target)
        if private and identity.name != "stranger" and "{" in path and "user:me" not in plain and not set(MARKER.findall(plain)) & identity.made:
            self.refused(identity, upper, target, status, "on what is another user's alone")

    def note_session(self, identity, method, path, target, body, status):
        """A new session may have any id that is free: it is its maker's then, for as long as the owner has not made it."""
        if identity is self.others[0] or method not in ("put", "post") or path not in ("/sessions", "/sessions/{session_id}") or not 200 <= status < 300:
            return
        session = body["session_id"] if method == "post" else target.rsplit("/", 1)[1]
        if method == "put" and status == 200:
            return
        for other in [self.owner, *self.others[1:]]:
            other.made.discard(session)
        identity.made.add(session)

    def step(self, number):
        if number < 4 * len(self.operations):
            # Each operation some times, the writes first that make what others look for.
            method, path, operation = sorted(self.operations, key=lambda one: {"put": 0, "post": 1, "delete": 4}.get(one[0], 2))[number % len(self.operations)]
        else:
            method, path, operation = self.random.choice(self.operations)
        if (method, path) in SELDOM and self.random.random() < 0.7 and number >= len(self.operations):
            return
        target, private = self.target(path, operation)
        kind = "own" if private else "shared"
        body = self.body(method, path, kind) if operation.get("requestBody") else None
        self.tried["owner"].add((method, path))
        status = self.judged(self.owner, method.upper(), target, body)
        self.answered[f"owner {status // 100}xx"] += 1
        self.note_session(self.owner, method, path, target, body, status)
        for identity in self.random.sample(self.others, k=2):
            # Half of the time without the ids: only then a list that shows too much is noticed.
            if "{" in path and self.random.random() < 0.4:
                self.lists(identity)
            else:
                self.replay(identity, method, path, operation, target, private)

    def lists(self, identity):
        method, path, operation = self.random.choice([one for one in self.operations if one[0] == "get" and "{" not in one[1]])
        target = path + ("?limit=1000" if path not in ("/stats",) else "")
        self.tried[identity.name].add((method, path))
        self.judged(identity, "GET", target)

    def catch_up(self):
        """What chance, or a slow machine, left out for somebody."""
        for identity in self.others:
            for method, path, operation in self.operations:
                for _ in range(100):
                    if (method, path) in self.tried[identity.name]:
                        break
                    self.replay(identity, method, path, operation, *self.target(path, operation))

    def go(self, steps, seconds, clock):
        end = clock() + seconds
        number = 0
        while number < steps and clock() < end:
            self.step(number)
            number += 1
        self.catch_up()
        wanted = {(method, path) for method, path, _ in self.operations}
        for identity in [self.owner, *self.others]:
            missed = wanted - self.tried[identity.name]
            if missed:
                self.violations.append(f"{identity.name}: the run did not do its work, {len(missed)} operations were not tried, such as {sorted(missed)[0]}")
        if self.answered["owner 2xx"] * 3 < number:
            self.violations.append(f"owner: the run did not do its work, only {self.answered['owner 2xx']} of {number} requests had a success")
        return self
