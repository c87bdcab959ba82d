"""Link: length-prefixed frames over a connected stream socket, for both sides of the engine's border.

Non-blocking towards the socket, so that an event loop, a busy engine and a blocking caller can all drive it. Knows no
messages.
"""

from __future__ import annotations

import select
import socket
import struct

_LENGTH = struct.Struct("<I")
_MAX_FRAME_BYTES = 1 << 30
_READ_BYTES = 1 << 18


class FrameReader:
    """Bytes in, frames out; a frame is a 4-byte little-endian length and so many bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now.

        Raises:
            ConnectionError: a length that no sender of frames would write.
        """
        buffer = self._buffer
        buffer += data
        frames = []
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > _MAX_FRAME_BYTES:
                raise ConnectionError(f"a frame of {length} bytes: the stream is damaged")
            if len(buffer) - at - _LENGTH.size < length:
                break
            at += _LENGTH.size
            frames.append(bytes(buffer[at : at + length]))
            at += length
        del buffer[:at]
        return frames


class Link:
    """One end of the border. When the other end has gone and all that it had sent is received, `closed` is True."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._deaf = False  # the other end takes nothing any more; its last words may still be here to receive
        self.closed = False

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether `flush` should be called when the socket is writable again."""
        return bool(self._unsent)

    @property
    def num_unsent(self) -> int:
        """Bytes that the socket has not taken yet."""
        return len(self._unsent)

    def receive(self) -> list[bytes]:
        """All frames that have arrived, without waiting."""
        frames: list[bytes] = []
        if self.closed or not self._readable.poll(0):  # cheaper than an exception when nothing has come
            return frames
        while not self.closed:
            try:
                data = self._sock.recv(_READ_BYTES)
                if not data:
                    self.closed = True
                frames += self._reader.feed(data)
            except BlockingIOError:
                break
            except ConnectionError:
                self.closed = True
            if not self.closed and len(data) < _READ_BYTES:
                break  # a stream socket that gave less has no more for now
        return frames

    def send(self, frame: bytes) -> None:
        """Sends, or keeps for `flush` what the socket does not take now."""
        if not self.closed and not self._deaf:
            self._unsent += _LENGTH.pack(len(frame))
            self._unsent += frame
            self.flush()

    def flush(self) -> None:
        """Sends as much as the socket takes."""
        try:
            while self._unsent:
                sent = self._sock.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._deaf = True
            self._unsent.clear()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleeps until there is something to receive (the other end's going included); False after the timeout."""
        return self._poll(select.POLLIN, timeout_s)

    def wait_writable(self) -> None:
        """Sleeps until the socket takes more, or the other end has gone."""
        self._poll(select.POLLOUT, None)

    def _poll(self, events: int, timeout_s: float | None) -> bool:
        if self.closed:
            return True
        poller = select.poll()
        poller.register(self._sock, events)
        return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))

    def close(self) -> None:
        self.closed = True
        self._unsent.clear()
        self._sock.close()
