"""Frames and links: any cutting of the stream, more than a socket holds, and the other end's going."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.wire import FrameReader, Link


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_frames_survive_any_cutting(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)
    reader, got = FrameReader(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert got == frames


def test_an_absurd_length_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="damaged"):
        FrameReader().feed(b"\xff\xff\xff\xff")


def test_more_than_a_socket_holds_is_kept_and_flushed() -> None:
    left, right = socket.socketpair()
    sender, receiver = Link(left), Link(right)
    frames = [bytes([i]) * 400_000 for i in range(10)]
    for frame in frames:
        sender.send(frame)
    assert sender.has_unsent
    got: list[bytes] = []
    while len(got) < len(frames):
        got += receiver.receive()
        sender.flush()
    assert got == frames and not sender.has_unsent
    sender.close()
    assert receiver.receive() == [] and receiver.closed
    receiver.close()


def test_what_was_sent_before_closing_still_arrives() -> None:
    left, right = socket.socketpair()
    sender, receiver = Link(left), Link(right)
    sender.send(b"last words")
    sender.close()
    assert receiver.receive() == [b"last words"]
    assert receiver.wait() and receiver.receive() == [] and receiver.closed
    receiver.send(b"into the void")
    assert not receiver.has_unsent
    receiver.close()


def test_last_words_are_heard_after_sending_in_vain() -> None:
    left, right = socket.socketpair()
    sender, receiver = Link(left), Link(right)
    receiver.send(b"unheard")
    sender.send(b"last words")
    sender.close()
    receiver.send(b"x")
    receiver.send(b"y" * 10_000_000)
    assert not receiver.closed and not receiver.has_unsent
    assert receiver.wait() and receiver.receive() == [b"last words"]
    assert receiver.wait() and receiver.receive() == [] and receiver.closed
    receiver.close()


def test_waiting_ends_with_a_frame_or_the_timeout() -> None:
    left, right = socket.socketpair()
    sender, receiver = Link(left), Link(right)
    assert not receiver.wait(0.0)
    thread = threading.Timer(0.05, sender.send, (b"x",))
    thread.start()
    assert receiver.wait(60.0) and receiver.receive() == [b"x"]
    thread.join()
    sender.close()
    receiver.close()
