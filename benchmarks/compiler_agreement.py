# SPDX-License-Identifier: Apache-2.0
"""Whether the compiler changes what the functions of the registries return.

usage: PYTHONPATH=. JAX_PLATFORMS=cpu python benchmarks/compiler_agreement.py [--only GROUP ...]
         [--eager-seconds=60]

Every augmentation, corruption, film, loss, metric, attack and estimator runs compiled as it comes,
compiled without the fusions that XLA:CPU hands to YNNPACK, and operation by operation; arrays are
large enough for the wrong sums of jaxlib 0.10.2 (more than 32,768 rows). `fusions` counts those
that the compiled program contains: without any the fault cannot occur. Results of several versions
stand side by side in the JSON, one entry per jaxlib; `mean` compares them.

`off` is the share of values that differ by more than `TOLERANCE` of the largest. Pictures are
rounded to 8-bit levels and attacks follow signs of gradients, so rounding may move a few of them;
bfloat16 resolves 4e-3. Cases that the JSON has for this jaxlib are not run again.

The slow reductions of jax issue 37465 are fusions of the same kind: where the runtime switches them
off (`runtime.platform.avoid_wrong_fusions`), no program contains one.
"""

import argparse
import functools
import json
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import attacks, augment, corruptions, files, interactions, losses, metrics, models
from mixboost_jax.interactions import _exact
from mixboost_jax.runtime import environment

WITHOUT_FUSIONS: Any = {"xla_cpu_experimental_ynn_fusion_type": ""}
TOLERANCE = 1e-4
NUM_IMAGES, NUM_ROWS = 33, 33_000  # 33 pictures of 32x32 have 33,792 pixels
POLICIES = {
  "cutout": {"length": 8},
  "gaussian_blur": {"radius": 3},
  "gaussian_noise": {"sigma": 0.1},
  "random_crop": {"padding": 4},
  "random_resized_crop": {"size": 32},
}
ATTACK_OPTIONS = {
  "pgd": {"num_steps": 2, "step_size": 0.01},
  "momentum_pgd": {"num_steps": 2, "step_size": 0.01},
  "apgd": {"num_steps": 4},
  "square": {"num_queries": 8},
  "transfer": {"num_steps": 2},
}
Case = tuple[str, Callable, tuple[Any, ...]]


@functools.cache
def pictures() -> tuple[jax.Array, jax.Array]:
  rng = np.random.default_rng(0)
  coarse = np.kron(rng.uniform(size=(NUM_IMAGES, 8, 8, 3)), np.ones((1, 4, 4, 1)))
  images = np.floor((0.7 * coarse + 0.3 * rng.uniform(size=(NUM_IMAGES, 32, 32, 3))) * 255) / 255
  return jnp.asarray(images, jnp.float32), jnp.arange(NUM_IMAGES) % 10


@functools.cache
def network(compute_dtype: str = "float32") -> Callable:
  key = jax.random.key(0)
  model = models.create("wrn-10-1", num_classes=10, key=key, compute_dtype=compute_dtype)
  return models.logits_fn(model)


def augmentations() -> Iterator[Case]:
  images, labels = pictures()
  mixing = jnp.asarray(np.random.default_rng(1).integers(0, 256, (5, 36, 36, 3)), jnp.uint8)
  for name in sorted(augment.AUGMENTATIONS):
    policy = augment.build({"name": name, **POLICIES.get(name, {})}, mixing_images=mixing)
    yield name, policy, (jax.random.key(1), images, jax.nn.one_hot(labels, 10))


def corrupted() -> Iterator[Case]:
  images, _ = pictures()
  for name in sorted(corruptions.CORRUPTIONS):
    table = "cifar" if name in corruptions.SEVERITIES["cifar"] else "imagenet"
    apply = functools.partial(corruptions.corrupt, name=name, severity=3, table=table)
    yield name, apply, (jax.random.key(2), images)


def films() -> Iterator[Case]:
  images, _ = pictures()
  for name in sorted(corruptions.SEQUENCES):
    film = functools.partial(corruptions.perturb_sequence, name=name)
    yield name, jax.vmap(film), (jax.random.split(jax.random.key(3), 2), images[:2])


def logits() -> tuple[jax.Array, jax.Array, jax.Array]:
  first, second, third = jax.random.split(jax.random.key(4), 3)
  shape = (NUM_ROWS, 10)
  labels = jax.random.randint(third, (NUM_ROWS,), 0, 10)
  return 3 * jax.random.normal(first, shape), 3 * jax.random.normal(second, shape), labels


def lost() -> Iterator[Case]:
  a, b, labels = logits()
  yield "cross_entropy", losses.cross_entropy, (a, labels)
  yield "entropy", losses.entropy, (a,)
  yield "mixboost", losses.mixboost, (a, b, labels)
  yield "boost_entropy", losses.boost_entropy, (a, b)
  yield "kl_divergence", losses.kl_divergence, (a, b)
  yield "jensen_shannon", lambda *z: losses.jensen_shannon(z), (a, b, a - b)
  gradient = jax.grad(lambda a, b, labels: losses.mixboost(a, b, labels).mean())
  yield "gradient of mixboost", gradient, (a, b, labels)


