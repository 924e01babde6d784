"""The texts of the queue's values, and that Redis's scripts read them alike."""

import json

import pytest

from generation.queue import lua
from generation.queue.values import BatchKey, EntryState

LAYOUT = lua.source("layout")
KEYS = [
    BatchKey("mini@1", 256, 256),
    BatchKey("mini", 8, 4096),
    BatchKey("a:b@rev:2", 512, 768),
    BatchKey("mini@1", 256, 256, alone="0198aaaa-0000-7000-8000-000000000001"),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_key_is_read_back_from_its_text(key):
    assert BatchKey.parse(str(key)) == key


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_scripts_read_a_key_as_python_does(redis, key):
    read = json.loads(redis.eval(f"{LAYOUT}\nreturn cjson.encode(parse_batch_key(ARGV[1]))", 0, str(key)))
    assert read == {"model": key.model, "name": key.model.partition("@")[0], "alone": key.alone}


def test_the_scripts_make_the_key_of_a_task_alone_as_python_does(redis):
    made = redis.eval(f"{LAYOUT}\nreturn alone_key(ARGV[1], ARGV[2])", 0, str(KEYS[0]), KEYS[-1].alone)
    assert BatchKey.parse(made) == KEYS[-1]


def test_the_scripts_name_the_states_of_an_entry_as_python_does(redis):
    states = redis.eval(f"{LAYOUT}\nreturn {{WAITING, RUNNING, ENDED}}", 0)
    assert states == [EntryState.WAITING, EntryState.RUNNING, EntryState.ENDED]


@pytest.mark.parametrize("text", ["", "mini@1", "mini@1:256", "mini@1:axb"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError):
        BatchKey.parse(text)
