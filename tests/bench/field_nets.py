"""Networks of the field as published, for ``--model.arch field_nets.NAME``: random weights, one output channel.

Each imports the published code from where it is installed or unpacked; PraNet, HarDNet-MSEG and Polyp-PVT all call
theirs ``lib``, so that each needs a process of its own.
"""

from typing import Any
from unittest import mock

from torch import nn


def pranet() -> nn.Module:
    """PraNet with Res2Net-50, of github.com/DengPingFan/PraNet."""
    from lib import PraNet_Res2Net as code

    make = code.res2net50_v1b_26w_4s
    with mock.patch.object(code, make.__name__, return_value=make(pretrained=False)):
        return code.PraNet()


def hardnet_mseg() -> nn.Module:
    """HarDNet-MSEG with HarDNet-68, of github.com/james128333/HarDNet-MSEG."""
    from lib import HarDMSEG as code

    make = code.hardnet
    with mock.patch.object(code, make.__name__, return_value=make(arch=68, pretrained=False)):
        return code.HarDMSEG()


def polyp_pvt() -> nn.Module:
    """Polyp-PVT with PVT-v2-B2, of github.com/DengPingFan/Polyp-PVT; its prediction is one map here, not their sum."""
    from lib import pvt

    with mock.patch("torch.load", return_value={}):
        return pvt.PolypPVT()


_STAGES: dict[str, Any] = {
    **{"input_channels": 3, "num_classes": 1, "n_stages": 5, "features_per_stage": [32, 64, 128, 256, 512]},
    **{"kernel_sizes": 3, "strides": [1, 2, 2, 2, 2], "n_conv_per_stage_decoder": [2] * 4, "deep_supervision": True},
    **{"conv_op": nn.Conv2d, "conv_bias": True, "norm_op": nn.InstanceNorm2d, "nonlin": nn.LeakyReLU},
    **{"norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin_kwargs": {"inplace": True}},
}


def plain_conv_unet() -> nn.Module:
    """nnU-Net's plain network with its usual settings, five stages."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(**_STAGES, n_conv_per_stage=[2] * 5)


def residual_encoder_unet() -> nn.Module:
    """nnU-Net's residual encoder."""
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    return ResidualEncoderUNet(**_STAGES, n_blocks_per_stage=[1, 3, 4, 6, 6])


def monai_unet() -> nn.Module:
    """MONAI's UNet with residual units."""
    from monai.networks.nets import UNet

    return UNet(2, 3, 1, channels=(32, 64, 128, 256), strides=(2, 2, 2), num_res_units=2)


def segresnet() -> nn.Module:
    """MONAI's SegResNet."""
    from monai.networks.nets import SegResNet

    return SegResNet(2, in_channels=3, out_channels=1, init_filters=16)


def dynunet() -> nn.Module:
    """MONAI's DynUNet with deep supervision: in training its maps are one tensor (N, maps, 1, H, W)."""
    from monai.networks.nets import DynUNet

    return DynUNet(2, 3, 1, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, deep_supervision=True, deep_supr_num=2)


def lraspp() -> nn.Module:
    """LR-ASPP with MobileNetV3, of torchvision."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(num_classes=1, weights=None, weights_backbone=None)
