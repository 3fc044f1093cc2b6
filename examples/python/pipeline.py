#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Text through tokenizer processes and a transformer encoder, twice: pickled through sockets, and by Sluice.

Each way carries the same batches between the same processes, in turns; both must give the very bits that one process
alone gives. Prints where the time of a batch goes, and draws it.

Needs numpy, torch, tokenizers and matplotlib beside sluice.
"""
import argparse
import math
import os
import signal
import sys
import tempfile
import time

# One thread a process, also in the workers, to which this is handed down: with more, sums may come in another order.
# Read when the libraries are loaded.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import crew  # noqa: E402
import picture  # noqa: E402
import text  # noqa: E402
import tokenization  # noqa: E402
import waterfall  # noqa: E402
import ways  # noqa: E402
from model import DIMENSIONS, LAYERS, Model  # noqa: E402
from reference import Reference, WrongResult  # noqa: E402

ROWS, SEQ = 16, 128      # texts in a batch, tokens of a text
CHARACTERS = 4 * SEQ     # about what fills a row
VOCABULARY = 4000
WORKERS = 2
LOAD = 0.6               # of what the busiest process could do: batches come at this pace, so that few wait for others
ENOUGH = 300             # batches each way, for percentiles to mean something
ROUNDS = 4               # each way in turns, so that a machine that gets slower does so for both
HEAD_START = 20_000_000  # nanoseconds from an order to its first batch
PATIENCE = 0.2           # seconds between looks whether all workers live


def count(words):
    number = int(words)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", metavar="FILE", help="text; without it, what this machine has")
    parser.add_argument("--picture", default="pipeline.svg", metavar="SVG", help="where to draw (default: %(default)s)")
    parser.add_argument("--batches", type=count, default=ENOUGH, metavar="N",
                        help="at least so many each way; a short text is repeated (default: %(default)s)")
    return parser.parse_args()


def cut_batches(whole):
    texts = text.split(whole, CHARACTERS)
    return [texts[begin:begin + ROWS] for begin in range(0, len(texts), ROWS)]


def share_cpus():
    """A CPU for inference and one for each worker; None where there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        return None, [None] * WORKERS
    return cpus[-1], [cpus[index % (len(cpus) - 1)] for index in range(WORKERS)]


class Way:
    """One way's receiver, and what its rounds gave."""

    def __init__(self, name, module, directory):
        self.name, self.title = name, module.NAME
        self.receiver = module.Receiver(directory)
        self.stamps = []
        self.cpu_seconds = 0

    def receive_all(self, team, model, count):
        """The vectors and the stamps of as many batches, by their numbers."""
        vectors, stamps = {}, {}
        while len(vectors) < count:
            batch = self.receiver.receive(PATIENCE)
            if batch is None:
                team.check()
                continue
            number, published, received = batch.number, batch.published_ns, batch.received_ns
            tensors = model.tensor(batch.input_ids), model.tensor(batch.lengths)
            decoded = time.monotonic_ns()
            if number in vectors:
                raise WrongResult(f"batch {number} came twice by {self.title}")
            vectors[number] = model.embed(*tensors)
            embedded = time.monotonic_ns()
            del tensors
            batch.release()
            stamps[number] = published, received, decoded, embedded, time.monotonic_ns()
        return vectors, stamps

    def run_round(self, team, model, reference, count, interval_ns):
        cpu = time.process_time()
        team.order(self.name, count, time.monotonic_ns() + HEAD_START, interval_ns)
        vectors, received = self.receive_all(team, model, count)
        cpu = time.process_time() - cpu
        sent, workers_cpu = team.results()
        self.cpu_seconds += cpu + workers_cpu
        for number, *stamps, encoded in sent:
            published, *others = received[number]
            self.stamps.append((*stamps, encoded or published, *others))
        reference.check(vectors, self.title)


