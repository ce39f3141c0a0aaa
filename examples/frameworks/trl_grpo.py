"""TRL: GRPO of a small Llama, whose reward is the length of its answers."""

from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer
from word_tokenizer import VOCABULARY, word_tokenizer

config = LlamaConfig(
    hidden_size=256,
    intermediate_size=704,
    num_hidden_layers=4,
    num_attention_heads=4,
    vocab_size=VOCABULARY,
    pad_token_id=0,
    eos_token_id=1,
)
options = GRPOConfig(
    "output",
    max_steps=3,
    per_device_train_batch_size=8,
    num_generations=8,
    max_completion_length=64,
    bf16=True,
    report_to="none",
    save_strategy="no",
)


def length(completions: list[str], **_: object) -> list[float]:
    """Return the reward of each answer."""
    return [float(len(one)) for one in completions]


trainer = GRPOTrainer(
    LlamaForCausalLM(config),
    reward_funcs=length,
    args=options,
    train_dataset=Dataset.from_list([{"prompt": "w1 w2 w3 w4"}] * 64),
    processing_class=word_tokenizer(),
)
trainer.train()
