import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from workers.engine import Engine, EngineConfig, ModelPool, ModelSpec, PoolConfig

MINI = Path(__file__).resolve().parents[3] / "fixtures" / "models" / "mini"


@pytest.fixture(autouse=True)
def _no_gradients():
    """The engine switches gradients off in its thread for good; here that is the tests' own thread."""
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def mini_spec():
    return ModelSpec(name="mini", revision="1", family="sd15", source=str(MINI))


@pytest.fixture(scope="session")
def mini_pool(mini_spec):
    """The shipped model, loaded once for all tests."""
    pool = ModelPool(PoolConfig(device="cpu"))
    pool.ensure(mini_spec)
    pool.preload([mini_spec.key])
    yield pool
    pool.close()


@pytest.fixture
def engine(mini_pool):
    engine = Engine(mini_pool, EngineConfig(threads=1))
    yield engine
    engine.discard_all()
