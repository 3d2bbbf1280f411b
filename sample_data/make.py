"""Make the files of ``sample_data/``: what a small trained network does to handwritten digits.

Run once, by hand, with PyTorch 2.13, scikit-learn, NumPy and h5py; the project itself needs only the last two::

    python sample_data/make.py                 everything
    python sample_data/make.py checkpoints     before/ and after/, from the network in digits.h5

A convolutional network with two GroupNorm layers learns scikit-learn's bundled digits (8 x 8 pixels). Then the
first test images, which it has never seen, go through it once, and what enters and leaves each GroupNorm is kept,
with the layers' gamma and beta. At last it learns for one more epoch, in which its norms are frozen: before/ and
after/ are its checkpoints. README.md, in the same folder, describes each file.

Notes
-----
The seeds are fixed and PyTorch keeps to one thread, so the same versions on the same machine give the same bytes.
Another processor may round otherwise, and training makes such a difference grow: gamma, beta and the activations
would then be others, as good as these.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import sklearn
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
SEED = 0
EPOCHS = 60
BATCH_SIZE = 32
LEARNING_RATE = 3e-3

PIXEL_MAX = 16
"""The digits' pixels count from 0 to 16."""

NUM_SAMPLES = 128
"""Samples in digits.h5: about 1.5 MB, three quarters of the whole."""

NUM_SAMPLES_SMALL = 64
"""Samples in the .npy files, the first of those in digits.h5."""

CHUNK_SAMPLES = 24
"""Samples in a chunk of norm2's datasets. It does not divide NUM_SAMPLES, so that the last chunk is a partial one."""

SHARDS = (("conv1", "norm1", "conv2"), ("norm2", "linear"))
"""The modules in each shard of a checkpoint."""

MIN_ACCURACY = 0.95
MAX_DIFFERENCE = 4e-6
"""The largest difference between PyTorch's float32 output and a float64 one that is PyTorch's own rounding."""

MIN_PARAMETER_CHANGE = 0.05
"""The least root mean square distance of gamma from 1 and of beta from 0, for a layer to count as trained."""


class Layer(NamedTuple):
    """One GroupNorm layer as it was used: what came in, what went out, and all that lies between.

    Attributes
    ----------
    input, output : ndarray of float32, shape (N, C, H, W)
        The activations before the layer, and PyTorch's own result for them.
    gamma, beta : ndarray of float32, shape (C,)
        The learned scale and shift.
    num_groups : int
        Groups the C channels are divided into.
    eps : float
        Added to the variance.
    """

    input: npt.NDArray[np.float32]
    gamma: npt.NDArray[np.float32]
    beta: npt.NDArray[np.float32]
    output: npt.NDArray[np.float32]
    num_groups: int
    eps: float


class DigitsNet(nn.Module):
    """Two convolutions, each followed by GroupNorm and ReLU, then an average pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.norm1 = nn.GroupNorm(4, 16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(8, 32)
        self.pool = nn.AvgPool2d(2)
        self.linear = nn.Linear(32 * 2 * 2, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the ten scores of each image.

        Parameters
        ----------
        images : Tensor of float32, shape (N, 1, 8, 8)
            Pixels from 0 to 1.

        Returns
        -------
        Tensor of float32, shape (N, 10)
            A score for each digit; the largest is the answer.
        """
        x = functional.relu(self.norm1(self.conv1(images)))
        x = functional.relu(self.norm2(self.conv2(x)))
        return self.linear(self.pool(x).flatten(1))


def load_split() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the digits, three quarters to train with and one quarter to test with.

    Returns
    -------
    train_images, test_images : Tensor of float32, shape (N, 1, 8, 8)
        Pixels from 0 to 1; the division by 16 is exact.
    train_labels, test_labels : Tensor of int64, shape (N,)
        The digits shown, 0 to 9.
    """
    digits = load_digits()
    images = (digits.images / PIXEL_MAX).astype(np.float32)[:, np.newaxis]
    labels = digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = (
        torch.from_numpy(part)
        for part in train_test_split(images, labels, test_size=0.25, random_state=SEED, stratify=labels)
    )
    return train_images, test_images, train_labels, test_labels


def train(net: DigitsNet, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Train the network in place, with Adam and a learning rate that falls to zero.

    Parameters
    ----------
    net : DigitsNet
        The network, changed in place, as far as its parameters are not frozen.
    images : Tensor of float32, shape (N, 1, 8, 8)
        Pixels from 0 to 1.
    labels : Tensor of int64, shape (N,)
        The digits shown.
    epochs : int
        How often all images are shown.
    """
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH_SIZE):
            optimizer.zero_grad()
            functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
        scheduler.step()
    net.eval()


