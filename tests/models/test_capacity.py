"""The cache planner: the published concurrency tables, the rules of engine versions, and what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.errors import InputError
from hybrid_ops.models.capacity import PAGE_RULES, cache_memory, page_rules, plan_cache
from hybrid_ops.models.configs import config_names, load_config
from hybrid_ops.models.families import load_model, read_model
from hybrid_ops.report.published.document import read_documents

LENGTHS = (1024, 4096, 8192, 16384, 32768)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("nemotron-h-8b", [("full attention", 4)] + [("state", 4)] * 6),
        ("falcon-h1-7b", [("full attention", 44), ("state", 44)]),
    ],
)
@pytest.mark.parametrize("engine_version", ["0.15", "0.32"])
def test_published_concurrency_tables(name, groups, engine_version):
    """TP 2, two bytes a number of state, no prefix caching: every figure, under the rules then and now."""
    published = {
        figure.facts.metric: figure
        for figure in read_documents()["hybrid_vs_non_hybrid_results"].figures()
        if figure.facts.model == name and figure.facts.workload == "kv-cache"
    }
    plan = plan_cache(
        load_model(name),
        round(published["kv_cache_memory_bytes"].numbers[0] * 10**9),
        tensor_parallel=2,
        state_dtype="bfloat16",
        engine_version=engine_version,
    )
    assert plan.num_blocks == published["kv_cache_blocks"].value
    assert len(plan.groups) == published["kv_cache_groups"].value
    assert [(group.kind, group.layers) for group in plan.groups] == groups
    table = [published[f"max_concurrency@{length}"].text for length in LENGTHS]
    assert [f"{plan.max_concurrency(length):.2f}x" for length in LENGTHS] == table


def test_pages_of_the_published_tables():
    nemotron = plan_cache(load_model("nemotron-h-8b"), 62_500_000_000, tensor_parallel=2, state_dtype="bfloat16")
    assert (nemotron.block_size, nemotron.page_bytes) == (528, 1_081_344)
    falcon = plan_cache(load_model("falcon-h1-7b"), 62_890_000_000, tensor_parallel=2, state_dtype="bfloat16")
    assert (falcon.block_size, falcon.page_bytes) == (1568, 802_816)


@pytest.mark.parametrize(
    ("engine_version", "block_size", "blocks"),
    [("0.15", 528, 14449), ("0.25.1", 528, 14449), ("0.26", 1040, 7335), ("0.32.0+cpu", 1040, 7335)],
)
def test_default_state_of_nemotron_h_by_version(engine_version, block_size, blocks):
    model = load_model("nemotron-h-8b")
    plan = plan_cache(model, 62_500_000_000, tensor_parallel=2, engine_version=engine_version)
    assert (plan.block_size, plan.num_blocks) == (block_size, blocks)


def test_groups_are_merged_by_version():
    """5 layers that keep a state beside 4 of attention: a ratio of 1.25, between the two rules."""
    config = {**load_config("nemotron-h-tiny"), "hybrid_override_pattern": "M*M*M*M*M", "num_hidden_layers": 9}
    model = read_model(config)
    old, new = (plan_cache(model, 1 << 30, engine_version=version) for version in ("0.15", "0.18"))
    assert [group.layers for group in old.groups] == [4, 3, 2]
    assert [group.layers for group in new.groups] == [4, 5]


@pytest.mark.parametrize(
    ("engine_version", "merged", "apart", "null_blocks", "states"),
    [
        ("0.13", (6, 5), (5, 4), 0, 2),
        ("0.17.1", (6, 5), (5, 4), 0, 2),
        ("0.18", (7, 5), (3, 2), 0, 2),
        ("0.25", (7, 5), (3, 2), 0, 2),
        ("0.26", (7, 5), (3, 2), 0, 2),
        ("0.31", (7, 5), (3, 2), 0, 2),
        ("0.32", (7, 5), (3, 2), 1, 3),
    ],
)
def test_what_each_release_does(engine_version, merged, apart, null_blocks, states):
    """Layers merge below a ratio and not at it; a block may be held back; a cached Mamba-2 may keep one state more.

    The pairs are numbers of layers that keep a state, and of attention.
    """

    def plan(layers, cache_bytes=1 << 30, **options):
        pattern = "M" * layers[0] + "*" * layers[1]
        config = load_config("nemotron-h-tiny") | {"hybrid_override_pattern": pattern, "num_hidden_layers": sum(layers)}
        return plan_cache(read_model(config), cache_bytes, engine_version=engine_version, **options)

    assert [group.layers for group in plan(merged).groups] == [merged[1], merged[0]]
    assert max(group.layers for group in plan(apart).groups) == min(apart) and len(plan(apart).groups) == 3
    block, needed = plan((1, 1)).bytes_per_block, plan((1, 1)).blocks_per_sequence(1)
    assert plan((1, 1), (needed + null_blocks) * block).max_concurrency(1) > 0
    with pytest.raises(InputError, match="hold no sequence of 1 tokens"):
        plan((1, 1), (needed + null_blocks) * block - 1).max_concurrency(1)
    assert plan((1, 1), prefix_caching=True).blocks_per_sequence(1) == 1 + states


@given(
    name=st.sampled_from(config_names()),
    cache_bytes=st.integers(1 << 35, 1 << 38),  # room for the longest sequence of the largest model
    length=st.integers(1, 40_000),
    prefix_caching=st.booleans(),
    platform=st.sampled_from(["cpu", "cuda"]),
    version=st.sampled_from([".".join(map(str, rules.version)) for rules in PAGE_RULES]),
)
def test_what_holds_of_every_plan(name, cache_bytes, length, prefix_caching, platform, version):
    model = load_model(name)
    plan = plan_cache(model, cache_bytes, prefix_caching=prefix_caching, platform=platform, engine_version=version)
    assert sum(group.layers for group in plan.groups) == len(model.attention) + len(model.recurrent)
    assert plan.num_blocks * plan.bytes_per_block <= cache_bytes < (plan.num_blocks + 1) * plan.bytes_per_block
    assert plan.max_concurrency(length) >= plan.max_concurrency(length + 1)
    # What a sequence is given holds what it keeps: all tokens of full attention, and the states.
    kept = length * model.kv_bytes_per_token() + model.state_bytes(plan.state_dtype)
    assert plan.bytes_per_sequence(length) >= kept
    assert plan.as_dict([length])["max_concurrency"] == {str(length): plan.max_concurrency(length)}


def test_prefix_caching_takes_more_states():
    def blocks(name, **options):
        return plan_cache(load_model(name), 1 << 32, **options).blocks_per_sequence(1)

    # One group of attention; three of a gated delta net, four of Mamba-2.
    assert blocks("qwen3-next-tiny") == 1 + 3
    assert blocks("qwen3-next-tiny", prefix_caching=True) == 1 + 3 * 2
    assert blocks("nemotron-h-tiny") == 1 + 4
    assert blocks("nemotron-h-tiny", prefix_caching=True) == 1 + 4 * 3
    assert blocks("nemotron-h-tiny", prefix_caching=True, engine_version="0.26") == 1 + 4 * 2
    assert blocks("nemotron-h-tiny", prefix_caching=True, prefill_checkpoint=False) == 1 + 4 * 2


def test_windows_keep_room_for_tokens_in_flight():
    model = load_model("mistral-tiny")  # windows of 256 tokens, blocks of 16
    plan = plan_cache(model, 1 << 30, in_flight_tokens=64)
    assert plan.blocks_per_sequence(100_000) == -(-(256 - 1 + 64) // 16) + 1
    assert plan.blocks_per_sequence(100) == -(-100 // 16) + 1
    # As many tokens are in flight as vLLM schedules at once unless told otherwise.
    assert plan_cache(model, 1 << 30).blocks_per_sequence(100_000) == -(-(256 - 1 + 8192) // 16) + 1
    assert plan_cache(model, 1 << 30).in_flight_tokens == 8192


def test_a_plan_as_json_says_what_each_group_keeps():
    plan = plan_cache(load_model("nemotron-h-tiny"), 1 << 30, prefix_caching=True, platform="cpu")
    groups = plan.as_dict([1, 2])["groups"]
    assert [(group["kind"], group["states"]) for group in groups] == [("full attention", 0)] + [("state", 3)] * 4
    assert all(group["window"] is None for group in groups)
    assert [group["block_size"] for group in groups] == [plan.block_size] + [None] * 4
    windowed = plan_cache(load_model("mistral-tiny"), 1 << 30).as_dict([])["groups"]
    assert {(group["kind"], group["window"], group["states"]) for group in windowed} >= {("sliding window", 256, 0)}


def test_cache_memory_of_a_gpu():
    model = load_model("llama-3.2-1b")
    assert cache_memory(model, 16_000_000_000) == 14_400_000_000 - 2 * model.parameters
    assert cache_memory(model, 16_000_000_000, 0.5, tensor_parallel=2) == 8_000_000_000 - model.parameters
    with pytest.raises(InputError, match=r"llama-3\.2-1b\.json: gpu memory: 1000000000 bytes .* hold no cache beside"):
        cache_memory(model, 1_000_000_000)
    with pytest.raises(InputError, match="hold no cache beside"):
        cache_memory(model, 2 * model.parameters, 1.0)  # the weights fill it
    assert cache_memory(model, 2 * model.parameters + 1, 1.0) == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nemotron-h-8b", {"tensor_parallel": 5}, "num_attention_heads: 32 cannot be divided over 5 devices"),
        ("falcon-h1-7b", {"tensor_parallel": 12}, None),  # 2 key/value heads, each repeated on 6 devices
        ("llama-3.2-3b", {"tensor_parallel": 3}, "num_key_value_heads: 8 cannot be divided over 3 devices"),
        ("falcon-mamba-7b", {"tensor_parallel": 3}, "intermediate_size: 8192 cannot be divided over 3 devices"),
        ("nemotron-h-8b", {"tensor_parallel": 16}, "n_groups: 8 groups cannot be divided over 16 devices"),
        ("qwen3-next-tiny", {"tensor_parallel": 4}, "linear_num_key_heads: 2 cannot be divided over 4 devices"),
        ("llama-tiny", {"tensor_parallel": 0}, "tensor parallel: 0 is not a number of devices"),
        ("llama-tiny", {"platform": "abacus"}, "platform 'abacus': unknown; known: cuda, cpu"),
        ("llama-tiny", {"state_dtype": "int3"}, "state dtype 'int3': unknown; known: auto, float32"),
        ("llama-tiny", {"engine_version": "0.5"}, "page rules before vLLM 0.13 are not known"),
        ("llama-tiny", {"engine_version": "new"}, "engine version 'new': expected a vLLM release such as 0.32"),
    ],
)
def test_refusals(name, options, message):
    if message is None:
        assert plan_cache(load_model(name), 1 << 36, **options).num_blocks
        return
    with pytest.raises(InputError) as error:
        plan_cache(load_model(name), 1 << 36, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_memory_too_small():
    model = load_model("nemotron-h-8b")
    with pytest.raises(InputError, match=r"nemotron-h-8b\.json: cache memory: 1000 bytes hold no block, which takes"):
        plan_cache(model, 1000)
    plan = plan_cache(model, 10 * plan_cache(model, 1 << 36).bytes_per_block)
    assert plan.num_blocks == 10
    with pytest.raises(InputError, match=r"cache memory: \d+ bytes hold no sequence of 32768 tokens") as error:
        plan.max_concurrency(32768)
    needed = int(str(error.value).split("which needs ")[1])  # what it says is enough, and a byte less is not
    assert plan_cache(model, needed).max_concurrency(32768) >= 1
    with pytest.raises(InputError, match="hold no sequence"):
        plan_cache(model, needed - 1).max_concurrency(32768)
    with pytest.raises(InputError, match="0 is not a length"):
        plan.max_concurrency(0)


def test_versions_are_in_order():
    assert list(PAGE_RULES) == sorted(PAGE_RULES, key=lambda rules: rules.version)
    assert page_rules("1.0") is PAGE_RULES[-1]
