# SPDX-License-Identifier: Apache-2.0
"""The same work in one process, with no transport: what every result must equal, and how fast batches can come."""
import time

import numpy

from tokenization import fill


class WrongResult(Exception):
    """What came is not what was sent; the message says where."""


class Reference:
    def __init__(self, batches, tokenizer, model, seq):
        self._vectors, tokenize_ns, model_ns = [], [], []
        model.embed(*self._tensors(model, tokenizer, batches[0], seq))  # the first call is slow
        for texts in batches:
            begin = time.monotonic_ns()
            tensors = self._tensors(model, tokenizer, texts, seq)
            tokenized = time.monotonic_ns()
            self._vectors.append(model.embed(*tensors))
            model_ns.append(time.monotonic_ns() - tokenized)
            tokenize_ns.append(tokenized - begin)
        self.busiest_ns = int(max(numpy.mean(model_ns), numpy.mean(tokenize_ns)))  # of the two kinds of process

    @staticmethod
    def _tensors(model, tokenizer, texts, seq):
        ids, lengths = numpy.empty((len(texts), seq), numpy.int32), numpy.empty(len(texts), numpy.int32)
        fill(tokenizer.encode_batch(texts), ids, lengths)
        return model.tensor(ids), model.tensor(lengths)

    def check(self, results, title):
        """Raises unless the vectors, by number of the batch, are the expected bits; the text may have been repeated."""
        for number, vectors in results.items():
            expected = self._vectors[number % len(self._vectors)]
            if vectors.shape != expected.shape or (vectors.view(numpy.uint32) != expected.view(numpy.uint32)).any():
                raise WrongResult(f"batch {number} by {title} gave other vectors than in one process")
