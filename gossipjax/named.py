"""Objects that a settings file or a command line names: built in, in a file or in a module."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


def load_named(
    kind: type[T], name: str, built_in: Mapping[str, Callable[..., T]], options: Mapping[str, Any]
) -> T:
    """The object of this kind that has this name.

    Args:
        kind: what it has to be, for instance `Workload`.
        name: one of `built_in`, or `FILE.py:NAME` or `MODULE:NAME` of such an object or of a
            function that returns one.
        built_in: functions that return one.
        options: arguments of the function.

    Raises:
        ValueError: no such object, or options that it does not take; the text says which.
    """
    if name in built_in:
        return _call(kind, name, built_in[name], options)
    place, separator, attribute = name.rpartition(":")
    if not separator or not attribute.isidentifier():
        raise ValueError(
            f"there is no {kind.__name__} {name!r}: expected one of {', '.join(built_in)}, or "
            f"FILE.py:NAME or MODULE:NAME of a {kind.__name__} or of a function that returns one"
        )
    module = _import_place(place)
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"{place} has no {attribute!r}") from None
    if isinstance(found, kind):
        if options:
            raise ValueError(f"{name} is no function, so it takes no options: {', '.join(options)}")
        return found
    return _call(kind, name, found, options)


def _call(kind: type[T], name: str, function: Any, options: Mapping[str, Any]) -> T:
    expected = f"expected a {kind.__name__}"
    if not callable(function):
        raise ValueError(f"{name} is {type(function).__name__}; {expected} or a function")
    parameters = inspect.signature(function).parameters
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise ValueError(
            f"{name}: {error}. Its options: {', '.join(parameters) or 'none'}"
        ) from None
    made = function(**options)
    if not isinstance(made, kind):
        raise ValueError(f"{name} returned {type(made).__name__}; {expected}")
    return made


def _import_place(place: str) -> ModuleType:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not place.startswith(error.name):
                raise  # something that the module itself imports
            raise ValueError(
                f"there is no module {place!r}; a file is named with its .py"
            ) from None
    path = Path(place)
    if not path.is_file():
        raise ValueError(f"there is no file {place!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickling look a class's module up here
    spec.loader.exec_module(module)
    return module
