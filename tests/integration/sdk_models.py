"""Small models as Hugging Face's libraries save them, with random weights."""

import json


def save_weights(folder, *, shard_size="2MB", **sizes):
    """Save a model of several shards, and nothing else; return it. The sizes are of its configuration."""
    import torch  # noqa: PLC0415
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(3)
    small = {
        "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**small | sizes)).to(torch.bfloat16)
    model.generation_config = GenerationConfig(max_new_tokens=7, do_sample=False)
    model.save_pretrained(folder, max_shard_size=shard_size)
    return model


def save_llama(folder):
    """Save a model of several shards with a tokenizer of two words; return it."""
    model = save_weights(folder)
    vocabulary = {"[UNK]": 0, "a": 1, "b": 2}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
        "decoder": None, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return model


def save_pipeline(folder):
    """Save a pipeline in two variants, and files that nobody should read."""
    import torch  # noqa: PLC0415
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel  # noqa: PLC0415

    torch.manual_seed(4)
    unet = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, norm_num_groups=8,
        block_out_channels=(32, 64), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipeline = DDPMPipeline(unet=unet, scheduler=DDPMScheduler(num_train_timesteps=10))
    pipeline.save_pretrained(folder)
    pipeline.to(torch.float16).save_pretrained(folder, variant="fp16")
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "all-in-one.safetensors").write_bytes(b"for other programs")
