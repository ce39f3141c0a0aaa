"""TRL: supervised fine-tuning of a small Llama on texts of one length."""

from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer
from word_tokenizer import VOCABULARY, word_tokenizer

config = LlamaConfig(
    hidden_size=256,
    intermediate_size=704,
    num_hidden_layers=4,
    num_attention_heads=4,
    vocab_size=VOCABULARY,
)
texts = [
    {"text": " ".join(f"w{(row + place) % 1000}" for place in range(128))} for row in range(64)
]
options = SFTConfig(
    "output",
    max_steps=4,
    per_device_train_batch_size=8,
    max_length=128,
    bf16=True,
    report_to="none",
    save_strategy="no",
)
trainer = SFTTrainer(
    LlamaForCausalLM(config),
    options,
    train_dataset=Dataset.from_list(texts),
    processing_class=word_tokenizer(),
)
trainer.train()
