// Uses the client that the generator of SAP's Cloud SDK makes of the API document, and checks what the server answers.

import { strict as assert } from "node:assert";
import type { HttpMiddleware } from "@sap-cloud-sdk/http-client";
import { SessionsApi, StatesApi, VariablesApi } from "./generated/nworkflow-state";
import type { Problem } from "./generated/nworkflow-state/schema";

// Of a request of the generated client, what is used here.
interface Request<Answer> {
  middleware(middleware: HttpMiddleware): { execute(destination: Destination): Promise<Answer> };
}
// What a destination service hands out: an address and what identifies the caller.
interface Destination {
  url: string;
  headers: Record<string, string>;
}

let calls = 0;
// The CSRF tokens that went out with writes. The SDK asks for one before each: HEAD on the address of the write, with `x-csrf-token: Fetch`.
const tokens: (string | undefined)[] = [];

// It stands around the SDK's own middleware, which adds the token to the request that both hold.
const listen: HttpMiddleware = (options) => async (request) => {
  try {
    return await options.fn(request);
  } finally {
    if (request.method.toLowerCase() !== "get") tokens.push(request.headers?.["x-csrf-token"]);
  }
};

function execute<Answer>(request: Request<Answer>, destination: Destination): Promise<Answer> {
  calls += 1;
  return request.middleware(listen).execute(destination);
}

// The problem with which the server refuses.
async function refusal(request: Request<unknown>, destination: Destination): Promise<Problem> {
  try {
    await execute(request, destination);
  } catch (error) {
    const { response } = error as { response?: { data: Problem } };
    if (response) return response.data;
    throw error;
  }
  return assert.fail("the request was not refused");
}

async function main(destination: Destination) {
  const saved = await execute(StatesApi.putState("sap", "e1", { marking: { received: 1 } }), destination);
  assert.deepEqual(saved.marking, { received: 1 });
  assert.equal(saved.status, "running");

  const refused = await refusal(
    StatesApi.putState("sap", "e1", { marking: { lost: 1 } }, { "If-Match": `"${saved.version + 1}"` }),
    destination,
  );
  assert.equal(refused.status, 412);
  assert.equal(refused.code, "precondition_failed");
  assert.equal(refused.current_version, saved.version);

  const patched = await execute(
    StatesApi.patchState("sap", "e1", { status: "waiting" }, { "If-Match": `"${saved.version}"` }),
    destination,
  );
  assert.deepEqual([patched.status, patched.version], ["waiting", saved.version + 1]);

  const scope = "workflow:sap";
  const values = { currency: "EUR", rates: [0.07, 0.19], rounding: { digits: 2 } };
  const written = await execute(VariablesApi.writeVariables(scope, { set: values }), destination);
  assert.deepEqual(written.set.map((variable) => variable.name), ["currency", "rates", "rounding"]);

  const first = await execute(VariablesApi.listVariables(scope, { limit: 2 }), destination);
  assert.deepEqual(first.items.map((variable) => variable.value), ["EUR", [0.07, 0.19]]);
  assert(first.next_cursor, "a second page follows");
  const second = await execute(VariablesApi.listVariables(scope, { limit: 2, cursor: first.next_cursor }), destination);
  assert.deepEqual(second.items.map((variable) => variable.value), [{ digits: 2 }]);
  assert.equal(second.next_cursor, undefined);

  const session = await execute(SessionsApi.createSession({ data: { basket: ["book"] }, ttl_seconds: 60 }), destination);
  assert.deepEqual(session.data, { basket: ["book"] });
  await execute(SessionsApi.deleteSession(session.session_id), destination);

  await execute(StatesApi.deleteState("sap", "e1"), destination);
  const gone = await refusal(StatesApi.getState("sap", "e1"), destination);
  assert.equal(gone.code, "state_not_found");

  // Seven writes, one of them refused: each had the token of its handshake.
  assert.deepEqual(tokens, Array(7).fill("not-needed-with-bearer-tokens"));
}

const { API = "", TOKEN = "" } = process.env;
main({ url: API, headers: { authorization: `Bearer ${TOKEN}` } }).then(
  () => console.log(`client sap-cloud-sdk: ok, ${calls} calls`),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
