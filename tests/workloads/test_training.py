"""Training workloads and the data that they stand for."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from hybrid_ops.engines.training_bench.data import IGNORED, counted_targets, share, step_parts
from hybrid_ops.engines.training_bench.plan import Plan
from hybrid_ops.workloads.training import TrainingWorkload


def workload(**changes) -> TrainingWorkload:
    return TrainingWorkload.model_validate({"description": "", "batch": 4, "tokens": 12, **changes})


def test_a_platform_has_its_own_sizes_and_a_portable_definition_leaves_them_out() -> None:
    own = workload(sizes={"cpu": {"batch": 2, "precision": "float32"}})
    assert own.plan("cpu") == {**own.plan("cuda"), "batch": 2, "precision": "float32"}
    assert own.definition(portable=True) == workload().definition(portable=True)
    assert own.definition(portable=False) != workload().definition(portable=False)
    assert workload(dataset={"examples": 9}).definition(False) == workload().definition(False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulation": 3}, "batch: 4 sequences cannot be divided into 3 parts"),
        ({"sizes": {"cpu": {"batch": 3}}, "accumulation": 2}, "sizes.cpu: batch: 3 sequences cannot be divided into 2"),
        ({"documents": 7}, "tokens: 12 do not make 7 documents of 2 at least"),
    ],
)
def test_what_cannot_be_divided_is_refused_by_name(changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        workload(**changes)


def test_packed_documents_fill_each_sequence_and_end_without_a_target() -> None:
    plan = Plan(**workload(documents=5).plan("cpu"))
    [part] = step_parts(plan, 100, step=0)
    assert part.tokens.shape == (1, 48) and sum(part.lengths) == 48 and len(part.lengths) == 20
    assert min(part.lengths) >= 2 and len(set(part.lengths)) > 1
    rows = [part.lengths[row : row + 5] for row in range(0, 20, 5)]
    assert [sum(row) for row in rows] == [12] * 4
    ends = part.boundaries[1:] - 1
    assert (part.targets[0, ends] == IGNORED).all()
    assert counted_targets([part]) == 48 - 20
    documents = part.documents()
    assert len(documents) == 20
    for tokens, targets in documents:
        assert torch.equal(targets[0, :-1], tokens[0, 1:])
    positions = part.inputs()["position_ids"][0]
    assert (positions == 0).sum() == 20 and positions.max() == max(part.lengths) - 1


def test_processes_share_each_part_and_nothing_is_seen_twice() -> None:
    plan = Plan(**workload(accumulation=2, documents=2, batch=8).plan("cpu"))
    whole = step_parts(plan, 10_000, step=1)
    shares = [share(whole, plan, rank, 2) for rank in range(2)]
    assert sum(map(counted_targets, shares)) == counted_targets(whole)
    for number, part in enumerate(whole):
        seen = torch.cat([own[number].tokens.flatten() for own in shares])
        assert torch.equal(seen.sort().values, part.tokens.flatten().sort().values)
        for own in shares:
            assert sum(own[number].lengths) == own[number].tokens.numel()
    assert torch.equal(step_parts(plan, 10_000, step=1)[0].tokens, whole[0].tokens)
    assert not torch.equal(step_parts(plan, 10_000, step=2)[0].tokens, whole[0].tokens)
