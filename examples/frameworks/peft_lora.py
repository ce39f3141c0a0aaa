"""PEFT: LoRA on a small Llama; with "qlora" its weights are in NF4 with quantised scales."""

import sys

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

BATCH, LENGTH, VOCABULARY = 4, 256, 8192


def allocated() -> int:
    """Return the requested bytes of PyTorch's allocator that are alive."""
    return torch.cuda.memory_stats()["requested_bytes.all.current"]


config = LlamaConfig(
    hidden_size=512,
    intermediate_size=1408,
    num_hidden_layers=4,
    num_attention_heads=8,
    vocab_size=VOCABULARY,
)
LlamaForCausalLM(config).save_pretrained("base")
nf4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)
model = AutoModelForCausalLM.from_pretrained(
    "base",
    dtype=torch.bfloat16,
    device_map={"": 0},
    quantization_config=nf4 if "qlora" in sys.argv else None,
)
print(f"weights: {allocated()} bytes")
if "qlora" in sys.argv:
    model = prepare_model_for_kbit_training(model)
before = allocated()
model = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
print(f"adapters: {allocated() - before} bytes")
optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad])
for step in range(3):
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH)).cuda()
    model(input_ids=tokens, labels=tokens).loss.backward()
    before = allocated()
    optimizer.step()
    if step == 0:
        print(f"states: {allocated() - before} bytes")
    optimizer.zero_grad()
