from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from importlib.resources import files
from typing import get_args

import pytest
import yaml

import napari_ips
from napari_ips import FuseConfig, TrainConfig

HEAVY = ("torch", "numba", "napari", "skimage", "scipy", "numpy", "pydantic", "zarr")


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout


def test_import_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys, time; before = set(sys.modules); start = time.perf_counter();"
        "import napari_ips; print(time.perf_counter() - start);"
        f"print(sorted((set(sys.modules) - before) & set({HEAVY!r})))"
    )
    # The best of a few, for a busy machine slows every one of them.
    outputs = [run(code).splitlines() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in outputs) < 0.1
    assert outputs[0][1] == "[]"


@pytest.mark.parametrize("module", ["io", "config", "simulation", "samples", "cli"])
def test_light_modules_do_not_load_torch_or_napari(module):
    code = (
        f"import sys, napari_ips.{module}; print({{'torch', 'napari'}} & set(sys.modules))"
    )
    assert run(code).strip() == "set()"


@pytest.mark.parametrize("name", napari_ips.__all__)
def test_every_public_name_is_there(name):
    assert getattr(napari_ips, name) is not None
    assert name in dir(napari_ips)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fuse_everything'"):
        napari_ips.fuse_everything  # noqa: B018


def test_version_is_that_of_the_distribution():
    assert napari_ips.__version__ == distribution("napari-ips").version
    assert napari_ips.__version__[0].isdigit()


def test_console_script_is_declared():
    (script,) = distribution("napari-ips").entry_points.select(group="console_scripts")
    assert script.name == "napari-ips"
    assert callable(script.load())


def test_installed_manifest_is_valid_and_every_command_exists():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("napari-ips")
    manifest.validate_imports()
    contributions = manifest.contributions
    commands = {command.id for command in contributions.commands}
    samples = {sample.command for sample in contributions.sample_data}
    writers = {writer.command for writer in contributions.writers}
    widgets = {widget.command for widget in contributions.widgets or ()}
    assert len(samples) == 3
    assert len(writers) == 2
    assert samples | writers | widgets <= commands


@pytest.mark.parametrize(
    ("kind", "config"), [("fusing", FuseConfig), ("training", TrainConfig)]
)
def test_what_the_plugin_remembers_are_values_of_the_settings(kind, config):
    manifest = yaml.safe_load((files("napari_ips") / "napari.yaml").read_text())
    remembered = manifest["contributions"]["configurations"][kind]["properties"]
    fields = {name: config.model_fields.get(name) for name in remembered}
    choices = {n: get_args(f.annotation) for n, f in fields.items() if f}
    told = {n: remembered[n]["enum"] for n in choices if "enum" in remembered[n]}
    assert choices["precision"]
    for name in (name for name in told if choices[name]):
        assert [str(value) for value in told[name]] == [str(c) for c in choices[name]]
        assert remembered[name]["default"] == fields[name].default
