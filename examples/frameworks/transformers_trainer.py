"""Hugging Face Trainer: a small BERT, evaluated each epoch; the best checkpoint is loaded."""

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

LENGTH, ROWS = 128, 64


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Texts of one length, with labels."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.full((LENGTH,), index), "labels": torch.tensor(index % 2)}


config = BertConfig(
    hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
)
options = TrainingArguments(
    "output",
    num_train_epochs=2,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=16,
    eval_strategy="epoch",
    save_strategy="epoch",
    load_best_model_at_end=True,
    bf16=True,
    report_to="none",
)
model = BertForSequenceClassification(config)
Trainer(model, options, train_dataset=Rows(), eval_dataset=Rows()).train()