def run_rounds(batches, trained, model, reference, least, directory, workers_cpus):
    """Both ways over all batches. Returns the ways, with what they measured."""
    every = [Way(name, module, directory) for name, module in ways.WAYS.items()]
    team = None
    try:
        addresses = {way.name: way.receiver.address for way in every}
        team = crew.Crew([crew.Work(batches, trained, SEQ, addresses, worker_cpu) for worker_cpu in workers_cpus])
        passes = math.ceil(least / len(batches))
        rounds = min(ROUNDS, passes)
        for number in range(rounds):
            count = len(batches) * (passes // rounds + (number < passes % rounds))
            for way in every if number % 2 == 0 else reversed(every):
                way.run_round(team, model, reference, count, int(reference.busiest_ns / LOAD))
    finally:
        if team:
            team.close()
        for way in every:
            way.receiver.close()
    return every


def report(every, path):
    waterfalls = {way.title: waterfall.Waterfall(way.stamps) for way in every}
    batches = f"{len(every[0].stamps)} batches"
    print(f"\nAll vectors of {batches} each way are, bit for bit, those that one process alone computes.\n")
    print(*waterfall.table(waterfalls), sep="\n")
    print("  Shares are of all batches' time. Transport wait: from ready to leave until the other side has it all.\n")
    for title, one in waterfalls.items():
        share = one.transport(50) / one.percentile("total", 50)
        times = ", ".join(f"p{percent} {waterfall.duration(one.transport(percent))}" for percent in (50, 95, 99))
        print(f"  {title}: encode, wait, decode and let go together {times};\n"
              f"    by medians {100 * share:.2f} % of the total")
    print("  CPU seconds of all three processes: "
          + ", ".join(f"{way.title} {way.cpu_seconds:.2f}" for way in every))
    print("  The rest is tokenizer and model, which no transport makes faster; a faster model feels it more.")
    picture.save(waterfalls, f"{batches} each way", path)
    print(f"\nDrawn: {path}")


def prepare(path):
    """Reads the text, learns its tokens and makes the model, and says what came of it."""
    whole, name = text.read_default() if path is None else (text.read_file(path), path)
    batches = cut_batches(whole)
    training = time.monotonic()
    trained = tokenization.train(whole, VOCABULARY)
    training = time.monotonic() - training
    tokenizer = tokenization.load(trained, SEQ)
    model = Model(tokenizer.get_vocab_size(), SEQ)
    print(f"""Sluice in Python: {WORKERS} processes tokenize, one runs the model, by pickle and by Sluice.

  text    {name}: {len(whole)} characters, {sum(map(len, batches))} texts
  tokens  byte-level BPE, {tokenizer.get_vocab_size()} tokens, trained just now from that text in {training:.1f} s
  model   transformer encoder, {LAYERS} layers, {DIMENSIONS} dimensions, {model.parameters() // 1000}k parameters:
          random, from a fixed seed
  batch   int32 [{ROWS}, {SEQ}] input_ids, padded, with lengths; batches in one pass over the text: {len(batches)}""")
    return batches, trained, tokenizer, model


def run(options):
    begin = time.monotonic()
    batches, trained, tokenizer, model = prepare(options.file)
    own_cpu, workers_cpus = share_cpus()
    if own_cpu is not None:
        os.sched_setaffinity(0, {own_cpu})
    reference = Reference(batches, tokenizer, model, SEQ)
    print(f"  pace    a batch every {waterfall.duration(reference.busiest_ns / LOAD)}; alone, the busiest process "
          f"needs {waterfall.duration(reference.busiest_ns)} for one", flush=True)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as directory:
        every = run_rounds(batches, trained, model, reference, options.batches, directory, workers_cpus)
    report(every, options.picture)
    print(f"Done in {time.monotonic() - begin:.0f} s.")


def terminated(number, frame):
    del number, frame
    sys.exit(128 + signal.SIGTERM)


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, terminated)
    try:
        run(options)
    except (text.NoText, crew.WorkerDied, WrongResult, OSError) as error:
        sys.exit(f"pipeline: {error}")
    except KeyboardInterrupt:
        print("\npipeline: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
