# SPDX-License-Identifier: Apache-2.0
"""The pictures of README: what goes into a step, and what came out of the two runs of the demo.

python -m docs.pictures
"""

import base64
import io
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mixboost_jax import augment, files, masks
from mixboost_jax.data import shapes
from mixboost_jax.report import svg, titles

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / "docs/_static"
RUNS = {"baseline": "plain", "pixmix_boost": "PixMix + boost"}
ERRORS = ("error", "mean_error_severity_3")
SETS = {
  "shapes": "test pictures",
  "shapes-c": "15 corruptions",
  "shapes-occluded": "30 % painted over",
  "shapes-pgd": "attacked by PGD",
  "shapes-conflicting": "cues in conflict",
}
TILES, SIDE = 6, 36
LEFT, WIDTH, HEIGHT = 122, 340, 196  # two stand side by side in README and docs


def rows() -> dict[str, np.ndarray]:
  """Returns pictures of the procedural set, as they are, augmented and masked."""
  key = jax.random.key(4)
  images = jnp.float32(shapes.generate(np.arange(TILES), texture_agreement=0.9).images) / 255
  mixing = augment.mixing_images(key, 24, size=36)
  mixed = augment.pixmix(key, images, mixing)
  mask = masks.sample_patch_mask(jax.random.split(key, TILES), grid=8, keep_rate=0.7)
  views = {"pictures": images, "augmented": mixed, "masked view": masks.apply(mixed, mask)}
  return {name: np.asarray(view) for name, view in views.items()}


def incoming() -> svg.Markup:
  """Draws the pictures, a row each."""
  body = []
  for line, (name, pictures) in enumerate(rows().items()):
    top = 26 + line * (SIDE + 12)
    levels = np.rint(np.concatenate(list(pictures), axis=1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "png", optimize=True)
    href = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    size = {"width": TILES * SIDE, "height": SIDE, "style": "image-rendering: pixelated"}
    body.append(svg.text(LEFT - 8, top + SIDE / 2 + 4, name, "end"))
    body.append(svg.element("image", href=href, x=LEFT, y=top, **size))
  return svg.join([svg.text(LEFT, 14, "what goes in", "start", "strong"), *body])


def outgoing() -> svg.Markup:
  """Draws the errors of the demo with their intervals, as results/demo_*.json has them."""
  bars = svg.Scale(0, 100, LEFT, WIDTH - 12)
  body = [svg.text(LEFT, 14, "what comes out: error in %", "start", "strong")]
  for colour, (run, title) in enumerate(RUNS.items()):
    found = json.loads((ROOT / f"results/demo_{run}.json").read_text(encoding="utf-8"))
    errors = {m["dataset"]: m for m in found["metrics"] if m["name"] in ERRORS}
    body.append(svg.text(bars.start + 80 * colour, 32, title, "start", f"label c{colour}"))
    for place, name in enumerate(SETS):
      top, one = 42 + 31 * place + 14 * colour, errors[name]
      if colour == 0:
        body.append(svg.text(bars.start - 8, top + 17, SETS[name], "end"))
      body.append(svg.bar(bars.start, top, bars(one["value"]) - bars.start, 12, colour))
      kind = f"whisker c{colour}"
      body.append(svg.stroke(bars(one["low"]), top + 6, bars(one["high"]), top + 6, kind))
      words = titles.number(one["value"], "%")
      body.append(svg.text(bars(one["high"]) + 5, top + 10, words, "start", "value"))
  return svg.join(body)


def main() -> None:
  """Writes the pictures."""
  for name, draw in (("views", incoming), ("errors", outgoing)):
    path = OUT / f"{name}.svg"
    chart = svg.figure(name, "", WIDTH, HEIGHT, [draw()])
    files.write_text(path, svg.alone(chart, "", ()))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
  main()
