"""Pure torch: the tokenizer, the network, and their checkpoints."""

from kronos.model.checkpoint import FAMILY
from kronos.model.config import MODEL_PRESETS, TOKENIZER_PRESETS, KronosConfig, TokenizerConfig
from kronos.model.network import Kronos, token_loss
from kronos.model.tokenizer import KronosTokenizer, tokenizer_loss

__all__ = [
    "FAMILY",
    "MODEL_PRESETS",
    "TOKENIZER_PRESETS",
    "Kronos",
    "KronosConfig",
    "KronosTokenizer",
    "TokenizerConfig",
    "token_loss",
    "tokenizer_loss",
]
