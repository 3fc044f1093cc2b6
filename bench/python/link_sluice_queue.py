# SPDX-License-Identifier: Apache-2.0
"""sluice.Queue in the place of multiprocessing.Queue: all else is the same."""
import link_queue
import sluice


class Link(link_queue.Link):
    @staticmethod
    def make():
        return sluice.Queue()
