# SPDX-License-Identifier: Apache-2.0
"""Producer and Consumer: those of C, with what asyncio needs. Calls that do not await never come by here."""

from typing import Any, AsyncIterator, Dict, List, Optional

from sluice import _loop, _sluice
from sluice._sluice import Message, Reservation


class Producer(_sluice.Producer):
    __slots__ = ()
    __doc__ = _sluice.Producer.__doc__

    async def reserve_async(
        self, specs: Optional[Dict[str, Any]] = None, /, *, timeout: Optional[float] = None, **tensors: Any
    ) -> Reservation:
        """As reserve, but other tasks run while there is no room. Cancelled, it has reserved nothing."""
        return await _loop.call(self, lambda: self.reserve(specs, timeout=0, **tensors), _sluice.Full, timeout)

    async def send_async(self, arrays: Dict[str, Any], /, *, timeout: Optional[float] = None, **metadata: Any) -> None:
        """As send, but other tasks run while there is no room. Cancelled, it has sent nothing."""
        return await _loop.call(self, lambda: self.send(arrays, timeout=0, **metadata), _sluice.Full, timeout)


class Consumer(_sluice.Consumer):
    __slots__ = ()
    __doc__ = _sluice.Consumer.__doc__

    async def receive_async(self, timeout: Optional[float] = None) -> Message:
        """As receive, but other tasks run while there is no message. Cancelled, it has taken nothing."""
        return await _loop.call(self, lambda: self.receive(0), _sluice.Empty, timeout)

    async def receive_batch_async(
        self, *, max_messages: int = 64, max_bytes: Optional[int] = None, timeout: Optional[float] = None
    ) -> List[Message]:
        """As receive_batch without linger: waits for the first message and takes what is there then."""
        return await _loop.call(
            self,
            lambda: self.receive_batch(max_messages=max_messages, max_bytes=max_bytes, timeout=0),
            _sluice.Empty,
            timeout,
        )

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive_async()
        except _sluice.EndOfStream:
            raise StopAsyncIteration from None
