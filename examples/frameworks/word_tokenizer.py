"""A tokenizer of whole words, which scripts use without a download."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

WORDS = ["<pad>", "<eos>", "<unk>", *(f"w{number}" for number in range(1021))]
VOCABULARY = len(WORDS)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows w0 to w1020."""
    model = WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
