"""Uses the client that openapi-python-client makes of the API document, and checks what the server answers."""

import os

from generated.client import AuthenticatedClient
from generated.api.sessions import create_session, delete_session
from generated.api.states import delete_state, get_state, patch_state, put_state
from generated.api.variables import list_variables, write_variables
from generated.models import Problem, Session, SessionCreate, State, StateMergePatch, StateWrite
from generated.models import VariableBatchResult, VariableBatchWrite, VariablePage
from generated.types import UNSET

calls = 0


def count(_request):
    global calls
    calls += 1


client = AuthenticatedClient(base_url=os.environ["API"], token=os.environ["TOKEN"], httpx_args={"event_hooks": {"request": [count]}})
execution = {"workflow_id": "python", "execution_id": "e1", "client": client}

saved = put_state.sync(**execution, body=StateWrite.from_dict({"marking": {"received": 1}}))
assert isinstance(saved, State), saved
assert saved.marking.additional_properties == {"received": 1}
assert saved.status == "running"
assert saved.created_at.tzinfo is not None

refused = put_state.sync_detailed(**execution, body=StateWrite.from_dict({"marking": {"lost": 1}}), if_match=f'"{saved.version + 1}"')
assert refused.status_code == 412
assert isinstance(refused.parsed, Problem)
assert refused.parsed.code == "precondition_failed"
assert refused.parsed.current_version == saved.version

patched = patch_state.sync(**execution, body=StateMergePatch.from_dict({"status": "waiting"}), if_match=f'"{saved.version}"')
assert isinstance(patched, State), patched
assert (patched.status, patched.version) == ("waiting", saved.version + 1)

scope = "workflow:python"
values = {"currency": "EUR", "rates": [0.07, 0.19], "rounding": {"digits": 2}}
written = write_variables.sync(scope, client=client, body=VariableBatchWrite.from_dict({"set": values}))
assert isinstance(written, VariableBatchResult), written
assert [variable.name for variable in written.set_] == list(values)

first = list_variables.sync(scope, client=client, limit=2)
assert isinstance(first, VariablePage) and isinstance(first.next_cursor, str), first
assert [variable.value for variable in first.items] == ["EUR", [0.07, 0.19]]
second = list_variables.sync(scope, client=client, limit=2, cursor=first.next_cursor)
assert isinstance(second, VariablePage) and second.next_cursor is UNSET, second
assert [variable.value for variable in second.items] == [{"digits": 2}]

session = create_session.sync(client=client, body=SessionCreate(data={"basket": ["book"]}, ttl_seconds=60))
assert isinstance(session, Session), session
assert session.data == {"basket": ["book"]}
assert delete_session.sync_detailed(session.session_id, client=client).status_code == 204

assert delete_state.sync_detailed(**execution).status_code == 204
gone = get_state.sync(**execution)
assert isinstance(gone, Problem) and gone.code == "state_not_found", gone

print(f"client python: ok, {calls} calls")
