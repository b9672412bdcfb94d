"""A fake that ticks in a thread of this process."""

import threading
import time
from contextlib import ExitStack, contextmanager

import pytest


@contextmanager
def running(device, dt=0.001):
    ended = threading.Event()

    def run():
        while not ended.is_set():
            device.tick()
            time.sleep(dt)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield device
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def alive():
    """Start a device; it ends with the test."""
    opened = ExitStack()

    def start(device, dt=0.001):
        if hasattr(device, "close"):
            opened.callback(device.close)
        return opened.enter_context(running(device, dt))

    yield start
    opened.close()


@pytest.fixture
def wait():
    """What a function gives once it gives something."""

    def until(what, seconds=5.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = what()
            if found:
                return found
            time.sleep(0.001)
        raise AssertionError("waited in vain")

    return until


@pytest.fixture
def worker_number(worker_id):
    """Of this process among those that run tests side by side."""
    return 0 if worker_id == "master" else int(worker_id.removeprefix("gw"))
