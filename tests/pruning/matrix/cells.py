"""The cells of the matrix: every architecture of segmentation-models-pytorch with encoders of every family."""

import segmentation_models_pytorch as smp
from torch import nn

ARCHITECTURES = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet"),
    *("Segformer", "DPT"),
)
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
    *((arch, encoder) for arch in ARCHITECTURES for encoder in ENCODERS),
    *(("DPT", encoder) for encoder in TOKEN_ENCODERS),
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
    return smp.create_model(arch, encoder, encoder_weights=None)
