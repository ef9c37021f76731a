#!/usr/bin/env python3
"""Compares crate gpt with Hugging Face's transformers, and makes the fixtures that its tests compare with.

    scripts/parity.py compare FOLDER TOKENS.npy LOGITS.npy    the model of FOLDER, read by transformers, against LOGITS
    scripts/parity.py random FOLDER SEED                      a model of awkward shape with tokens.npy and logits.npy
    scripts/parity.py fixtures [FOLDER]                       everything in tests/fixtures/gpt, the same each time

Needs torch, transformers, tokenizers, safetensors and gguf. LOGITS are what `gpt logits MODEL --tokens TOKENS.npy`
writes: f32 [B, T, V] for int64 [B, T].
"""

import json
import pathlib
import sys

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "tests/fixtures/gpt"
SMALL = {"vocab_size": 61, "bos_token_id": 3, "eos_token_id": 5}
GPT2 = {**SMALL, "n_embd": 36, "n_layer": 2, "n_positions": 32, "initializer_range": 0.2}
LLAMA = {
    **SMALL,
    "hidden_size": 36,
    "num_hidden_layers": 2,
    "intermediate_size": 44,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def randomise(model, seed):
    """Weights of all kinds away from what they are initialised to: no bias 0, no norm 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, x in model.named_parameters():
        noise = torch.randn(x.shape, generator=generator)
        x.data = 1 + 0.2 * noise if name.endswith(("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.2 * noise
    return model


def logits_of(model, tokens):
    with torch.no_grad():
        return model.float().eval()(torch.from_numpy(tokens)).logits.numpy()


def write_tokens_and_logits(folder, model, vocabulary, length):
    tokens = np.random.default_rng(1).integers(0, vocabulary, (2, length), dtype=np.int64)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "logits.npy", logits_of(model, tokens))


def write_model(folder, model, seed, dtype=torch.float32, **how):
    """A folder as transformers writes it, and the logits of what it then reads from there."""
    folder.mkdir(parents=True, exist_ok=True)
    randomise(model, seed).to(dtype).save_pretrained(folder, **how)
    (folder / "generation_config.json").unlink()
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    write_tokens_and_logits(folder, again, model.config.vocab_size, 24)


def as_transformers_4(folder):
    """Rewrites config.json with the fields that versions before 5 had for rotary positions."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {"type": rope["rope_type"], "factor": rope["factor"]}
    config["torch_dtype"] = config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def folders(out):
    tied = GPT2Config(**GPT2, n_head=3, n_inner=48)
    write_model(out / "gpt2-tied", GPT2LMHeadModel(tied), 1)
    erf = GPT2Config(**GPT2, n_head=4, n_inner=50, activation_function="gelu", layer_norm_epsilon=1e-3, tie_word_embeddings=False)
    write_model(out / "gpt2-erf", GPT2LMHeadModel(erf), 2, torch.bfloat16, max_shard_size="30KB")
    grouped = LlamaConfig(**LLAMA, num_attention_heads=9, num_key_value_heads=3, rope_parameters={"rope_theta": 500.0, "rope_type": "default"}, rms_norm_eps=1e-2)
    write_model(out / "llama-grouped", LlamaForCausalLM(grouped), 3, torch.bfloat16)
    scaled = LlamaConfig(
        **{**LLAMA, "max_position_embeddings": 128}, num_attention_heads=3, num_key_value_heads=1, head_dim=8, rope_parameters=LLAMA3,
        tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
    )
    write_model(out / "llama-scaled", LlamaForCausalLM(scaled), 4)
    linear = LlamaConfig(**LLAMA, num_attention_heads=6, rope_parameters={"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.5})
    write_model(out / "llama-linear", LlamaForCausalLM(linear), 5, torch.float16)
    as_transformers_4(out / "llama-linear")


def random_model(folder, seed):
    """A model whose shape is drawn as well."""
    draw = np.random.default_rng(seed)
    shape = {"vocab_size": int(draw.integers(300, 1200)), "bos_token_id": 0, "eos_token_id": 1}
    heads, of_head = int(draw.integers(1, 5)), 2 * int(draw.integers(2, 20))
    if draw.random() < 0.5:
        config = GPT2Config(
            **shape, n_embd=heads * of_head, n_head=heads, n_layer=int(draw.integers(1, 5)), n_positions=128,
            n_inner=int(draw.integers(20, 300)), activation_function=str(draw.choice(["gelu", "gelu_new"])),
            tie_word_embeddings=bool(draw.random() < 0.5),
        )
        model = GPT2LMHeadModel(config)
    else:
        rope = LLAMA3 if draw.random() < 0.5 else {"rope_type": "default", "rope_theta": float(draw.integers(50, 100000))}
        biased = bool(draw.random() < 0.5)
        config = LlamaConfig(
            **shape, hidden_size=heads * 3 * int(draw.integers(3, 20)), num_attention_heads=heads * 3, num_key_value_heads=heads,
            head_dim=of_head, num_hidden_layers=int(draw.integers(1, 5)), intermediate_size=int(draw.integers(20, 300)),
            rope_parameters=rope, tie_word_embeddings=bool(draw.random() < 0.5), attention_bias=biased, mlp_bias=biased,
        )
        model = LlamaForCausalLM(config)
    write_model(folder, model, seed)
    print(config)


# ---------------------------------------------------------------------------------------------------------------- GGUF

TYPES = gguf.GGMLQuantizationType
QUANTISED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
HALVES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2)}  # where a block has its f16


def blocks(draw, kind, rows, columns, size):
    """Random blocks whose values are about `size`; the f16 in them are finite."""
    values, width = gguf.GGML_QUANT_SIZES[kind]
    raw = draw.integers(0, 256, (rows * columns // values, width), dtype=np.uint8)
    scale = {"Q8_0": 1 / 74, "Q4_0": 1 / 5, "Q4_1": 1 / 5, "Q5_0": 1 / 10, "Q5_1": 1 / 10}
    scale |= {"Q4_K": 1 / 190, "Q5_K": 1 / 380, "Q6_K": 1 / 1400}
    least = {"Q4_1": -7.5, "Q5_1": -15.5, "Q4_K": 7.5, "Q5_K": 15.5}  # of the scale
    for i, at in enumerate(HALVES.get(kind.name, (0,))):
        x = size * scale[kind.name] * draw.uniform(0.5, 1.5, len(raw))
        raw[:, at : at + 2] = (x * (least[kind.name] if i else 1)).astype(np.float16).view(np.uint8).reshape(-1, 2)
    return raw.reshape(rows, columns // values * width)


def encodings(out):
    """Blocks of every encoding and their values, and how gguf encodes numbers."""
    draw, arrays = np.random.default_rng(7), {}
    for name in QUANTISED:
        raw = blocks(draw, TYPES[name], 2, 256, 1.0)
        arrays[f"{name.lower()}.blocks"] = raw
        arrays[f"{name.lower()}.values"] = gguf.dequantize(raw, TYPES[name])
    source = draw.standard_normal((3, 128)).astype(np.float32)
    source[1, :32] = 0
    source[2, 32:64] *= 1e-3
    arrays["source"] = source
    for name in ["Q8_0", "Q4_0", "Q4_1", "BF16"]:
        arrays[f"{name.lower()}.encoded"] = gguf.quantize(source, TYPES[name]).view(np.uint8)
    save_file(arrays, out / "encodings.safetensors")


def rows_of_gguf(heads, width):
    """Which row of rotate_half's order stands at each row of a GGUF of architecture llama."""
    return np.arange(heads * width).reshape(heads, 2, width // 2).swapaxes(1, 2).reshape(-1)


def write_gguf(path, config, kinds, size, describe):
    """A GGUF of random blocks, and the transformers model of the values that they stand for."""
    draw, model = np.random.default_rng(9), LlamaForCausalLM(config)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("A small llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    describe(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    state = {}
    for at, (name, x) in enumerate(model.state_dict().items()):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        rows, columns = (1, *x.shape)[-2:]
        if x.dim() == 1:
            raw = 1 + size * draw.standard_normal((1, columns)).astype(np.float32)
            kind, values = TYPES.F32, raw
        else:
            usable = [k for k in kinds if columns % gguf.GGML_QUANT_SIZES[TYPES[k]][0] == 0]
            kind = TYPES[usable[at % len(usable)]]
            if kind in (TYPES.F32, TYPES.F16, TYPES.BF16):
                raw = gguf.quantize((size * draw.standard_normal((rows, columns))).astype(np.float32), kind)
            else:
                raw = blocks(draw, kind, rows, columns, size)
            values = gguf.dequantize(raw.view(np.uint8), kind).reshape(rows, columns)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads:
            turned = np.empty_like(values)
            turned[rows_of_gguf(heads, config.head_dim)] = values
            values = turned
        state[name] = torch.from_numpy(values.reshape(x.shape).copy())
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), raw[0] if x.dim() == 1 else raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.load_state_dict(state, strict=not config.tie_word_embeddings)
    model.tie_weights()
    return model


def text():
    words = "the cat sat on a mat and the rat ran to that hat; then, at ten, she let the hen in. It's 12:30 in the inn."
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=289, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([words] * 4, trainer)
    return tokenizer, special


CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def ggufs(out):
    def with_text(writer):
        tokenizer, special = text()
        table = json.loads(tokenizer.to_str())["model"]
        tokens = sorted(table["vocab"], key=table["vocab"].get)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([3 if token in special else 1 for token in tokens])
        writer.add_token_merges([" ".join(pair) for pair in table["merges"]])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(False)
        writer.add_chat_template(CHAT)
        tokenizer.save(str(out / "gguf-text/tokenizer.json"))

    small = LlamaConfig(
        vocab_size=289, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=24, max_position_embeddings=64, rope_parameters={"rope_theta": 1000.0, "rope_type": "default"}, tie_word_embeddings=True,
    )
    (out / "gguf-text").mkdir(parents=True, exist_ok=True)
    kinds = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16", "BF16"]
    model = write_gguf(out / "gguf-text/model.gguf", small, kinds, 0.15, with_text)
    write_tokens_and_logits(out / "gguf-text", model, 289, 12)
    wide = LlamaConfig(
        vocab_size=61, hidden_size=256, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, max_position_embeddings=64, rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
    )
    (out / "gguf-k").mkdir(parents=True, exist_ok=True)
    model = write_gguf(out / "gguf-k/model.gguf", wide, ["Q4_K", "Q5_K", "Q6_K", "Q8_0"], 0.08, lambda writer: None)
    write_tokens_and_logits(out / "gguf-k", model, 61, 24)


def fixtures(out):
    torch.manual_seed(0)
    folders(out)
    ggufs(out)
    encodings(out)


def compare(folder, tokens, logits):
    ours = np.load(logits)
    theirs = logits_of(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), np.load(tokens))
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    greatest = np.abs(ours - theirs).max()
    print(f"greatest difference {greatest:.3g}, the same likeliest token at {100 * same:.1f} % of positions")
    sys.exit(0 if greatest <= 1e-4 else 1)


def main():
    verb, *rest = sys.argv[1:] or [""]
    if verb == "compare" and len(rest) == 3:
        compare(*rest)
    elif verb == "random" and len(rest) == 2:
        random_model(pathlib.Path(rest[0]), int(rest[1]))
    elif verb == "fixtures" and len(rest) <= 1:
        fixtures(pathlib.Path(rest[0]) if rest else FIXTURES)
    else:
        sys.exit(__doc__)


main()
