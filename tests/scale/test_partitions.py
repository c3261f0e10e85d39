"""Which files are forecast together, and when a finished partition may be kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from universes import QUICK, SPEC, make_folder, make_store

from kronos.bars import BarStore, resample_bars, sample_bars
from kronos.errors import ConfigError, DataError
from kronos.scale.plan import Partition, UniverseSettings, divide, list_sources
from kronos.spec import ForecastSpec


def keys(partitions: list[Partition]) -> list[str]:
    return [partition.key for partition in partitions]


def test_a_folder_is_listed_by_path_and_a_store_by_symbol(tmp_path: Path) -> None:
    folder, store = make_folder(tmp_path / "folder", 5), make_store(tmp_path / "store", 5)
    names = [source.name for source in list_sources(folder)]
    assert names == sorted(names)
    assert len(names) == 5
    assert [source.name for source in list_sources(store)] == BarStore(store).symbols()
    assert {source.frequency for source in list_sources(store)} == {"1d"}


def test_a_store_of_several_bar_sizes_asks_for_one(tmp_path: Path) -> None:
    bars = sample_bars("sp500").tail(300)
    store = BarStore(tmp_path)
    store.write(bars, symbol="SPX")
    store.write(resample_bars(bars, "1w"), symbol="SPX", frequency="1w")
    with pytest.raises(DataError, match=r"several bar sizes \(1d, 1w\)"):
        list_sources(tmp_path)
    assert [source.path for source in list_sources(tmp_path, "1w")] == ["frequency=1w/SPX.parquet"]
    with pytest.raises(DataError, match="has no bars of 5m"):
        list_sources(tmp_path, "5m")


def test_nothing_to_forecast_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        list_sources(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no files of bars"):
        list_sources(tmp_path)


def test_a_key_follows_from_settings_weights_version_device_and_bars(tmp_path: Path) -> None:
    sources = list_sources(make_folder(tmp_path, 4))
    plain = keys(divide(sources, QUICK, "1", "weights", "cpu", 2))
    assert plain == keys(divide(sources, QUICK, "1", "weights", "cpu", 2))
    assert len(set(plain)) == 2
    others = [
        divide(sources, dataclasses.replace(QUICK, spec=SPEC.replace(seed=1)), "1", "weights", "cpu", 2),
        divide(sources, dataclasses.replace(QUICK, quantile_levels=(0.5,)), "1", "weights", "cpu", 2),
        divide(sources, QUICK, "1", "other", "cpu", 2),
        divide(sources, QUICK, "2", "weights", "cpu", 2),
        divide(sources, QUICK, "1", "weights", "cuda", 2),
    ]
    for other in others:
        assert not set(keys(other)) & set(plain)
    touched = [dataclasses.replace(sources[0], modified=1), *sources[1:]]
    changed = keys(divide(touched, QUICK, "1", "weights", "cpu", 2))
    assert changed[0] != plain[0]
    assert changed[1] == plain[1]


def test_partitions_hold_few_series_of_many_paths(tmp_path: Path) -> None:
    sources = list_sources(make_folder(tmp_path, 20))
    assert [len(p.sources) for p in divide(sources, UniverseSettings(), "1", "w", "cpu")] == [16, 4]
    many = UniverseSettings(ForecastSpec(horizon=1000, num_samples=1000))
    assert [len(p.sources) for p in divide(sources, many, "1", "w", "cpu")] == [5, 5, 5, 5]
    huge = UniverseSettings(ForecastSpec(horizon=100_000, num_samples=1000))
    assert len(divide(sources, huge, "1", "w", "cpu")) == 20
    with pytest.raises(ConfigError, match="at least one"):
        divide(sources, QUICK, "1", "w", "cpu", 0)
