"""Built-in models: `factory(input_shape=(C, H, W), classes=K, **options) -> nn.Module`, loaded by name on demand."""

from __future__ import annotations

catalog: dict[str, str] = {
    "mlp": "reinvest.testbed.models.mlp:mlp",
    "convnet": "reinvest.testbed.models.convnet:convnet",
    "resnet8": "reinvest.testbed.models.resnet:resnet8",
    "resnet20": "reinvest.testbed.models.resnet:resnet20",
    "resnet56": "reinvest.testbed.models.resnet:resnet56",
    "resnet9": "reinvest.testbed.models.resnet9:resnet9",
    "unet": "reinvest.testbed.models.unet:unet",
    "gpt": "reinvest.testbed.models.gpt:gpt",
    "bert": "reinvest.testbed.models.bert:bert",
    "bert_classifier": "reinvest.testbed.models.bert:bert_classifier",
}
"""Name of a model -> where its factory is."""
