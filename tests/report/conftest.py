# SPDX-License-Identifier: Apache-2.0
"""Results of runs that never happened, small and complete."""

import struct
import zlib

import pytest

from mixboost_jax.runtime.results import Metric, Results


def make_metric(name="error", value=10.0, half=1.0, **changes):
  fields = {
    "low": None if half is None else value - half,
    "high": None if half is None else value + half,
    "confidence": None if half is None else 0.95,
    "interval": "none" if half is None else "wilson",
    "count": 2000,
    "unit": "%",
    "better": "lower",
    "dataset": "shapes",
    "split": "test",
    "source": "procedural",
  }
  return Metric(name=name, value=value, **{**fields, **changes})


def make_settings(objective="erm", seed=0, **train):
  return {
    "name": f"demo_{objective}",
    "seed": seed,
    "data": {"name": "shapes"},
    "model": {"name": "wrn-10-1"},
    "augment": {"policy": {"name": "none"}},
    "objective": {"name": objective},
    "train": {"epochs": 6.0, **train},
    "runtime": {"cpu_devices": seed},
    "report": {"num_samples": 8},
  }


def make_results(objective="erm", error=10.0, seed=0, **changes):
  losses = [{"step": step, "loss": 2 / step, "speed": 5.0} for step in (1, 2, 4)]
  bins = [
    {"step": 0, "low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
    {"step": 1, "low": 0.5, "high": 1.0, "count": 9, "confidence": 0.8, "accuracy": 0.7},
  ]
  fields = {
    "name": f"demo_{objective}",
    "settings": make_settings(objective, seed),
    "config_hash": "abc123",
    "environment": {
      "versions": {"jax": "0.10.2"},
      "hardware": {"platform": "cpu", "device_count": 2, "cpu": "Some CPU", "cores": 2},
      "git": {"commit": "0123456789abcdef", "dirty": False},
    },
    "command": "python -m mixboost_jax.main --config=configs/demo.py",
    "started": "2025-07-01T12:00:00+00:00",
    "seconds": {"train": 90.0, "evaluate": 3.0},
    "metrics": (make_metric(value=error), make_metric("ece", error / 5, 0.5)),
    "curves": {"train": losses, "reliability/shapes": bins},
    "samples": {},
  }
  return Results(**{**fields, **changes})


def make_png(colour=0):
  """A PNG of one grey pixel."""

  def chunk(kind, body):
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check

  header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
  pixels = chunk(b"IDAT", zlib.compress(bytes([0, colour])))
  return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.fixture
def make():
  """Factories: `make.metric`, `make.results`, `make.settings`, `make.png`."""

  class Factories:
    metric = staticmethod(make_metric)
    results = staticmethod(make_results)
    settings = staticmethod(make_settings)
    png = staticmethod(make_png)

  return Factories
