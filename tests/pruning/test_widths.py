import segmentation_models_pytorch as smp
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.pruning.widths import filters, per_block


def test_filters__layers_that_never_run_are_left_out() -> None:
    net = smp.Unet("timm-tf_efficientnet_lite0", encoder_weights=None)
    layers = filters(net, pruning.trace(net, (2, 3, 64, 64)).executed)
    convs = {name for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    assert convs - layers.keys() == {"encoder.conv_head"}
    assert layers["encoder.conv_stem"] == 32


def test_per_block__sums_by_hand() -> None:
    layers = {"encoder.blocks.0.0.conv_dw": 32, "encoder.blocks.0.0.conv_pw": 16, "encoder.blocks.1.0.conv_pw": 96}
    assert per_block(layers | {"segmentation_head.0": 1}) == {
        "encoder.blocks.0": 48,
        "encoder.blocks.1": 96,
        "segmentation_head.0": 1,
    }
