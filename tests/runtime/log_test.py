# SPDX-License-Identifier: Apache-2.0
import os

from mixboost_jax.runtime import log, progress


def test_a_stream_that_nobody_reads_is_no_error():
  reading, writing = os.pipe()
  with os.fdopen(writing, "w") as stream:
    log.say("heard", stream=stream)
    assert os.read(reading, 9) == b"heard\n"
    os.close(reading)
    log.say("lost", stream=stream)
    print("also what others print later", file=stream, flush=True)
    with progress.Progress("x", 2, stream=stream) as bar:
      bar.update(1, force=True)
