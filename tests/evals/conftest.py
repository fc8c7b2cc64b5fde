import anyio
import pytest
from thinker import measure, thinker

from sleeptime.evals.demo.curves import DemoResult


@pytest.fixture(scope="session")
def result() -> DemoResult:
    return anyio.run(lambda: measure(thinker(500, slip=0.01), contexts=500))
