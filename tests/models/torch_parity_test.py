# SPDX-License-Identifier: Apache-2.0
"""Twins of the built-in networks in PyTorch, with the same weights; skipped without torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import models

torch = pytest.importorskip("torch")
nn = torch.nn


def conv(inputs, outputs, side, stride=1):
  return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)


class WideUnit(nn.Module):
  def __init__(self, inputs, outputs, stride, rate):
    super().__init__()
    self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
    self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
    self.drop = nn.Dropout(rate)
    self.convShortcut = None if inputs == outputs else conv(inputs, outputs, 1, stride)

  def forward(self, x):
    active = self.bn1(x).relu()
    skip = x if self.convShortcut is None else self.convShortcut(active)
    return skip + self.conv2(self.drop(self.bn2(self.conv1(active)).relu()))


class WideGroup(nn.Module):
  def __init__(self, depth, inputs, outputs, stride, rate):
    super().__init__()
    first = WideUnit(inputs, outputs, stride, rate)
    rest = [WideUnit(outputs, outputs, 1, rate) for _ in range(depth - 1)]
    self.layer = nn.Sequential(first, *rest)

  def forward(self, x):
    return self.layer(x)


class Wide(nn.Module):
  def __init__(self, depth, widen, num_classes, rate=0.0):
    super().__init__()
    blocks, k = (depth - 4) // 6, 16 * widen
    self.conv1 = conv(3, 16, 3)
    self.block1 = WideGroup(blocks, 16, k, 1, rate)
    self.block2 = WideGroup(blocks, k, 2 * k, 2, rate)
    self.block3 = WideGroup(blocks, 2 * k, 4 * k, 2, rate)
    self.bn1, self.fc = nn.BatchNorm2d(4 * k), nn.Linear(4 * k, num_classes)

  def forward(self, x):
    x = self.block3(self.block2(self.block1(self.conv1(x))))
    return self.fc(self.bn1(x).relu().mean((2, 3)))


class Bottleneck(nn.Module):
  def __init__(self, inputs, width, outputs, stride):
    super().__init__()
    self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
    self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
    self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
    self.downsample = None
    if stride != 1 or inputs != outputs:
      self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

  def forward(self, x):
    skip = x if self.downsample is None else self.downsample(x)
    x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
    return (skip + self.bn3(self.conv3(x))).relu()


class Residual(nn.Module):
  def __init__(self, depths, expansion, num_classes, small):
    super().__init__()
    self.conv1, self.bn1 = conv(3, 64, 5) if small else conv(3, 64, 7, 2), nn.BatchNorm2d(64)
    self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
    self.num_groups, inputs = len(depths), 64
    for group, depth in enumerate(depths):
      units = []
      for i in range(depth):
        outputs = 64 * 2**group * expansion
        units.append(Bottleneck(inputs, 64 * 2**group, outputs, 2 if group and i == 0 else 1))
        inputs = outputs
      setattr(self, f"layer{group + 1}", nn.Sequential(*units))
    self.fc = nn.Linear(inputs, num_classes)

  def forward(self, x):
    x = self.pool(self.bn1(self.conv1(x)).relu())
    for group in range(self.num_groups):
      x = getattr(self, f"layer{group + 1}")(x)
    return self.fc(x.mean((2, 3)))


def randomised(twin):
  """Moves the entries that would otherwise be 0 or 1, so that no mistake hides behind them."""
  torch.manual_seed(0)
  with torch.no_grad():
    for module in twin.modules():
      if isinstance(module, nn.BatchNorm2d):
        module.weight.uniform_(0.5, 1.5)
        module.bias.uniform_(-0.3, 0.3)
        module.running_mean.uniform_(-0.3, 0.3)
        module.running_var.uniform_(0.7, 1.5)
  return twin


def torch_images(images):
  return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2) * 2 - 1


@pytest.mark.parametrize("name", ["wrn-40-4", "wrn-16-2"])
def test_wide_resnet(tmp_path, images, name):
  _, depth, widen = name.split("-")
  twin = randomised(Wide(int(depth), int(widen), 10)).eval()
  torch.save({"state_dict": nn.DataParallel(twin).state_dict()}, tmp_path / "w.pth.tar")
  network = models.from_torch(tmp_path / "w.pth.tar", name, num_classes=10)
  with torch.no_grad():
    expected = twin(torch_images(images)).numpy()
  assert expected.std() > 0.01
  np.testing.assert_allclose(jax.jit(network)(images), expected, atol=1e-4)


@pytest.mark.parametrize(
  ("name", "twin", "size"),
  [
    ("resnet-50", Residual((3, 4, 6, 3), 4, 1000, False), 224),
    ("mi-resnet-50", Residual((5, 5, 5), 1, 10, True), 32),
  ],
  ids=["resnet-50", "mi-resnet-50"],
)
def test_resnet(tmp_path, name, twin, size):
  twin = randomised(twin).eval()
  classes = twin.fc.out_features
  torch.save(twin.state_dict(), tmp_path / "w.pth")
  network = models.from_torch(tmp_path / "w.pth", name, num_classes=classes, image_size=size)
  images = np.random.default_rng(0).uniform(size=(2, size, size, 3)).astype(np.float32)
  with torch.no_grad():
    expected = twin(torch_images(images)).numpy()
  assert expected.std() > 0.01
  np.testing.assert_allclose(jax.jit(network)(images), expected, rtol=1e-4, atol=1e-4)


def test_two_train_mode_forwards_and_their_gradient(tmp_path, images):
  """Batch statistics, running statistics and gradients of two views as PyTorch computes them."""
  twin = randomised(Wide(10, 1, 10)).train()
  torch.save(twin.state_dict(), tmp_path / "w.pt")
  network = models.from_torch(tmp_path / "w.pt", "wrn-10-1", num_classes=10)
  pure = models.functional(network)
  masked = images * (images[..., :1] > 0.3)

  def loss(params):
    rows = jnp.stack([images, masked], axis=1).reshape(16, 32, 32, 3)
    logits, stats = pure.apply(
      params, pure.stats, rows, train=True, num_views=2, batchnorm_views="both"
    )
    difference = logits[0::2] - logits[1::2]
    return jnp.mean(jnp.square(difference)), (logits, stats)

  (_, (logits, stats)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(pure.params)
  clean_logits, masked_logits = twin(torch_images(images)), twin(torch_images(masked))
  (clean_logits - masked_logits).square().mean().backward()
  np.testing.assert_allclose(logits[0::2], clean_logits.detach().numpy(), atol=1e-4)
  np.testing.assert_allclose(logits[1::2], masked_logits.detach().numpy(), atol=1e-4)

  expected = {name: value.numpy() for name, value in twin.state_dict().items()}
  trained = models.to_torch(models.merge(network, pure.params, stats))
  for name, value in trained.items():
    np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)
  gradients = models.to_torch(models.merge(network, gradient, stats))
  for name, parameter in twin.named_parameters():
    np.testing.assert_allclose(
      gradients[name], parameter.grad.numpy(), rtol=1e-3, atol=1e-5, err_msg=name
    )