@torch.no_grad()
def get_accuracy(net: DigitsNet, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images that the network names rightly, from 0 to 1.

    Parameters
    ----------
    net : DigitsNet
        The trained network.
    images : Tensor of float32, shape (N, 1, 8, 8)
        Pixels from 0 to 1.
    labels : Tensor of int64, shape (N,)
        The digits shown.

    Returns
    -------
    float
        The accuracy.
    """
    return float((net(images).argmax(dim=1) == labels).double().mean())


@torch.no_grad()
def get_layers(net: DigitsNet, images: torch.Tensor) -> dict[str, Layer]:
    """Return both GroupNorm layers with the activations of one batch.

    Parameters
    ----------
    net : DigitsNet
        The trained network.
    images : Tensor of float32, shape (N, 1, 8, 8)
        Pixels from 0 to 1.

    Returns
    -------
    dict of str to Layer
        The layers ``norm1`` and ``norm2``.
    """
    inputs1 = net.conv1(images).contiguous()
    outputs1 = apply_norm(net.norm1, inputs1)
    inputs2 = net.conv2(functional.relu(outputs1)).contiguous()
    outputs2 = apply_norm(net.norm2, inputs2)
    return {
        name: Layer(
            input=inputs.numpy(),
            gamma=norm.weight.numpy(),
            beta=norm.bias.numpy(),
            output=outputs.numpy(),
            num_groups=norm.num_groups,
            eps=norm.eps,
        )
        for name, norm, inputs, outputs in (
            ("norm1", net.norm1, inputs1, outputs1),
            ("norm2", net.norm2, inputs2, outputs2),
        )
    }


def apply_norm(norm: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
    """Return PyTorch's own group normalization of x, with the layer's gamma and beta.

    Parameters
    ----------
    norm : GroupNorm
        The trained layer.
    x : Tensor of float32, shape (N, C, H, W)
        The layer's input.

    Returns
    -------
    Tensor of float32, shape (N, C, H, W)
        The layer's output.
    """
    return functional.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def get_difference(layer: Layer) -> float:
    """Return the largest absolute difference between PyTorch's output and the definition in float64.

    Parameters
    ----------
    layer : Layer
        The layer, with PyTorch's output.

    Returns
    -------
    float
        The largest absolute difference of any element.
    """
    x = layer.input.astype(np.float64)
    cells = x.reshape(len(x), layer.num_groups, -1)
    mean = cells.mean(axis=2, keepdims=True)
    var = cells.var(axis=2, keepdims=True)
    z = ((cells - mean) / np.sqrt(var + layer.eps)).reshape(x.shape)
    y = z * layer.gamma.reshape(1, -1, 1, 1) + layer.beta.reshape(1, -1, 1, 1)
    return float(np.abs(y - layer.output).max())


def check(name: str, layer: Layer) -> None:
    """Refuse a layer that has hardly learned, or whose output is not what the formula says.

    Parameters
    ----------
    name : str
        The layer's name, for the message.
    layer : Layer
        The layer to check.

    Raises
    ------
    RuntimeError
        If gamma or beta is about where it began, or the output differs by more than PyTorch's rounding.
    """
    for parameter, start in (("gamma", 1), ("beta", 0)):
        change = float(np.sqrt(np.mean(np.square(getattr(layer, parameter) - start))))
        if change < MIN_PARAMETER_CHANGE:
            raise RuntimeError(f"{name}: {parameter} has moved only {change:.3g} from {start}; train longer")
    difference = get_difference(layer)
    if not difference < MAX_DIFFERENCE:
        raise RuntimeError(f"{name}: PyTorch's output differs from the definition by {difference:.3g}")


def write_hdf5(path: Path, net: DigitsNet, layers: dict[str, Layer], accuracy: float) -> None:
    """Write the layers and the kernels, a group for each.

    norm1 is contiguous; norm2's activations are in compressed chunks, so that both ways of storing are exercised.

    Parameters
    ----------
    path : Path
        The file to write; one that exists is replaced.
    net : DigitsNet
        The trained network, for its kernels.
    layers : dict of str to Layer
        The GroupNorm layers.
    accuracy : float
        The share of test images named rightly, kept as an attribute.
    """
    descriptions = {
        "norm1": "GroupNorm after conv1 of a network trained on handwritten digits; NCHW, contiguous",
        "norm2": "GroupNorm after conv2 of a network trained on handwritten digits; NCHW, chunked, gzip and shuffle",
    }
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs["description"] = "A convolutional network with two GroupNorm layers on scikit-learn's digits"
        file.attrs["versions"] = f"PyTorch {torch.__version__.split('+')[0]}, scikit-learn {sklearn.__version__}"
        file.attrs["test_accuracy"] = accuracy
        for name, layer in layers.items():
            group = file.create_group(name)
            group.attrs["num_groups"] = layer.num_groups
            group.attrs["eps"] = layer.eps
            group.attrs["description"] = descriptions[name]
            group["gamma"] = layer.gamma
            group["beta"] = layer.beta
            for part, data in (("input", layer.input), ("output", layer.output)):
                if name == "norm1":
                    group.create_dataset(part, data=data)
                else:
                    chunks = (CHUNK_SAMPLES, *data.shape[1:])
                    group.create_dataset(
                        part, data=data, chunks=chunks, compression="gzip", compression_opts=9, shuffle=True
                    )
        modules: dict[str, nn.Conv2d | nn.Linear] = {"conv1": net.conv1, "conv2": net.conv2, "linear": net.linear}
        for name, module in modules.items():
            if module.bias is None:
                raise RuntimeError(f"{name} has no bias")
            group = file.create_group(name)  # not by assignment to a path: such a group would hold the time of day
            group["kernel"] = module.weight.detach().numpy()
            group["bias"] = module.bias.detach().numpy()


def write_arrays(folder: Path, layers: dict[str, Layer], images: torch.Tensor) -> None:
    """Write the .npy files, all in C order, all of the same first samples.

    Parameters
    ----------
    folder : Path
        Where the files go; those that exist are replaced.
    layers : dict of str to Layer
        The GroupNorm layers.
    images : Tensor of float32, shape (N, 1, 8, 8)
        The images that gave the activations, pixels from 0 to 1.
    """
    x = layers["norm1"].input[:NUM_SAMPLES_SMALL]
    pixels = np.rint(images[:NUM_SAMPLES_SMALL].numpy() * 255).astype(np.uint8)
    arrays = {
        "activations": x,
        "activations_nhwc": x.transpose(0, 2, 3, 1),
        "half": layers["norm2"].input[:NUM_SAMPLES_SMALL].astype(np.float16),
        "digits": pixels.transpose(0, 2, 3, 1),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array))


def load_network(path: Path) -> DigitsNet:
    """Return the network whose parameters an HDF5 file holds.

    Parameters
    ----------
    path : Path
        What `write_hdf5` wrote.

    Returns
    -------
    DigitsNet
        The network.
    """
    net = DigitsNet()
    with h5py.File(path) as file:
        names = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
        state = {
            f"{module}.{names[part]}": torch.from_numpy(data[...])
            for module, group in file.items()
            for part, data in group.items()
            if part in names
        }
    net.load_state_dict(state)
    return net


def write_checkpoint(folder: Path, net: DigitsNet) -> None:
    """Write the parameters as a checkpoint in .safetensors shards with an index, as Hugging Face does.

    Parameters
    ----------
    folder : Path
        Where the files go; those that exist are replaced.
    net : DigitsNet
        The network.
    """
    folder.mkdir(exist_ok=True)
    state = {name: np.ascontiguousarray(data.numpy(), dtype="<f4") for name, data in net.state_dict().items()}
    shard_of: dict[str, str] = {}
    for number, modules in enumerate(SHARDS, start=1):
        shard = f"model-{number:05}-of-{len(SHARDS):05}.safetensors"
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        payload = b""
        for name, data in state.items():
            if name.partition(".")[0] in modules:
                place = [len(payload), len(payload) + data.nbytes]
                header[name] = {"dtype": "F32", "shape": data.shape, "data_offsets": place}
                payload += data.tobytes()
                shard_of[name] = shard
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
        (folder / shard).write_bytes(len(text).to_bytes(8, "little") + text + payload)
    total = sum(data.nbytes for data in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(shard_of.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def make_activations() -> None:
    """Train, check, write digits.h5 and the .npy files, and say what was measured.

    Raises
    ------
    RuntimeError
        If the network has not learned, or PyTorch's output is not what the formula says; nothing is written then.
    """
    train_images, test_images, train_labels, test_labels = load_split()
    net = DigitsNet()
    train(net, train_images, train_labels, EPOCHS)
    accuracy = get_accuracy(net, test_images, test_labels)
    print(f"{accuracy:.2%} of the {len(test_images)} test images are named rightly.")
    if accuracy <= MIN_ACCURACY:
        raise RuntimeError(f"an accuracy of {accuracy:.2%} is not above {MIN_ACCURACY:.0%}")

    images = test_images[:NUM_SAMPLES]
    layers = get_layers(net, images)
    for name, layer in layers.items():
        check(name, layer)
    write_hdf5(HERE / "digits.h5", net, layers, accuracy)
    write_arrays(HERE, layers, images)
    for name, layer in layers.items():
        print(f"{name}: PyTorch's output differs from NumPy's in float64 by at most {get_difference(layer):.2e}.")


def make_checkpoints() -> None:
    """Write the network of digits.h5 before and after one more epoch, in which its norms are frozen.

    Raises
    ------
    RuntimeError
        If the network has forgotten what it learned.
    """
    train_images, test_images, train_labels, test_labels = load_split()
    net = load_network(HERE / "digits.h5")
    write_checkpoint(HERE / "before", net)
    for norm in (net.norm1, net.norm2):
        norm.requires_grad_(requires_grad=False)
    train(net, train_images, train_labels, 1)
    accuracy = get_accuracy(net, test_images, test_labels)
    print(f"After one more epoch {accuracy:.2%} of the {len(test_images)} test images are named rightly.")
    if accuracy <= MIN_ACCURACY:
        raise RuntimeError(f"an accuracy of {accuracy:.2%} is not above {MIN_ACCURACY:.0%}")
    write_checkpoint(HERE / "after", net)


def main() -> None:
    """Make what the arguments name; without any, everything."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    makers = {"activations": make_activations, "checkpoints": make_checkpoints}
    for name in sys.argv[1:] or makers:
        makers[name]()


if __name__ == "__main__":
    main()
