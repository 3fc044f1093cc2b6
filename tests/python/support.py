# SPDX-License-Identifier: Apache-2.0
"""What several topics use."""

import time


def until(condition):
    """Waits until a condition of another process holds; the test's time limit ends it."""
    while not condition():
        time.sleep(0.001)
