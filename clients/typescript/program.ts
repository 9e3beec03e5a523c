// Uses the client that openapi-typescript and openapi-fetch make of the API document, and checks what the server answers.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./generated/schema.js";

const { API, TOKEN } = process.env;
assert(API && TOKEN, "API and TOKEN are set");

let calls = 0;
const client = createClient<paths>({
  baseUrl: API,
  headers: { Authorization: `Bearer ${TOKEN}` },
  fetch: (request) => {
    calls += 1;
    return fetch(request);
  },
});

const STATE = "/workflows/{workflow_id}/executions/{execution_id}/state";
const execution = { workflow_id: "typescript", execution_id: "e1" };

const saved = await client.PUT(STATE, { params: { path: execution }, body: { marking: { received: 1 } } });
assert(saved.data, "a state is saved");
assert.deepEqual(saved.data.marking, { received: 1 });
assert.equal(saved.data.status, "running");
const version = saved.data.version;

const refused = await client.PUT(STATE, {
  params: { path: execution, header: { "If-Match": `"${version + 1}"` } },
  body: { marking: { lost: 1 } },
});
assert.equal(refused.response.status, 412);
assert(refused.error, "whoever has not seen the version is refused");
assert.equal(refused.error.code, "precondition_failed");
assert.equal(refused.error.current_version, version);

const patched = await client.PATCH(STATE, {
  params: { path: execution, header: { "If-Match": `"${version}"` } },
  body: { status: "waiting" },
});
assert.equal(patched.data?.status, "waiting");
assert.equal(patched.data?.version, version + 1);

const scope = { scope: "workflow:typescript" };
const written = await client.PATCH("/variables/{scope}", {
  params: { path: scope },
  body: { set: { currency: "EUR", rates: [0.07, 0.19], rounding: { digits: 2 } } },
});
assert.deepEqual(written.data?.set.map((variable) => variable.name), ["currency", "rates", "rounding"]);

const first = await client.GET("/variables/{scope}", { params: { path: scope, query: { limit: 2 } } });
assert.deepEqual(first.data?.items.map((variable) => variable.value), ["EUR", [0.07, 0.19]]);
const cursor = first.data?.next_cursor;
assert(cursor, "a second page follows");
const second = await client.GET("/variables/{scope}", { params: { path: scope, query: { limit: 2, cursor } } });
assert.deepEqual(second.data?.items.map((variable) => variable.value), [{ digits: 2 }]);
assert.equal(second.data?.next_cursor, undefined);

const session = await client.POST("/sessions", { body: { data: { basket: ["book"] }, ttl_seconds: 60 } });
assert(session.data, "a session begins");
assert.deepEqual(session.data.data, { basket: ["book"] });
const ended = await client.DELETE("/sessions/{session_id}", { params: { path: { session_id: session.data.session_id } } });
assert.equal(ended.response.status, 204);

const removed = await client.DELETE(STATE, { params: { path: execution } });
assert.equal(removed.response.status, 204);
const gone = await client.GET(STATE, { params: { path: execution } });
assert.equal(gone.error?.code, "state_not_found");

console.log(`client typescript: ok, ${calls} calls`);
