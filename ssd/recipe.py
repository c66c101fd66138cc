"""Recipes: the stages of a training and what goes with them, as one TOML file of plain data."""

import tomllib
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path

from ssd.stages import Stage

# What a recipe may set beside its stages.
KEYS = {
    "batch_size": int,
    "max_expand": float,
    "front": str,
    "freeze": str,
    "clip": str,
    "backbone": str,
    "backbone_weights": str,
}


def recipe_names(package: str = "ssd") -> list[str]:
    """The recipes that come with the program."""
    return sorted(
        path.name.removesuffix(".toml") for path in _folder(package).iterdir() if path.name.endswith(".toml")
    )


def read_recipe(
    name_or_path: str, keys: dict[str, type] = KEYS, kind: type[Stage] = Stage, package: str = "ssd"
) -> tuple[dict, tuple[Stage, ...]]:
    """What a recipe sets: the inverse of `recipe_to_toml`.

    Args:
        name_or_path: a TOML file, or the name of a shipped recipe.
        keys: what it may set beside its stages, and the types.
        kind: of its stages.
        package: that ships recipes.
    Returns:
        values of `keys` that it sets, and its stages.
    Raises:
        ValueError: no such recipe, no TOML, or a key or value that there is none of.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = _folder(package) / f"{name_or_path}.toml"
        if not path.is_file():
            known = ", ".join(recipe_names(package))
            raise ValueError(f"a recipe must be a TOML file or one of {known}. Received: {name_or_path!r}")
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"a recipe must be TOML. Received: {name_or_path} ({error})") from None
    rows = values.pop("stages", [])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"a recipe must have [[stages]]. Received: {name_or_path}")
    _check_keys(values, keys, name_or_path)
    values = {key: keys[key](value) for key, value in values.items()}
    return values, tuple(_stage(row, number, name_or_path, kind) for number, row in enumerate(rows, start=1))


def recipe_to_toml(settings: object, keys: dict[str, type] = KEYS) -> str:
    """The recipe of a run: the inverse of `read_recipe`."""
    import tomli_w

    values = {key: getattr(settings, key) for key in keys if getattr(settings, key) is not None}
    stages = [asdict(stage) | {"drops": list(stage.drops)} for stage in settings.stages]
    return tomli_w.dumps(values | {"stages": stages})


def _stage(row: dict, number: int, name: str, kind: type[Stage]) -> Stage:
    types = {f.name: f.type for f in fields(kind)}
    _check_keys(row, types, f"{name}, stage {number}")
    if missing := {"layers", "epochs"} - set(row):
        raise ValueError(
            f"a stage must have {' and '.join(sorted(missing))}. Received: {name}, stage {number}"
        )
    # TOML tells 1 from 1.0; a rate of 1 is meant as 1.0.
    row = {k: float(v) if types[k] is float and isinstance(v, int) else v for k, v in row.items()}
    try:
        return kind(**row)
    except (ValueError, TypeError) as error:
        raise ValueError(f"a recipe must be right. Received: {name}, stage {number}: {error}") from None


def _check_keys(values: dict, types: dict, where: str) -> None:
    for key, value in values.items():
        if key not in types:
            raise ValueError(f"a recipe may set {', '.join(types)}. Received: {key!r} in {where}")
        kind = types[key]
        good = (int, float) if kind is float else (list,) if kind not in (int, str) else (kind,)
        if not isinstance(value, good) or isinstance(value, bool):
            raise ValueError(
                f"{key} of a recipe must be a {good[-1].__name__}. Received: {value!r} in {where}"
            )


def _folder(package: str):
    return files(package) / "recipes"
