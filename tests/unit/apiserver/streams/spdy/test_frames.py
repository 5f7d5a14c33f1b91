from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.apiserver.streams.spdy.dictionary import DICTIONARY
from pilotfish.apiserver.streams.spdy.frames import (
    MAX_CONTROL_BYTES,
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    HeadersFrame,
    Ping,
    ProtocolError,
    RstStream,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)

numbers = st.integers(0, 0x7FFFFFFF)
texts = st.text(st.characters(max_codepoint=255), max_size=20)
headers = st.lists(st.tuples(texts, texts), max_size=5).map(tuple)
frames = st.one_of(
    st.builds(SynStream, numbers, headers, st.booleans(), st.booleans(), numbers, st.integers(0, 7)),
    st.builds(SynReply, numbers, headers, st.booleans()),
    st.builds(HeadersFrame, numbers, headers, st.booleans()),
    st.builds(RstStream, numbers, numbers),
    st.builds(GoAway, numbers, numbers),
    st.builds(WindowUpdate, numbers, numbers),
    st.builds(Ping, numbers),
    st.builds(
        Settings,
        st.lists(st.tuples(st.integers(0, 255), st.integers(0, 0xFFFFFF), numbers), max_size=4).map(tuple),
    ),
    st.builds(Data, numbers, st.binary(max_size=200), st.booleans()),
)


def joined(parts: list[Frame]) -> list[Frame]:
    """The same frames, with the parts of each data frame put together: all but its last are not the end of a stream."""
    whole: list[Frame] = []
    for part in parts:
        last = whole[-1] if whole else None
        if isinstance(part, Data) and isinstance(last, Data) and last.stream == part.stream and not last.fin:
            whole[-1] = Data(part.stream, last.data + part.data, part.fin)
        else:
            whole.append(part)
    return whole


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 2000), max_size=12))
def test_what_is_encoded_is_decoded_however_it_is_cut(sent: list[Frame], cuts: list[int]) -> None:
    encoder, decoder = Encoder(), Decoder()
    wire = b"".join(encoder.encode(frame) for frame in sent)
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    received = [frame for start, end in pairwise(edges) for frame in decoder.feed(wire[start:end])]
    assert joined(received) == joined(sent)


@given(st.binary(max_size=300))
def test_nonsense_is_refused_and_never_crashes(data: bytes) -> None:
    try:
        list(Decoder().feed(data))
    except ProtocolError:
        return


def test_bytes_are_those_of_the_specification() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)
    encoder = Encoder()
    assert encoder.encode(Data(5, b"hey", fin=True)) == bytes.fromhex("00000005 01000003") + b"hey"
    assert encoder.encode(Ping(7)) == bytes.fromhex("80030006 00000004 00000007")
    assert encoder.encode(RstStream(9, 5)) == bytes.fromhex("80030003 00000008 00000009 00000005")
    opened = encoder.encode(SynStream(1, (("streamtype", "stdin"),), fin=True))
    assert opened[:8] == bytes.fromhex("80030001 01") + (len(opened) - 8).to_bytes(3, "big")
    assert opened[8:18] == bytes.fromhex("00000001 00000000 00 00")
    block = zlib.decompressobj(zdict=DICTIONARY).decompress(opened[18:])
    assert block == struct.pack("!II10sI5s", 1, 10, b"streamtype", 5, b"stdin")


def test_a_frame_that_is_too_long_or_of_another_version_is_refused() -> None:
    with pytest.raises(ProtocolError, match="too long"):
        list(Decoder().feed(struct.pack("!HHI", 0x8003, 1, MAX_CONTROL_BYTES + 1)))
    with pytest.raises(ProtocolError, match="version 2"):
        list(Decoder().feed(struct.pack("!HHII", 0x8002, 6, 4, 1)))
    bomb = Encoder().encode(SynReply(1, (("a", "b" * 10 * MAX_CONTROL_BYTES),)))
    assert len(bomb) < MAX_CONTROL_BYTES
    with pytest.raises(ProtocolError, match="too long"):
        list(Decoder().feed(bomb))


def test_unknown_control_frames_are_let_pass() -> None:
    unknown = struct.pack("!HHI", 0x8003, 77, 3) + b"abc"
    assert list(Decoder().feed(unknown + Encoder().encode(Ping(1)))) == [Ping(1)]
