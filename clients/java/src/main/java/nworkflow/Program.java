package nworkflow;

import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicInteger;
import nworkflow.client.ApiClient;
import nworkflow.client.ApiException;
import nworkflow.client.api.SessionsApi;
import nworkflow.client.api.StatesApi;
import nworkflow.client.api.VariablesApi;
import nworkflow.client.model.Problem;
import nworkflow.client.model.Session;
import nworkflow.client.model.SessionCreate;
import nworkflow.client.model.State;
import nworkflow.client.model.StateMergePatch;
import nworkflow.client.model.StateWrite;
import nworkflow.client.model.Variable;
import nworkflow.client.model.VariableBatchResult;
import nworkflow.client.model.VariableBatchWrite;
import nworkflow.client.model.VariablePage;

/** Uses the client that openapi-generator makes of the API document, and checks what the server answers. */
public final class Program {
    private Program() {}

    public static void main(String[] arguments) throws Exception {
        AtomicInteger calls = new AtomicInteger();
        ApiClient client = new ApiClient();
        client.updateBaseUri(System.getenv("API"));
        client.setRequestInterceptor(request -> {
            calls.incrementAndGet();
            request.header("Authorization", "Bearer " + System.getenv("TOKEN"));
        });
        StatesApi states = new StatesApi(client);
        VariablesApi variables = new VariablesApi(client);
        SessionsApi sessions = new SessionsApi(client);

        State saved = states.putState("java", "e1", new StateWrite().putMarkingItem("received", 1), null, null, null, null, null);
        equal(Map.of("received", 1), saved.getMarking());
        equal("running", saved.getStatus());

        String next = "\"" + (saved.getVersion() + 1) + "\"";
        StateWrite lost = new StateWrite().putMarkingItem("lost", 1);
        Problem refused = refusal(client, 412, () -> states.putState("java", "e1", lost, next, null, null, null, null));
        equal("precondition_failed", refused.getCode());
        equal(saved.getVersion(), refused.getCurrentVersion());

        String present = "\"" + saved.getVersion() + "\"";
        State patched = states.patchState("java", "e1", new StateMergePatch().status("waiting"), present, null, null, null, null);
        equal("waiting", patched.getStatus());
        equal(saved.getVersion() + 1, patched.getVersion());

        String scope = "workflow:java";
        VariableBatchWrite batch = new VariableBatchWrite()
            .putSetItem("currency", "EUR")
            .putSetItem("rates", List.of(0.07, 0.19))
            .putSetItem("rounding", Map.of("digits", 2));
        VariableBatchResult written = variables.writeVariables(scope, batch, null, null, null);
        equal(List.of("currency", "rates", "rounding"), written.getSet().stream().map(Variable::getName).sorted().toList());

        VariablePage first = variables.listVariables(scope, null, null, 2, null, null, null, null);
        equal(List.of("EUR", List.of(0.07, 0.19)), first.getItems().stream().map(Variable::getValue).toList());
        VariablePage second = variables.listVariables(scope, null, null, 2, first.getNextCursor(), null, null, null);
        equal(List.of(Map.of("digits", 2)), second.getItems().stream().map(Variable::getValue).toList());
        equal(null, second.getNextCursor());

        SessionCreate basket = new SessionCreate().data(Map.of("basket", List.of("book"))).ttlSeconds(60L);
        Session session = sessions.createSession(basket, null, null, null);
        equal(Map.of("basket", List.of("book")), session.getData());
        sessions.deleteSession(session.getSessionId(), null, null, null, null, null);

        states.deleteState("java", "e1", null, null, null, null, null);
        Problem gone = refusal(client, 404, () -> states.getState("java", "e1", null, null, null, null, null, null, null, null));
        equal("state_not_found", gone.getCode());

        System.out.println("client java: ok, " + calls + " calls");
    }

    /** The problem with which the server refuses a call. */
    private static Problem refusal(ApiClient client, int status, Callable<?> call) throws Exception {
        try {
            throw new AssertionError("not refused: " + call.call());
        } catch (ApiException exception) {
            equal(status, exception.getCode());
            return client.getObjectMapper().readValue(exception.getResponseBody(), Problem.class);
        }
    }

    private static void equal(Object expected, Object actual) {
        if (expected == null ? actual != null : !expected.equals(actual)) {
            throw new AssertionError("expected " + expected + ", but the answer has " + actual);
        }
    }
}
