"""The three networks of MTCNN, from coarse to fine.

Zhang et al. 2016, "Joint face detection and alignment using multi-task cascaded convolutional networks"; layers and
key names of the weights that facenet-pytorch publishes. Letters: N crops, H W pixels.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

PLACES = ("face/mtcnn_pnet.pt", "face/mtcnn_rnet.pt", "face/mtcnn_onet.pt")
"""The weights, relative to the weights folder."""


def _pool(size: int) -> nn.MaxPool2d:
    # The weights come from Caffe, which rounds the size of a pooled map up.
    return nn.MaxPool2d(size, 2, ceil_mode=True)


class ProposalNet(nn.Module):
    """Looks at every 12x12 window of an image, 2 pixels apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1, self.pool1 = nn.Conv2d(3, 10, 3), nn.PReLU(10), _pool(2)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W) in [-1, 1] to face probability (N, h, w) and box correction (N, 4, h, w)."""
        maps = self.pool1(self.prelu1(self.conv1(images)))
        maps = self.prelu3(self.conv3(self.prelu2(self.conv2(maps))))
        return self.conv4_1(maps).softmax(1)[:, 1], self.conv4_2(maps)


class RefineNet(nn.Module):
    """Looks at crops of 24x24 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1, self.pool1 = nn.Conv2d(3, 28, 3), nn.PReLU(28), _pool(3)
        self.conv2, self.prelu2, self.pool2 = nn.Conv2d(28, 48, 3), nn.PReLU(48), _pool(3)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Map crops (N, 3, 24, 24) in [-1, 1] to face probability (N,) and box correction (N, 4)."""
        maps = self.pool1(self.prelu1(self.conv1(crops)))
        maps = self.pool2(self.prelu2(self.conv2(maps)))
        features = self.prelu4(self.dense4(_flat(self.prelu3(self.conv3(maps)))))
        return self.dense5_1(features).softmax(1)[:, 1], self.dense5_2(features)


class OutputNet(nn.Module):
    """Looks at crops of 48x48 pixels, and finds eyes, nose and corners of the mouth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1, self.pool1 = nn.Conv2d(3, 32, 3), nn.PReLU(32), _pool(3)
        self.conv2, self.prelu2, self.pool2 = nn.Conv2d(32, 64, 3), nn.PReLU(64), _pool(3)
        self.conv3, self.prelu3, self.pool3 = nn.Conv2d(64, 64, 3), nn.PReLU(64), _pool(2)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map crops (N, 3, 48, 48) to face probability (N,), box correction (N, 4) and landmarks (N, 5, 2).

        The landmarks are x and y as shares of the crop: left eye, right eye, nose, left and right corner of the mouth,
        left being left in the picture.
        """
        maps = self.pool1(self.prelu1(self.conv1(crops)))
        maps = self.pool2(self.prelu2(self.conv2(maps)))
        maps = self.pool3(self.prelu3(self.conv3(maps)))
        features = self.prelu5(self.dense5(_flat(self.prelu4(self.conv4(maps)))))
        points = self.dense6_3(features).reshape(-1, 2, 5).transpose(1, 2)
        return self.dense6_1(features).softmax(1)[:, 1], self.dense6_2(features), points


def _flat(maps: Tensor) -> Tensor:
    """Flatten (N, C, H, W) with the columns outermost, the order that the dense layers were trained in."""
    return maps.permute(0, 3, 2, 1).flatten(1)


class Mtcnn(nn.Module):
    """The three networks together; `detection.detect` runs them."""

    def __init__(self) -> None:
        super().__init__()
        self.proposal, self.refine, self.output = ProposalNet(), RefineNet(), OutputNet()


def load_mtcnn(weights: Path) -> Mtcnn:
    """Load the networks from the weights folder, ready to detect.

    Raises:
        ValueError: A file does not hold the tensors of its network.
    """
    networks = Mtcnn()
    for network, place in zip((networks.proposal, networks.refine, networks.output), PLACES, strict=True):
        tensors = torch.load(weights / place, map_location="cpu", weights_only=True)
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{weights / place} does not fit {type(network).__name__}: {error}") from error
    return networks.eval().requires_grad_(False)
