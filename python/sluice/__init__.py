# SPDX-License-Identifier: Apache-2.0
"""Tensors between the processes of one machine, without copying them.

    with sluice.Producer("tokens") as out:
        with out.reserve(input_ids=((16, 512), "int32")) as m:
            m["input_ids"][:] = ids        # filled in place; published at the end of the block

    with sluice.Consumer("tokens") as inp:
        for m in inp:
            ids = m["input_ids"]           # the producer's memory, read-only; released when the last view is gone

A channel is a name. Producers and consumers of one machine join and leave at any time. Times are seconds, None is for
ever. Every error is a sluice.Error, which is an OSError.
"""

from sluice._handles import Consumer, Producer
from sluice._sluice import (
    BadArgument,
    BadMessage,
    Busy,
    Closed,
    CudaError,
    CudaStatus,
    CudaTensor,
    Denied,
    Empty,
    EndOfStream,
    Error,
    Exists,
    Forked,
    Full,
    Geometry,
    Message,
    NoSpace,
    NotFound,
    PeerDied,
    Released,
    Reservation,
    Stale,
    Stamps,
    Tensor,
    Timeout,
    TooLarge,
    __version__,
    gc,
    remove,
    stat,
    to_cuda,
)
from sluice._sluice import list as list  # not in `import *`, where it would hide the builtin
from sluice.queue import Queue

__all__ = [
    "BadArgument",
    "BadMessage",
    "Busy",
    "Closed",
    "Consumer",
    "CudaError",
    "CudaStatus",
    "CudaTensor",
    "Denied",
    "Empty",
    "EndOfStream",
    "Error",
    "Exists",
    "Forked",
    "Full",
    "Geometry",
    "Message",
    "NoSpace",
    "NotFound",
    "PeerDied",
    "Producer",
    "Queue",
    "Released",
    "Reservation",
    "Stale",
    "Stamps",
    "Tensor",
    "Timeout",
    "TooLarge",
    "__version__",
    "gc",
    "remove",
    "stat",
    "to_cuda",
]
