"""What Orbax and TensorStore print late, after an error was raised, stays hidden."""

import asyncio
import logging

import pytest

from charjax.checkpoint import arrays


@pytest.mark.parametrize(("error", "shown"), [
    (ValueError('DATA_LOSS: Error reading "c/0/0" in OCDBT database at local file'), 0),
    (ValueError("of somebody else"), 1),
])  # fmt: skip
def test_only_the_late_errors_of_tensorstore_are_hidden(error, shown, caplog):
    with pytest.raises(OSError, match="full"), arrays._quiet():
        raise OSError("full")
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR, "asyncio"):
        message = f"Future exception was never retrieved\nfuture: {error!r}"
        loop.call_exception_handler({"message": message, "exception": error})
    loop.close()
    assert len(caplog.records) == shown
