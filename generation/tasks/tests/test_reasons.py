"""Codes in a row's history."""

from generation.tasks.reasons import MAX_REASON_CHARS, Code, Reason, codes


def test_an_entry_has_the_code_beside_the_sentence():
    assert Reason(Code.STOPPED, "the worker was stopped").entry() == {
        "reason": "the worker was stopped",
        "code": "stopped",
    }


def test_a_fallback_names_its_model_and_the_cause():
    reason = Reason(Code.FELL_BACK, "falls back to spare", model="spare", cause="x" * 1000)
    assert reason.entry() == {
        "reason": "falls back to spare",
        "code": "fell_back",
        "model": "spare",
        "cause": "x" * MAX_REASON_CHARS,
    }


def test_entries_without_a_code_count_for_nothing():
    written_before = {"to": "queued", "reason": "inference failed: RuntimeError"}
    assert codes([written_before, {"to": "running"}, Reason(Code.STOPPED, "").entry()]) == ["", "", "stopped"]
