"""Low-rank adapters (Hu et al. 2021) on a Hugging Face model: they alone are trained, travel and are kept.

The model is made from a configuration, so nothing is downloaded; `AutoModelForCausalLM.from_pretrained(…)` takes its place.
`dsgd train examples/lora.py -n 2`
"""

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

import dsgd


class Counting(torch.utils.data.Dataset):
    """Sentences that count upwards, by steps of one to five."""

    def __len__(self):
        return 512

    def __getitem__(self, index):
        words = (torch.arange(16) * (index % 5 + 1) + index) % 96
        return {"input_ids": words, "labels": words}


class Tune(dsgd.torch.Torch):
    rank: int = 8
    batch_size = 16
    perplexity = True
    defaults = ["--optimizer", "adamw", "--learning-rate", "0.02", "--epochs", "3"]

    def model(self):
        base = GPT2LMHeadModel(GPT2Config(vocab_size=96, n_positions=16, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.0))
        return get_peft_model(base, LoraConfig(r=self.rank, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True))

    def data(self):
        return Counting(), None


if __name__ == "__main__":
    dsgd.main(Tune)
