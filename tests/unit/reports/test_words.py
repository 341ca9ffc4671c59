"""Which finding leads a message."""

from __future__ import annotations

from pytest_tfleak.reports.words import ordered
from tests.builders import make_finding
from tests.builders import new
from tests.builders import path_to


def test_a_session_leads_before_the_operations_that_it_keeps() -> None:
    session = "tensorflow.python.client.session.Session"
    kept = path_to("builtins.tuple")
    operations = make_finding(
        "tf.graphs.ops", 15.0, kind="builtins.tuple", path=kept, fingerprint="2:a"
    )
    inside = path_to(session, through=[new("builtins.tuple")])
    sessions = make_finding("tf.sessions", kind=session, path=inside, fingerprint="2:a")
    assert ordered([operations, sessions]) == [sessions, operations]
