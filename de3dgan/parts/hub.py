"""The Hugging Face Hub, where networks are passed on: weights as safetensors, with a model card.

huggingface_hub is optional. Where it is installed, what inherits from `OnHub` has its methods
``save_pretrained``, ``push_to_hub`` and ``from_pretrained``; elsewhere, they say what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from de3dgan.base.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import ModelCard


class _NotInstalled:
    """Stands for the mixin of huggingface_hub, and says that it is not installed."""

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Raise `UserError`."""
        raise UserError(
            "Networks go to the Hugging Face Hub, and come from it, by huggingface_hub and "
            "safetensors: install them with: pip install huggingface_hub safetensors"
        )

    push_to_hub = save_pretrained
    from_pretrained = classmethod(save_pretrained)


def _mixin() -> type:
    try:
        import safetensors  # noqa: F401
        from huggingface_hub import PyTorchModelHubMixin
    except ImportError:
        return _NotInstalled
    return PyTorchModelHubMixin


class OnHub(_mixin()):
    """What can be passed on by the Hub, or a folder that is as one of its repositories."""

    def card(self, said: str = "") -> str:
        """Return the model card.

        Parameters
        ----------
        said : str
            What it was trained on and what was measured, in Markdown.
        """
        raise NotImplementedError

    def generate_model_card(self, said: str = "", **data: Any) -> ModelCard:
        """Return the card as the Hub wants it, in README.md.

        Parameters
        ----------
        said : str
            See `card`.
        **data
            What else the Hub is to know, such as ``license``, see ``ModelCardData`` of
            huggingface_hub.
        """
        from huggingface_hub import ModelCard, ModelCardData

        known = ModelCardData(**{"library_name": "de3dgan", "tags": ["eeg"], **data})
        return ModelCard(f"---\n{known.to_yaml()}\n---\n\n{self.card(said)}")

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **kwargs: Any) -> OnHub:
        """Load weights, which must be exactly those of the network."""
        return super()._from_pretrained(strict=strict, **kwargs)
