# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a pipe of ours takes before its reader has to run."""

import os
import tempfile

from incus_testbed.image.stream import pipe
from incus_testbed.image.stream.source import CHUNK


def test_a_wide_pipe_takes_a_whole_chunk_without_a_reader() -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        pipe.widen(writer)
        assert os.write(writer, bytes(CHUNK)) == CHUNK
    finally:
        os.close(reader)
        os.close(writer)


def test_what_is_not_a_pipe_stays_as_it_is() -> None:
    with tempfile.TemporaryFile() as file:
        pipe.widen(file)
        file.write(b"x")
