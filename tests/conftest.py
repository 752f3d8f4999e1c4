"""What all tests start from: surroundings of their own, small tokenizers, a tiny random model.

`tests.surroundings` has to come before torch and huggingface_hub, which look at their environment
variables while they are imported.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import tests.surroundings as surroundings  # isort: skip

import pytest
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TokenizerFactory = Callable[..., PreTrainedTokenizerFast]

if find_spec("hypothesis"):  # Not in the environment of the vLLM engine's tests.
    from hypothesis import HealthCheck, settings

    # How long an example takes says how busy the machine is. On a CI server a failure must come of
    # the change that is tested: the examples are the same each time; elsewhere they are new ones.
    settings.register_profile(
        "tspin",
        deadline=None,
        derandomize=surroundings.ON_CI,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("tspin")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Remember the state of the process before the test and the fixtures that are made for it."""
    item.stash[FOUND] = surroundings.state()
    yield
    item.stash[SET_UP] = surroundings.state()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves the state of the process otherwise than it was, and put it back."""
    yield
    if item.get_closest_marker("vllm"):
        return  # vLLM sets a dozen variables of the process that imports it, for its workers.
    found = item.stash[FOUND]
    # What a fixture of several tests sets stays until the last of them.
    changed = surroundings.restored(found, item.stash.get(SET_UP, found), AT_FIRST)
    if changed:
        pytest.fail(f"the test, its fixtures or the code left changed: {', '.join(changed)}")


@pytest.fixture(autouse=True, scope="session")
def _kfp_looks_at_names_alone() -> Iterator[None]:
    """Let kfp find its caller's name without reading the source of all callers.

    It asks `inspect.stack()` for it in every setting of every task, which under pytest, with its
    deep stacks and thousands of modules, takes ten seconds a pipeline.
    """
    if "kfp.dsl.pipeline_task" not in sys.modules:
        yield
        return
    cheap = SimpleNamespace(stack=lambda: inspect.stack(context=0)[1:])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kfp.dsl.pipeline_task.inspect", cheap)
        yield


FOUND, SET_UP = pytest.StashKey[dict[str, object]](), pytest.StashKey[dict[str, object]]()
AT_FIRST = surroundings.state()

# Learned from: merges over spaces, digits and letters, so that borders could merge.
TEXTS = [
    "### Instruction: How many apples are 12 and 34?\n\n### Response: 12 and 34 are 46.",
    "### Instruction: Name a city.\n\n### Response: A city is Paris. So is Athens.",
    "The answer is 46. So the answer is A. Answer: A B C, 46 46 1212 3434",
]


def make_tokenizer(
    style: str = "byte_level",
    *,
    bos: bool = True,
    chat_template: str | None = None,
    special: tuple[str, ...] = (),
) -> PreTrainedTokenizerFast:
    """A small trained tokenizer with <unk>, <s>, </s>, <pad> and further special tokens.

    Args:
        style: "byte_level" (GPT-2, Llama 3, Qwen), "byte_level_prefix" (with add_prefix_space),
            "metaspace" (SentencePiece-like, space in front of the first word), or "legacy" (the
            same by normalizer, in front of every piece, as Llama 2 was converted).
        bos: Put <s> before every text.
        chat_template: Jinja source.
        special: More special tokens.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=not style.startswith("byte"), unk_token="<unk>"))
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    if style.startswith("byte_level"):
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        prefix = style == "byte_level_prefix"
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        tokenizer.decoder = decoders.ByteLevel()
    elif style == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
        spaces = decoders.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse()])
    elif style == "legacy":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    names = ["<unk>", "<s>", "</s>", "<pad>", *special]
    bytes_are_tokens = style.startswith("byte_level")
    trainer = trainers.BpeTrainer(
        vocab_size=len(names) + 256 + 120,
        special_tokens=names if bytes_are_tokens else [*names, *alphabet],
        initial_alphabet=alphabet if bytes_are_tokens else [],
        max_token_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if not bytes_are_tokens:
        tokenizer = _plain_bytes(tokenizer, alphabet)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>" if bos else None,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
    )
    made.chat_template = chat_template
    return made


def _plain_bytes(tokenizer: Tokenizer, alphabet: list[str]) -> Tokenizer:
    # The trainer only adds tokens such as <0x0A> as special ones; they are ordinary.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [
        token for token in content["added_tokens"] if token["content"] not in set(alphabet)
    ]
    return Tokenizer.from_str(json.dumps(content))


def save_tiny_model(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Path:
    """A random Llama of two layers, whose predictions depend clearly on what stands before."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as processes that tests start compute with: more could round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer_factory() -> TokenizerFactory:
    """`make_tokenizer`: small tokenizers of several kinds."""
    return make_tokenizer


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level with a BOS and no chat template."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_dir(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """A folder with a tiny random Llama and its tokenizer; do not write into it."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny-model"), tiny_tokenizer)
