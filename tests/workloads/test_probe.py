"""Prompts of the prefix probe."""

from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.workloads.probe import PrefixProbe


@given(shared=st.integers(1, 300), own=st.integers(1, 40), vocabulary=st.integers(12, 50), seed=st.integers(0, 99))
def test_two_prompts_share_so_many_tokens_and_no_more(shared, own, vocabulary, seed):
    probe = PrefixProbe(kind="prefix", description="", shared_tokens=[shared], own_tokens=own, seed=seed)
    first, second = probe.prompts(shared, vocabulary, first_token=10)
    assert len(first) == len(second) == shared + own
    assert first[:shared] == second[:shared]
    assert first[shared] != second[shared]
    assert set(first + second) <= set(range(10, vocabulary))
    assert probe.prompts(shared, vocabulary, first_token=10) == (first, second)
