# SPDX-License-Identifier: Apache-2.0
"""A tokenizer process: texts to token ids, and these to the inference process, in whichever way it is told.

Started by crew.py, with a connection for its orders; the end of that connection is its end.
"""
import multiprocessing.connection
import os
import sys
import time

import tokenization
import ways


def perform(order, work, tokenizer, senders):
    """Sends every batch of the order when it is due. Returns each one's stamps, and the CPU seconds spent."""
    sender, stamps = senders[order.way], []
    cpu = time.process_time()
    for number in order.numbers:
        due = order.begin_ns + number * order.interval_ns
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        begin = time.monotonic_ns()
        encodings = tokenizer.encode_batch(work.batches[number % len(work.batches)])
        end = time.monotonic_ns()
        stamps.append((number, begin, end, *sender.send(number, encodings)))
    return stamps, time.process_time() - cpu


def serve(control):
    work = control.recv()
    if work.cpu is not None:
        os.sched_setaffinity(0, {work.cpu})
    tokenizer = tokenization.load(work.tokenizer, work.seq)
    senders = {name: ways.WAYS[name].Sender(address, work.seq) for name, address in work.addresses.items()}
    control.send(None)
    try:
        while True:
            control.send(perform(control.recv(), work, tokenizer, senders))
    finally:
        for sender in senders.values():
            sender.close()


def main():
    try:
        serve(multiprocessing.connection.Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        pass  # the inference process has finished, or died


if __name__ == "__main__":
    main()
