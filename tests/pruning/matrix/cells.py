"""The cells of the matrix: every architecture of segmentation-models-pytorch with encoders of every family; and MONAI.

MONAI's networks have no encoders to choose from: their names stand in the encoder's place.
"""

from collections.abc import Callable

import segmentation_models_pytorch as smp
from monai.networks import nets
from torch import Tensor, nn

_OF_SMP = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet"),
    *("Segformer", "DPT"),
)
# Scaled instance norms, group norms and grids of skips; nnU-Net's networks are made as DynUNet is.
_SCALED = ("instance", {"affine": True})
_OF_MONAI: dict[str, Callable[[], nn.Module]] = {
    "UNet": lambda: nets.UNet(2, 3, 1, (16, 32, 64, 128), (2, 2, 2), num_res_units=2, norm=_SCALED),
    "DynUNet": lambda: nets.DynUNet(2, 3, 1, [3] * 4, [1, 2, 2, 2], [2] * 3, deep_supervision=True),
    "DynUNet residual": lambda: nets.DynUNet(2, 3, 1, [3] * 4, [1, 2, 2, 2], [2] * 3, res_block=True),
    "BasicUNetPlusPlus": lambda: _First(nets.BasicUNetPlusPlus(2, 3, 1, (16, 16, 32, 64, 128, 16))),
    "SegResNet": lambda: nets.SegResNet(2, 8, 3, 1),
}
ARCHITECTURES = (*_OF_SMP, "MONAI")
ENCODERS = (
    *("resnet18", "resnet50", "mobilenet_v2", "efficientnet-b0", "timm-tf_efficientnet_lite0", "vgg11_bn"),
    *("densenet121", "se_resnet50", "resnext50_32x4d", "dpn68", "inceptionv4", "xception", "mobileone_s0", "mit_b0"),
    *("timm-skresnet18", "tu-mobilenetv3_large_100", "tu-convnext_tiny", "tu-hgnetv2_b0", "tu-regnety_002"),
    *("tu-res2net50_26w_4s", "tu-mobilenetv4_conv_small", "tu-fastvit_t8", "tu-repvit_m0_9", "tu-ghostnet_100"),
    "tu-efficientvit_b0",
)
# DPT reads the tokens of a vision transformer and nothing else.
TOKEN_ENCODERS = ("tu-vit_tiny_patch16_224",)

Cell = tuple[str, str]

CELLS: tuple[Cell, ...] = (
    *((arch, encoder) for arch in _OF_SMP for encoder in ENCODERS),
    *(("DPT", encoder) for encoder in TOKEN_ENCODERS),
    *(("MONAI", network) for network in _OF_MONAI),
)


def side(cell: Cell) -> int:
    """Height and width of the images, as small as the network allows.

    PAN pools its deepest features, 1/16 of the image, three times by two; a vision transformer takes one size only.
    """
    return 224 if cell[1] in TOKEN_ENCODERS else {"PAN": 128}.get(cell[0], 64)


def build(arch: str, encoder: str) -> nn.Module:
    """The network with random weights.

    Raises:
        Exception: whatever smp or timm raise where the two don't go together.
    """
    return _OF_MONAI[encoder]() if arch == "MONAI" else smp.create_model(arch, encoder, encoder_weights=None)


class _First(nn.Module):
    """A network that returns a list of one map, without the list."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]