def measured() -> Iterator[Case]:
  a, b, labels = logits()
  probabilities = jax.nn.softmax(a)
  for name in ("accuracy", "brier", "ece", "adaptive_ece", "rms_calibration_error", "aurra"):
    yield name, getattr(metrics, name), (probabilities, labels)
  for name in ("mad_calibration_error", "soft_f1"):
    yield name, getattr(metrics, name), (probabilities, labels)
  for name in ("nll", "nll_per_example", "fit_temperature"):
    yield name, getattr(metrics, name), (a, labels)
  for name, score in metrics.OOD_SCORES.items():
    yield name, score, (a,)
  for name in ("auroc", "aupr", "fpr_at_tpr"):
    yield name, getattr(metrics, name), (a.max(1), b.max(1) - 1)
  frames = labels[: NUM_ROWS // 30 * 30].reshape(-1, 30)
  yield "flip_rate", metrics.flip_rate, (frames,)
  ranks = metrics.rank_classes(a[: NUM_ROWS // 30 * 30].reshape(-1, 30, 10))
  yield "top5_distance", metrics.top5_distance, (ranks,)
  yield "zipf_distance", metrics.zipf_distance, (ranks,)


def attacked() -> Iterator[Case]:
  images, labels = pictures()
  for name, attack in attacks.ATTACKS.items():
    options = {"epsilon": 8 / 255, **ATTACK_OPTIONS.get(name, {})}
    run = functools.partial(attack, **options)
    fn = functools.partial(lambda run, logits_fn, k, x, y: run(k, logits_fn, x, y), run, network())
    yield name, fn, (jax.random.key(5), images, labels)


def forwards() -> Iterator[Case]:
  images, labels = pictures()
  for dtype in ("float32", "bfloat16"):
    yield f"logits, {dtype}", network(dtype), (images,)
  logits_fn = network()
  gradient = jax.grad(lambda x: losses.cross_entropy(logits_fn(x), labels).mean())
  yield "gradient in the pictures", gradient, (images,)


def estimated() -> Iterator[Case]:
  image, key = pictures()[0][0], jax.random.key(6)
  table, logits_fn = jax.random.normal(key, (2**8,)), network()

  def multi_order(key, image):
    game = interactions.image_game(logits_fn, image, 0, grid=4, fill=0.5)
    pairs = np.array([[0, 1], [5, 6]])
    return interactions.multi_order(key, game, orders=(2, 7), pairs=pairs, num_contexts=4)

  def shapley(key, image):
    game = interactions.image_game(logits_fn, image, 0, grid=4, fill=0.5)
    return interactions.shapley(key, game, num_orders=4)

  yield "multi_order", multi_order, (key, image)
  yield "shapley", shapley, (key, image)
  for name in ("multi_order", "shapley", "shapley_interaction", "harsanyi"):
    function = getattr(_exact, name)
    yield f"exact.{name}", lambda t, f=function: f(interactions.table_game(t)), (table,)


GROUPS = {
  "augmentations": augmentations,
  "corruptions": corrupted,
  "films": films,
  "losses": lost,
  "metrics": measured,
  "attacks": attacked,
  "networks": forwards,
  "estimators": estimated,
}


def numbers(tree: Any) -> np.ndarray:
  leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
  return np.concatenate(leaves)


def written(number: Any) -> float | str:
  """JSON has no name for NaN and infinity."""
  return float(number) if np.isfinite(number) else str(number)


def difference(ours: np.ndarray, reference: np.ndarray) -> dict[str, float | str]:
  largest = max(float(np.abs(reference).max()), 1e-30)
  gap = np.abs(ours - reference) / largest
  gap = np.where(np.isnan(ours) & np.isnan(reference), 0.0, np.where(np.isnan(gap), np.inf, gap))
  return {"largest": written(gap.max()), "off": float((gap > TOLERANCE).mean())}


def too_slow(*_: Any) -> None:
  raise TimeoutError


def eagerly(function: Callable, arguments: tuple[Any, ...], seconds: int) -> np.ndarray | None:
  signal.signal(signal.SIGALRM, too_slow)
  signal.alarm(seconds)
  try:
    with jax.disable_jit():
      return numbers(function(*arguments))
  except TimeoutError:
    return None
  finally:
    signal.alarm(0)


def compare(function: Callable, arguments: tuple[Any, ...], seconds: int) -> dict[str, Any]:
  program = jax.jit(function).lower(*arguments)
  compiled, plain = program.compile(), program.compile(WITHOUT_FUSIONS)
  result, expected = numbers(compiled(*arguments)), numbers(plain(*arguments))
  row: dict[str, Any] = {
    "fusions": (compiled.as_text() or "").count("__ynn_fusion"),
    "mean": written(result.mean()),
    "against_no_fusions": difference(result, expected),
  }
  eager = eagerly(function, arguments, seconds)
  row["against_eager"] = "too slow" if eager is None else difference(result, eager)
  row["no_fusions_against_eager"] = "too slow" if eager is None else difference(expected, eager)
  return row


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
  parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
  parser.add_argument("--eager-seconds", type=int, default=60)
  parser.add_argument("--out", default="results/benchmarks/compiler_agreement.json")
  args = parser.parse_args()
  path = pathlib.Path(args.out)
  report = json.loads(path.read_text()) if path.exists() else {}
  entry = report.setdefault(environment.versions()["jaxlib"], {})
  entry["environment"] = environment.describe()
  command, known = shlex.join(["python", *sys.argv]), entry.setdefault("commands", [])
  known.extend([command] if command not in known else [])
  rows = entry.setdefault("cases", {})
  for group in args.only:
    for name, function, arguments in GROUPS[group]():
      if name in rows.get(group, {}):
        continue
      print(group, name, end=" ", flush=True)  # before: a fault of the compiler may end the process
      try:
        row = compare(function, arguments, args.eager_seconds)
      except (TypeError, jax.errors.JAXTypeError) as error:
        row = {"not compiled as one program": str(error).splitlines()[0]}
      rows.setdefault(group, {})[name] = row
      print(json.dumps(row), flush=True)
      files.write_json(path, report)


if __name__ == "__main__":
  main()
